"""Projectors of slices: arcs, coarse cells, quarter turns, and the choice of the model."""

from __future__ import annotations

import copy
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from medrecon.geometry.ct import FanBeam, ParallelBeam, SliceGeometry, equiangular
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from medrecon.operators.kernels import stack
from medrecon.operators.slice_projector import FOOTPRINT, JOSEPH, Model, SliceProjector, model_for
from medrecon.operators.turns import Turns, turns
from tests.contracts import CHECKS, Check, distance, name, random
from tests.oracles import dense

ODD = (0.1, math.pi / 4, 1.7, math.pi, 4.2, -0.6)  # unordered, one along the diagonal
SHIFTED = Grid.centred((3, 7, 9), (1.7, 1.3, 0.8), center=(1.5, -2.0, 0.9))
SQUARE = Grid.centred((2, 8, 8), (1.0, 1.0, 1.0))

PARALLEL = ParallelBeam(angles=ODD, columns=11, column_spacing=1.1, column_offset=0.4)
FAN = FanBeam(
    angles=ODD,
    source_to_axis=40.0,
    source_to_detector=65.0,
    columns=13,
    column_spacing=1.4,
    column_offset=-0.8,
)
ARC = replace(FAN, detector_radius=65.0)
FLATTER = replace(FAN, detector_radius=90.0)
COARSE: dict[str, Any] = {"columns": 4, "column_spacing": 5.1}
FULL_TURN = replace(FAN, angles=equiangular(8, start=0.2))
HALF_TURN = replace(PARALLEL, angles=equiangular(6, arc=math.pi, start=-0.3))
CLOCKWISE = replace(ARC, angles=tuple(-a for a in equiangular(12)))

SCANS: dict[str, tuple[Grid, SliceGeometry, Model | None]] = {
    "arc": (SHIFTED, ARC, None),
    "arc with another centre": (SHIFTED, FLATTER, None),
    "arc, fine columns and truncated": (SHIFTED, replace(ARC, column_spacing=0.5), None),
    "arc, coarse columns": (SHIFTED, replace(ARC, **COARSE), None),
    "fan by footprints": (SHIFTED, FAN, FOOTPRINT),
    "arc, fine columns by footprints": (SHIFTED, replace(ARC, column_spacing=0.3), FOOTPRINT),
    "parallel by footprints": (SHIFTED, PARALLEL, FOOTPRINT),
    "four quarter turns": (SQUARE, FULL_TURN, None),
    "two quarter turns": (SQUARE, HALF_TURN, None),
    "quarter turns backwards": (SQUARE, CLOCKWISE, None),
    "quarter turns by footprints": (SQUARE, replace(FULL_TURN, **COARSE), None),
}


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("scan", SCANS)
def test_slice_projector_keeps_the_contract(scan: str, check: Check) -> None:
    check(SliceProjector(*SCANS[scan]))


@pytest.mark.parametrize("model", [JOSEPH, FOOTPRINT], ids=["joseph", "footprint"])
@pytest.mark.parametrize("geometry", [PARALLEL, FAN, ARC], ids=["parallel", "fan", "arc"])
def test_transpose_has_the_entries_of_the_dense_matrix(
    geometry: SliceGeometry, model: Model
) -> None:
    A = SliceProjector(replace(SHIFTED, shape=(1, 7, 9)), geometry, model)
    assert torch.allclose(dense(A), dense(A.H).T, rtol=0, atol=1e-13)


@pytest.mark.parametrize("radius", [65.0, 90.0])
def test_arc_measures_what_a_flat_detector_measures_along_the_same_rays(radius: float) -> None:
    arc = replace(FAN, detector_radius=radius)
    x = random(SliceProjector(SHIFTED, arc).domain)
    y = SliceProjector(SHIFTED, arc)(x)
    for column in (0, 4, 6, 12):
        angle = ((column - 6) * FAN.column_spacing + FAN.column_offset) / radius
        across, lift = radius * math.sin(angle), radius * (1 - math.cos(angle))
        offset = across * FAN.source_to_detector / (FAN.source_to_detector - lift)
        flat = replace(FAN, columns=1, column_offset=offset)
        one = SliceProjector(SHIFTED, flat, JOSEPH)(x)[..., 0]
        assert distance(one, y[..., column]) < 1e-10


def test_a_wide_arc_is_flat() -> None:
    flat, arc = SliceProjector(SHIFTED, FAN), replace(FAN, detector_radius=1e9)
    x = random(flat.domain)
    assert distance(SliceProjector(SHIFTED, arc)(x), flat(x)) < 1e-7


@pytest.mark.parametrize("geometry", [PARALLEL, FAN, ARC], ids=["parallel", "fan", "arc"])
def test_a_coarse_cell_is_the_mean_of_the_cells_it_consists_of(geometry: SliceGeometry) -> None:
    parts = 4
    fine = replace(
        geometry,
        columns=geometry.columns * parts,
        column_spacing=geometry.column_spacing / parts,
    )
    grid = Grid.centred((1, 16, 16), (1.0, 0.5, 0.5))
    y, x, _ = torch.meshgrid(*[torch.arange(16.0) - 7.5] * 2, torch.zeros(1), indexing="ij")
    blob = torch.exp(-((x - 2) ** 2 + (y + 1) ** 2) / 18)[..., 0][None].double()
    coarse = SliceProjector(grid, geometry, FOOTPRINT)(blob)
    each = SliceProjector(grid, fine, FOOTPRINT)(blob)
    # Shadows add up exactly, their widths on a column of pixels and the path lengths nearly.
    assert distance(coarse, each.unflatten(-1, (-1, parts)).mean(-1)) < 3e-3


def test_the_first_quarter_alone_measures_the_first_quarter() -> None:
    A = SliceProjector(SQUARE, FULL_TURN)
    x = random(A.domain)
    y = A(x)
    for start in range(0, 8, 2):
        part = SliceProjector(SQUARE, FULL_TURN[start : start + 2])
        assert turns(SQUARE, part.geometry).count == 1
        assert distance(part(x), y[:, start : start + 2]) < 1e-12


def test_quarter_turns_are_found_where_they_are() -> None:
    assert turns(SQUARE, FULL_TURN) == Turns(4, 2, 1)
    assert turns(SQUARE, HALF_TURN) == Turns(2, 3, 1)
    assert turns(SQUARE, CLOCKWISE) == Turns(4, 3, -1)
    assert turns(SQUARE, FULL_TURN[::4]) == Turns(1, 2)  # two opposite views
    assert turns(SQUARE, FAN) == Turns(1, 6)
    assert turns(SHIFTED, FULL_TURN) == Turns(1, 8)
    assert turns(SQUARE.shifted((0.01, 0.0, 0.0)), FULL_TURN) == Turns(1, 8)
    assert turns(SQUARE, replace(FULL_TURN, angles=(*FULL_TURN.angles[:7], 0.0))) == Turns(1, 8)


@pytest.mark.parametrize("slices", [1, 2, 4, 5, 9, 17, 70])
def test_every_number_of_slices_gives_the_same(slices: int) -> None:
    grid = Grid.centred((slices, 6, 6), (1.0, 1.0, 1.0))
    A, one = SliceProjector(grid, FULL_TURN), SliceProjector(grid.slab(0, 1), FULL_TURN[:8:1])
    x = random(A.domain)
    y = A(x)
    back = A.adjoint(y)
    for z in {0, slices // 2, slices - 1}:
        assert distance(y[z], one(x[z : z + 1])[0]) < 1e-12
        assert distance(back[z], one.adjoint(y[z : z + 1])[0]) < 1e-12


@pytest.mark.parametrize("model", [JOSEPH, FOOTPRINT], ids=["joseph", "footprint"])
def test_tiles_do_not_change_a_weight(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid.centred((3, 37, 50), (1.0, 1.1, 0.9), center=(2.0, 1.0, 0.0))
    wide = replace(ARC, columns=60, source_to_axis=80.0, source_to_detector=105.0)
    A = SliceProjector(grid, replace(wide, detector_radius=105.0), model)
    x, y = random(A.domain), random(A.codomain)
    projected, back = A(x), A.adjoint(y)
    monkeypatch.setattr(stack, "TILE_BYTES", 4 * 8 * 12**2)
    assert distance(A(x), projected) < 1e-14
    assert distance(A.adjoint(y), back) < 1e-14


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    A = SliceProjector(Grid.centred((3, 40, 40), (1.0, 0.5, 0.5)), ARC)
    x = random(A.domain, precision=torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        y, back = A(x), A.gram(x)
        torch.set_num_threads(max(2, before))
        assert torch.equal(A(x), y)
        assert torch.equal(A.gram(x), back)
    finally:
        torch.set_num_threads(before)


FIRST_LAUNCH = """
import torch
from medrecon.geometry.ct import ParallelBeam
from medrecon.grid import Grid
from medrecon.operators.slice_projector import SliceProjector
torch.set_num_threads(1)
scanner = ParallelBeam(angles=(0.0, 1.0), columns=4, column_spacing=1)
SliceProjector(Grid.centred((1, 4, 4), (1, 1, 1)), scanner)(torch.ones(1, 4, 4))
print(torch.get_num_threads())
"""


def test_the_first_kernel_of_a_process_leaves_torchs_number_of_threads() -> None:
    environment = os.environ | {"NUMBA_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FIRST_LAUNCH]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "1"


def test_footprints_are_chosen_where_cells_are_coarse_on_the_axis() -> None:
    fine, coarse = replace(PARALLEL, column_spacing=1.7), replace(PARALLEL, column_spacing=1.8)
    assert model_for(SQUARE, fine) is JOSEPH
    assert model_for(SQUARE, coarse) is FOOTPRINT
    # On the axis a cell of the fan is 40 / 65 of itself.
    assert model_for(SQUARE, replace(FAN, column_spacing=2.8)) is JOSEPH
    assert model_for(SQUARE, replace(FAN, column_spacing=2.9)) is FOOTPRINT
    A = projector(SQUARE, coarse)
    assert isinstance(A, SliceProjector)
    assert A.model is FOOTPRINT


def test_pickles_and_copies_leave_the_tables_behind() -> None:
    A = SliceProjector(SHIFTED, replace(ARC, angles=equiangular(200)))
    A(random(A.domain))
    assert len(pickle.dumps(A)) < 8_000
    assert copy.deepcopy(A) is A


@pytest.mark.parametrize("count", [2, 3])
def test_ordered_subsets_are_projectors_of_some_views(count: int) -> None:
    A = projector(SQUARE, FULL_TURN)
    x = random(A.domain)
    y = A(x)
    back = torch.zeros_like(x)
    for s in range(count):
        B = projector(SQUARE, FULL_TURN[s::count])
        assert distance(B(x), y[:, s::count]) < 1e-12
        back += B.adjoint(y[:, s::count])
    assert distance(back, A.adjoint(y)) < 1e-12


@pytest.mark.parametrize("angle", [0.0, math.pi / 4, math.pi / 2])
def test_rays_that_graze_or_miss_the_image_are_harmless(angle: float) -> None:
    grid = Grid.centred((1, 4, 4), (1.0, 1.0, 1.0))
    wide = ParallelBeam(angles=(angle,), columns=41, column_spacing=0.5)
    for model in (JOSEPH, FOOTPRINT):
        A = SliceProjector(grid, wide, model)
        y = A(torch.ones(A.domain.shape, dtype=torch.float64))
        assert torch.isfinite(y).all()
        assert y[0, 0, 0] == y[0, 0, -1] == 0
        # The area of the image; only shadows add up to all of it.
        exact = 1e-9 if model is FOOTPRINT else 0.02
        assert math.isclose(float(y.sum()) * 0.5, 16.0, rel_tol=exact)
