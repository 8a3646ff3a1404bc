"""From a protocol's acquisition to the scanner's geometry, and the kind of any geometry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from medrecon.errors import InconsistentError
from medrecon.geometry import (
    Cartesian,
    ConeBeam,
    ConeVectors,
    CTGeometry,
    FanBeam,
    MRGeometry,
    NonCartesian,
    ParallelBeam,
    ParallelBeam3D,
)
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.io.matrices import read_matrices
from medrecon.protocol import (
    ConeScan,
    CTScan,
    FanScan,
    HelicalScan,
    ParallelRowsScan,
    ParallelScan,
    Protocol,
    VectorsScan,
)
from medrecon.protocol.scans import Arc, Columns, Divergent, FocalSpot, Rows
from medrecon.study import Study

_WATER_FACTOR = 2.0
"""Water values further apart than this belong to no two tubes, but to two units."""


def scanner(scan: CTScan) -> CTGeometry:
    """Geometry of a protocol's CT scanner.

    Raises
    ------
    UnreadableError
        If the file of projection matrices cannot be read.
    InconsistentError
        If such a scanner cannot be built.
    """
    match scan:
        case ParallelScan():
            return ParallelBeam(**_angles(scan), **_columns(scan))
        case ParallelRowsScan():
            return ParallelBeam3D(**_angles(scan), **_columns(scan), **_rows(scan))
        case FanScan():
            return FanBeam(**_angles(scan), **_columns(scan), **_beam(scan))
        case ConeScan():
            return _flying(
                ConeBeam(**_angles(scan), **_columns(scan), **_rows(scan), **_beam(scan)), scan
            )
        case HelicalScan():
            return _flying(_helix(scan), scan)
        case VectorsScan():
            return ConeVectors.from_matrices(
                read_matrices(Path(scan.matrices_file)),
                rows=scan.rows,
                columns=scan.columns,
                source_to_detector=scan.source_to_detector_mm,
            )


def grid_of(protocol: Protocol) -> Grid | None:
    """Return the volume that a protocol asks for, in the scanner's frame; MR scans say it."""
    if protocol.grid is None:
        return None
    settings = protocol.grid
    return Grid.centred(settings.shape, settings.spacing_mm, settings.center_mm)


def water_of(study: Study, protocol: Protocol) -> float:
    """Return water's attenuation in 1/mm: what the scanner states, else what the protocol says.

    Raises
    ------
    InconsistentError
        If both say it and they differ by so much that one is in another unit.
    """
    stated, expected = study.mu_water, protocol.mu_water_per_mm
    if stated is None:
        return expected
    if not expected / _WATER_FACTOR < stated < expected * _WATER_FACTOR:
        raise InconsistentError(
            f"The scan states {stated:g} per mm for water, protocol {protocol.name} "
            f"{expected:g}; one of them is in another unit (1 per cm = 0.1 per mm)."
        )
    return stated


def kind_of(geometry: CTGeometry | MRGeometry) -> str:
    """Kind of acquisition, as protocols name it."""
    match geometry:
        case Cartesian():
            return "cartesian"
        case NonCartesian():
            return "non_cartesian"
        case ParallelBeam():
            return "parallel"
        case ParallelBeam3D():
            return "parallel3d"
        case FanBeam():
            return "fan"
        case ConeBeam():
            return "helical" if len(set(geometry.heights)) > 1 else "cone"
        case _:
            return "vectors"


def _angles(scan: Arc) -> dict[str, Any]:
    arc, start = math.radians(scan.arc_deg), math.radians(scan.start_deg)
    return {"angles": equiangular(scan.views, arc=arc, start=start)}


def _columns(scan: Columns) -> dict[str, Any]:
    return {
        "columns": scan.columns,
        "column_spacing": scan.column_spacing_mm,
        "column_offset": scan.column_offset_mm,
    }


def _rows(scan: Rows) -> dict[str, Any]:
    return {
        "rows": scan.rows,
        "row_spacing": scan.row_spacing_mm,
        "row_offset": scan.row_offset_mm,
    }


def _beam(scan: Divergent) -> dict[str, Any]:
    return {
        "source_to_axis": scan.source_to_axis_mm,
        "source_to_detector": scan.source_to_detector_mm,
        "detector_radius": scan.detector_radius_mm or math.inf,
    }


def _helix(scan: HelicalScan) -> ConeBeam:
    return ConeBeam.helical(
        pitch=scan.pitch_mm,
        turns=scan.turns,
        views_per_turn=scan.views_per_turn,
        start_angle=math.radians(scan.start_deg),
        **_columns(scan),
        **_rows(scan),
        **_beam(scan),
    )


def _flying(cone: ConeBeam, scan: FocalSpot) -> ConeBeam:
    return cone.flying(scan.focal_spot_mm) if scan.focal_spot_mm else cone
