"""Tiles of a projector are the projector, within the memory that they promise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError, ResourceError
from medrecon.geometry.ct import (
    ConeBeam,
    CTGeometry,
    FanBeam,
    ParallelBeam3D,
    equiangular,
)
from medrecon.grid import Grid
from medrecon.operators import tiled
from medrecon.operators.cone import ConeProjector
from medrecon.operators.ct import projector
from medrecon.operators.tiled import TiledProjector, memory_bound, seen_slices
from tests.contracts import CHECKS, Check, distance, name, random

GRID = Grid.centred((9, 8, 7), (1.3, 1.0, 1.1), center=(0.5, -1.0, 0.4))
CONE = ConeBeam(
    angles=equiangular(7),
    source_to_axis=40.0,
    source_to_detector=65.0,
    rows=6,
    columns=13,
    row_spacing=1.9,
    column_spacing=1.4,
    row_offset=0.7,
)
HELIX = ConeBeam.helical(
    pitch=4.0,
    turns=4,
    views_per_turn=6,
    source_to_axis=40.0,
    source_to_detector=65.0,
    rows=3,
    columns=13,
    row_spacing=1.9,
    column_spacing=1.4,
    detector_radius=65.0,
)
SCANS: dict[str, CTGeometry] = {
    "fan": FanBeam(
        angles=equiangular(7),
        source_to_axis=40.0,
        source_to_detector=65.0,
        columns=13,
        column_spacing=1.4,
    ),
    "parallel with rows": ParallelBeam3D(
        angles=equiangular(7, arc=math.pi), rows=8, columns=11, row_spacing=1.1, column_spacing=1.0
    ),
    "cone": CONE,
    "cone on an arc": replace(CONE, detector_radius=65.0),
    "helix": HELIX,
    "tilted": CONE.vectors().rotated((1.0, 0.0, 0.0), 0.3),
    "tilted with coarse cells": replace(CONE, column_spacing=3.0, columns=7)
    .vectors()
    .rotated((1.0, 0.0, 0.0), 0.3),
}


@pytest.mark.parametrize(("slab", "chunk"), [(2, 3), (4, 100), (100, 1)])
@pytest.mark.parametrize("scan", SCANS)
def test_tiles_are_the_whole_projector(scan: str, slab: int, chunk: int) -> None:
    whole = projector(GRID, SCANS[scan])
    tiles = TiledProjector(GRID, SCANS[scan], slab=slab, chunk=chunk)
    x, y = random(whole.domain, 2), random(whole.codomain, 2, seed=1)
    assert distance(tiles(x), whole(x)) <= 1e-12
    assert distance(tiles.adjoint(y), whole.adjoint(y)) <= 1e-12


@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_tiles_keep_the_contract_of_an_operator(check: Check) -> None:
    check(TiledProjector(GRID, CONE, slab=4, chunk=4))


def test_a_chunk_of_a_helix_meets_only_the_slabs_that_it_sees() -> None:
    grid = Grid.centred((24, 8, 8), (1.0, 1.0, 1.0))
    tiles = TiledProjector(grid, HELIX, slab=4, chunk=6)
    visits = [len(list(tiles._slabs(views))) for views in tiles._chunks()]
    assert max(visits) < 6
    x = random(tiles.domain)
    assert distance(tiles(x), projector(grid, HELIX)(x)) <= 1e-12


@pytest.mark.parametrize("scan", ["cone", "helix", "tilted", "cone on an arc"])
def test_no_view_sees_more_than_it_is_said_to(scan: str) -> None:
    grid = Grid.centred((40, 8, 7), (0.7, 1.0, 1.1))
    geometry = SCANS[scan]
    assert not isinstance(geometry, FanBeam)
    A = projector(grid, geometry)
    for view, (first, last) in enumerate(seen_slices(grid, geometry)):  # type: ignore[arg-type]
        y = torch.zeros(A.codomain.shape, dtype=torch.float64)
        y[view] = 1
        slices = np.flatnonzero(A.adjoint(y).abs().sum((1, 2)).numpy())
        assert first <= slices.min()
        assert slices.max() < last
        assert last - first <= len(slices) + 8


def test_tiles_fit_the_memory_that_is_given() -> None:
    grid, whole = GRID, memory_bound(GRID, CONE, 100, 100)
    for memory in (whole, whole // 2, whole // 5):
        tiles = TiledProjector.within(memory, grid, CONE)
        assert memory_bound(grid, CONE, tiles.slab, tiles.chunk) <= memory
    assert TiledProjector.within(whole, grid, CONE).slab == grid.shape[0]
    with pytest.raises(ResourceError, match="One slice and one view"):
        TiledProjector.within(100, grid, CONE)


def test_no_more_than_a_slab_and_a_chunk_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    class Spy(ConeProjector):
        def _forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super()._forward(x)
            shapes.append((x.shape[-3], y.shape[-3]))
            return y

    monkeypatch.setattr(tiled, "ConeProjector", Spy)
    tiles = TiledProjector(GRID, CONE, slab=2, chunk=3)
    tiles(random(tiles.domain))
    assert max(z for z, _ in shapes) == 2
    assert max(v for _, v in shapes) == 3


def test_empty_tiles_are_refused() -> None:
    with pytest.raises(InconsistentError, match="at least one slice"):
        TiledProjector(GRID, CONE, slab=0)
