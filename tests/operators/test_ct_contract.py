"""Every CT projector keeps the contract of a linear operator, for every kind of scan."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from medrecon.geometry.ct import ConeBeam, CTGeometry, FanBeam, ParallelBeam, equiangular
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from tests.contracts import CHECKS, Check, name

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

CENTRED = Grid.centred((3, 8, 8), (1.0, 1.0, 1.0))
SHIFTED = Grid.centred((4, 7, 9), (1.7, 1.3, 0.8), center=(1.5, -2.0, 0.9))

SCANS: dict[str, tuple[Grid, CTGeometry]] = {
    "parallel": (CENTRED, replace(PARALLEL, angles=equiangular(5), column_offset=0.0)),
    "parallel, anisotropic and shifted": (SHIFTED, PARALLEL),
    "parallel, coarse columns": (SHIFTED, replace(PARALLEL, columns=4, column_spacing=3.1)),
    "fan": (CENTRED, replace(FAN, angles=equiangular(5), column_offset=0.0)),
    "fan, anisotropic and shifted": (SHIFTED, FAN),
    "fan, fine columns and truncated": (SHIFTED, replace(FAN, column_spacing=0.5)),
    "fan, one view of one column": (SHIFTED, replace(FAN, angles=(0.3,), columns=1)),
    "cone": (CENTRED, replace(CONE, angles=equiangular(5), row_offset=0.0, column_offset=0.0)),
    "cone, anisotropic and shifted": (SHIFTED, CONE),
    "cone, fine cells and truncated": (
        SHIFTED,
        replace(CONE, rows=5, row_spacing=0.6, column_spacing=0.5),
    ),
    "cone, coarse cells": (SHIFTED, replace(CONE, row_spacing=4.0, column_spacing=4.5, columns=5)),
}


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("scan", SCANS)
def test_projector_keeps_the_contract(scan: str, check: Check) -> None:
    check(projector(*SCANS[scan]))
