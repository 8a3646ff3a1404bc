"""One scan of every kind: small ones for matrices, full ones for accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from medrecon.geometry import (
    ConeBeam,
    ConeVectors,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    VolumeGeometry,
)
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid

ODD = (0.1, math.pi / 4, 1.7, math.pi, 4.2, -0.6)  # unordered, one along the diagonal

PARALLEL = ParallelBeam(angles=ODD, columns=11, column_spacing=1.1, column_offset=0.4)
FAN = FanBeam(
    angles=ODD,
    source_to_axis=40.0,
    source_to_detector=65.0,
    columns=13,
    column_spacing=1.4,
    column_offset=-0.8,
)
CONE = ConeBeam(
    angles=ODD,
    source_to_axis=40.0,
    source_to_detector=65.0,
    rows=7,
    columns=13,
    row_spacing=1.9,
    column_spacing=1.4,
    row_offset=0.7,
    column_offset=-0.8,
)
PARALLEL_3D = ParallelBeam3D(
    angles=ODD,
    rows=5,
    columns=11,
    row_spacing=1.6,
    column_spacing=1.1,
    row_offset=0.7,
    column_offset=0.4,
)
CYLINDER = replace(CONE, detector_radius=65.0)
IN_PLANE = ((0.5, 0.3, 0.0), (-0.5, -0.3, 0.0))  # of a flying focal spot, mm
ALONG_Z = ((0.0, 0.0, 0.6), (0.0, 0.0, -0.6))
BOTH = ((0.5, 0.3, 0.6), (-0.5, 0.3, 0.6), (0.5, -0.3, -0.6), (-0.5, -0.3, -0.6))
JITTER = tuple((0.3 * math.sin(7 * v), 0.4 * math.cos(5 * v), 0.2 * v - 0.5) for v in range(6))


def helix(**changes: Any) -> ConeBeam:
    """Three turns that see only a part of the volume each."""
    scanner: dict[str, Any] = {
        "pitch": 3.0,
        "turns": 3,
        "views_per_turn": 3,
        "start_angle": 0.1,
        "middle": 0.9,
        "source_to_axis": 40.0,
        "source_to_detector": 65.0,
        "rows": 3,
        "columns": 13,
        "row_spacing": 1.9,
        "column_spacing": 1.4,
    }
    return ConeBeam.helical(**scanner | changes)


def jittered(geometry: ConeBeam) -> ConeVectors:
    """Upright, but no two views alike."""
    moved = geometry.vectors().translated(JITTER[: geometry.views])
    shifted = moved.detector_shifted(columns=[0.3 * v for v in range(moved.views)], rows=-0.4)
    return shifted.detector_turned(slant=[0.05 * v - 0.1 for v in range(moved.views)])


def tilted(geometry: ConeBeam) -> ConeVectors:
    """A gantry tilt, a detector that is skewed and leans back."""
    turned = geometry.vectors().rotated((1.0, 0.2, 0.0), 0.35)
    return turned.detector_turned(in_plane=0.1, tilt=-0.15, slant=0.1).translated((0.5, -1.0, 1.5))


CENTRED = Grid.centred((3, 8, 8), (1.0, 1.0, 1.0))
SHIFTED = Grid.centred((4, 7, 9), (1.7, 1.3, 0.8), center=(1.5, -2.0, 0.9))
FLAT = Grid.centred((9, 4, 6), (0.8, 1.3, 1.1), center=(0.5, 1.0, -0.7))

SMALL: dict[str, tuple[Grid, CTGeometry]] = {
    "parallel": (CENTRED, replace(PARALLEL, angles=equiangular(5), column_offset=0.0)),
    "parallel, anisotropic and shifted": (SHIFTED, PARALLEL),
    "parallel, coarse columns": (SHIFTED, replace(PARALLEL, columns=4, column_spacing=3.1)),
    "fan": (CENTRED, replace(FAN, angles=equiangular(5), column_offset=0.0)),
    "fan, anisotropic and shifted": (SHIFTED, FAN),
    "fan, fine columns and truncated": (SHIFTED, replace(FAN, column_spacing=0.5)),
    "fan, one view of one column": (SHIFTED, replace(FAN, angles=(0.3,), columns=1)),
    "fan, arc": (SHIFTED, replace(FAN, detector_radius=65.0)),
    "fan, arc about another centre": (SHIFTED, replace(FAN, detector_radius=45.0)),
    "parallel with rows": (SHIFTED, PARALLEL_3D),
    "cone": (CENTRED, replace(CONE, angles=equiangular(5), row_offset=0.0, column_offset=0.0)),
    "cone, anisotropic and shifted": (SHIFTED, CONE),
    "cone, more slices than rows": (FLAT, replace(CONE, rows=4)),
    "cone, half fan": (SHIFTED, replace(CONE, column_offset=7.5)),
    "cone, fine cells and truncated": (
        SHIFTED,
        replace(CONE, rows=5, row_spacing=0.6, column_spacing=0.5),
    ),
    "cone, coarse cells": (SHIFTED, replace(CONE, row_spacing=4.0, column_spacing=4.5, columns=5)),
    "cone, one cell": (SHIFTED, replace(CONE, angles=(0.3,), rows=1, columns=1)),
    "cylinder": (SHIFTED, CYLINDER),
    "cylinder about another centre": (SHIFTED, replace(CONE, detector_radius=45.0)),
    "focal spot flying in the plane": (SHIFTED, CONE.flying(IN_PLANE)),
    "focal spot flying along z": (SHIFTED, CYLINDER.flying(ALONG_Z)),
    "focal spot flying both ways": (SHIFTED, CYLINDER.flying(BOTH)),
    "helix": (FLAT, helix()),
    "helix, cylinder and flying focal spot": (FLAT, helix(detector_radius=65.0).flying(BOTH)),
    "jittered vectors": (SHIFTED, jittered(CONE)),
    "jittered vectors, cylinder": (SHIFTED, jittered(CYLINDER)),
    "parallel vectors, slanted detector": (
        SHIFTED,
        PARALLEL_3D.vectors().detector_turned(slant=0.3),
    ),
    "tilted vectors": (SHIFTED, tilted(CONE)),
    "tilted vectors, cylinder": (SHIFTED, tilted(CYLINDER)),
    "tilted vectors, coarse cells": (
        SHIFTED,
        tilted(replace(CONE, row_spacing=4.0, column_spacing=4.5, columns=5)),
    ),
    "laminography": (FLAT, PARALLEL_3D.vectors().rotated((1.0, 0.0, 0.0), 1.0)),
    "rays along z": (FLAT, PARALLEL_3D.vectors().rotated((1.0, 0.0, 0.0), 1.5)),
}

VOLUMES = {
    name: (grid, geometry)
    for name, (grid, geometry) in SMALL.items()
    if not isinstance(geometry, ParallelBeam | FanBeam)
}


def _full(cell: float, **changes: Any) -> ConeBeam:
    cone: dict[str, Any] = {
        "angles": ODD,
        "source_to_axis": 200.0,
        "source_to_detector": 350.0,
        "rows": math.ceil(136.0 / cell),
        "columns": math.ceil(210.0 / cell),
        "row_spacing": cell,
        "column_spacing": cell,
        "row_offset": -4.0,
        "column_offset": 5.0,
    }
    return ConeBeam(**cone | changes)


def _full_fan(cell: float, radius: float = math.inf) -> FanBeam:
    return FanBeam(
        angles=ODD,
        source_to_axis=200.0,
        source_to_detector=350.0,
        columns=math.ceil(210.0 / cell),
        column_spacing=cell,
        column_offset=-5.0,
        detector_radius=radius,
    )


def _full_parallel(cell: float) -> ParallelBeam3D:
    return ParallelBeam3D(
        angles=ODD,
        rows=math.ceil(80.0 / cell),
        columns=math.ceil(120.0 / cell),
        row_spacing=cell,
        column_spacing=cell,
        row_offset=2.0,
        column_offset=3.0,
    )


def _full_helix(cell: float) -> ConeBeam:
    return _full(
        cell,
        angles=tuple(0.8 * v for v in range(9)),
        heights=tuple(6.0 * v - 22.0 for v in range(9)),
        rows=math.ceil(45.0 / cell),
        detector_radius=350.0,
    )


FULL: dict[str, Callable[[float], CTGeometry]] = {
    "parallel": lambda cell: ParallelBeam(
        angles=ODD, columns=math.ceil(120.0 / cell), column_spacing=cell, column_offset=3.0
    ),
    "fan": _full_fan,
    "fan, arc": lambda cell: _full_fan(cell, 350.0),
    "parallel with rows": _full_parallel,
    "cone": _full,
    "cone, half fan": lambda cell: _full(cell, column_offset=60.0),
    "cylinder": lambda cell: _full(cell, detector_radius=350.0),
    "cylinder about another centre": lambda cell: _full(cell, detector_radius=220.0),
    "focal spot flying": lambda cell: _full(cell, detector_radius=350.0).flying(
        [(5.0, 3.0, 4.0), (-5.0, -3.0, -4.0)]
    ),
    "helix": _full_helix,
    "jittered vectors": lambda cell: jittered(_full(cell)),
    "tilted vectors": lambda cell: tilted(_full(cell)),
    "tilted vectors, cylinder": lambda cell: tilted(_full(cell, detector_radius=350.0)),
    "laminography": lambda cell: _full_parallel(cell).vectors().rotated((1.0, 0.0, 0.0), 1.0),
}
"""Scans of a body some 50 mm wide, with square cells of so many mm."""


def is_volume(geometry: CTGeometry) -> bool:
    """Whether the detector has rows."""
    return isinstance(geometry, VolumeGeometry)
