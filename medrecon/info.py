"""What is in a file, and whether measurements fit a protocol; never whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian, CTGeometry
from medrecon.geometry.field import field_of_view
from medrecon.geometry_facts import geometry_facts
from medrecon.grid import Grid
from medrecon.io.read import read_image, read_study
from medrecon.protocol import Protocol
from medrecon.scanner import grid_of, kind_of
from medrecon.study import Study
from medrecon.volume import Volume


def look(path: Path, series_number: int | None = None) -> Study | Volume:
    """Read a file of either sort.

    Parameters
    ----------
    path
        Measurements, an image, or a folder with a DICOM series.
    series_number
        Which series, where the folder holds several.

    Raises
    ------
    UnreadableError
        If the file is neither; the message is that of the reader which knew it best.
    """
    if not path.exists():
        raise UnreadableError(f"{path} does not exist.")
    try:
        return read_study(path)
    except UnreadableError as not_a_study:
        try:
            return read_image(path, series_number=series_number)[0]
        except UnreadableError as not_an_image:
            raise (not_an_image if path.is_dir() else not_a_study) from None


def describe(found: Study | Volume) -> dict[str, Any]:
    """Describe measurements or an image, as plain values for JSON."""
    return describe_study(found) if isinstance(found, Study) else describe_volume(found)


def describe_study(study: Study) -> dict[str, Any]:
    """Describe an acquisition: shapes, geometry in mm and degrees, grid, noise."""
    facts: dict[str, Any] = {
        "type": f"{study.modality} measurements",
        "shape": list(study.measurements.shape),
        "geometry": geometry_facts(study.geometry),
    }
    if study.grid is not None:
        facts["grid"] = _describe_grid(study.grid)
    if study.mu_water is not None:
        facts["mu_water_per_mm"] = round(study.mu_water, 6)
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


def check_study(study: Study, protocol: Protocol) -> None:
    """Check that measurements can be reconstructed as the protocol says.

    Raises
    ------
    InconsistentError
        If modality or kind differ, the source would stand inside the volume, or no ray meets it.
    """
    name = study.source.name if study.source else "the study"
    if study.modality != protocol.modality:
        raise InconsistentError(
            f"protocol {protocol.name} is for {protocol.modality}, {name} holds {study.modality}."
        )
    kind = kind_of(study.geometry)
    if kind != protocol.acquisition.kind:
        raise InconsistentError(
            f"protocol {protocol.name} is for {protocol.acquisition.kind} data, {name} holds "
            f"{kind} data."
        )
    grid = grid_of(protocol)
    if grid is not None and not isinstance(study.geometry, Cartesian):
        _source_outside_grid(study.geometry, grid, protocol.name)
        _grid_is_seen(study.geometry, grid, protocol.name)


def _source_outside_grid(geometry: CTGeometry, grid: Grid, protocol: str) -> None:
    source = geometry.frames().source
    if source is None:
        return
    nearest = float(np.hypot(source[:, 0], source[:, 1]).min())
    reach = float(_corners(grid)[1].max())
    if reach >= nearest:
        raise InconsistentError(
            f"the grid of protocol {protocol} reaches {reach:.0f} mm from the axis, beyond "
            f"the source at {nearest:.0f} mm."
        )


def _grid_is_seen(geometry: CTGeometry, grid: Grid, protocol: str) -> None:
    field = field_of_view(geometry)
    heights, _ = _corners(grid)
    low, high = float(heights.min()), float(heights.max())
    x, y, _ = grid.center
    _, dy, dx = grid.spacing
    _, ny, nx = grid.shape
    nearest = float(np.hypot(max(abs(x) - nx * dx / 2, 0), max(abs(y) - ny * dy / 2, 0)))
    if nearest >= field.radius:
        raise InconsistentError(
            f"the grid of protocol {protocol} begins {nearest:.0f} mm from the axis, outside the "
            f"field of view of {field.radius:.0f} mm."
        )
    if field.high > field.low and (low >= field.high or high <= field.low):
        raise InconsistentError(
            f"the grid of protocol {protocol} lies at z {low:.0f} to {high:.0f} mm, outside the "
            f"field of view from {field.low:.0f} to {field.high:.0f} mm."
        )


def _corners(grid: Grid) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return z and distance from the axis of the volume's eight corners, mm."""
    ends = [(-0.5, n - 0.5) for n in grid.shape]
    index = np.stack([*np.meshgrid(*ends, indexing="ij"), np.ones((2, 2, 2))], -1).reshape(8, 4)
    x, y, z, _ = grid.affine @ index.T
    return z, np.hypot(x, y)
