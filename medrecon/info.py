"""What is in a file, and whether measurements fit a protocol; never whose they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian, ConeBeam, CTGeometry, FanBeam, ParallelBeam
from medrecon.grid import Grid
from medrecon.io.read import read_image, read_study
from medrecon.protocol import Protocol
from medrecon.study import Study
from medrecon.volume import Volume

_KINDS = {ParallelBeam: "parallel", FanBeam: "fan", ConeBeam: "cone", Cartesian: "cartesian"}


def describe(path: Path) -> dict[str, Any]:
    """Describe measurements or an image, as plain values for JSON.

    Raises
    ------
    UnreadableError
        If the file is neither; the message is that of the reader which knew it best.
    """
    if not path.exists():
        raise UnreadableError(f"{path} does not exist.")
    try:
        return describe_study(read_study(path))
    except UnreadableError as not_a_study:
        try:
            return describe_volume(read_image(path)[0])
        except UnreadableError as not_an_image:
            raise (not_an_image if path.is_dir() else not_a_study) from None


def describe_study(study: Study) -> dict[str, Any]:
    """Describe an acquisition: shapes, geometry in mm and degrees, grid, noise."""
    facts: dict[str, Any] = {
        "type": f"{study.modality} measurements",
        "shape": list(study.measurements.shape),
        "geometry": _describe_geometry(study.geometry),
    }
    if study.grid is not None:
        facts["grid"] = _describe_grid(study.grid)
    facts["noise_std"] = study.noise_std
    facts["weighted"] = study.weights is not None
    facts["simulated"] = study.identity.simulated
    facts["has_reference"] = study.reference is not None
    return facts


def describe_volume(volume: Volume) -> dict[str, Any]:
    """Describe an image: grid, unit and range."""
    return {
        "type": "image",
        "shape": list(volume.data.shape),
        "grid": _describe_grid(volume.grid),
        "unit": volume.unit.value,
        "minimum": float(volume.data.min()),
        "maximum": float(volume.data.max()),
    }


def _describe_grid(grid: Grid) -> dict[str, Any]:
    return {
        "shape_zyx": list(grid.shape),
        "spacing_mm_zyx": [round(d, 6) for d in grid.spacing],
        "center_mm_lps": [round(c, 4) for c in grid.center],
        "axial": grid.is_axial,
    }


def _describe_geometry(geometry: CTGeometry | Cartesian) -> dict[str, Any]:
    if isinstance(geometry, Cartesian):
        return {
            "kind": "cartesian",
            "encoding": "3D" if geometry.is_3d else "2D",
            "matrix": list(geometry.mask.shape),
            "acceleration": round(geometry.acceleration, 3),
        }
    facts: dict[str, Any] = {"kind": _KINDS[type(geometry)], "views": len(geometry.angles)}
    first, last = math.degrees(geometry.angles[0]), math.degrees(geometry.angles[-1])
    facts |= {"first_angle_deg": round(first, 4), "last_angle_deg": round(last, 4)}
    for name in ("source_to_axis", "source_to_detector", "rows", "row_spacing", "row_offset"):
        if hasattr(geometry, name):
            facts[name if name == "rows" else f"{name}_mm"] = round(getattr(geometry, name), 6)
    facts |= {
        "columns": geometry.columns,
        "column_spacing_mm": round(geometry.column_spacing, 6),
        "column_offset_mm": round(geometry.column_offset, 6),
    }
    return facts


def check_study(study: Study, protocol: Protocol) -> None:
    """Check that measurements can be reconstructed as the protocol says.

    Raises
    ------
    InconsistentError
        If modality or kind differ, or the source would stand inside the volume.
    """
    name = study.source.name if study.source else "the study"
    if study.modality != protocol.modality:
        raise InconsistentError(
            f"protocol {protocol.name} is for {protocol.modality}, {name} holds {study.modality}."
        )
    kind = _KINDS[type(study.geometry)]
    if kind != protocol.acquisition.kind:
        raise InconsistentError(
            f"protocol {protocol.name} is for {protocol.acquisition.kind} data, {name} holds "
            f"{kind} data."
        )
    if isinstance(study.geometry, FanBeam | ConeBeam):
        _source_outside_grid(study.geometry.source_to_axis, protocol)


def _source_outside_grid(source_to_axis: float, protocol: Protocol) -> None:
    if protocol.grid is None:
        return
    _, ny, nx = protocol.grid.shape
    _, dy, dx = protocol.grid.spacing_mm
    cx, cy, _ = protocol.grid.center_mm
    reach = math.hypot(abs(cx) + nx * dx / 2, abs(cy) + ny * dy / 2)
    if reach >= source_to_axis:
        raise InconsistentError(
            f"the grid of protocol {protocol.name} reaches {reach:.0f} mm from the axis, beyond "
            f"the source at {source_to_axis:.0f} mm."
        )
