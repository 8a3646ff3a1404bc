"""Matrices kept in memory: the same numbers as on the fly, and what they cost."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from medrecon.errors import ResourceError, UsageError
from medrecon.geometry.ct import SliceGeometry, equiangular
from medrecon.grid import Grid
from medrecon.operators import sparse
from medrecon.operators.ct import projector
from medrecon.operators.slice_projector import FOOTPRINT, Model, SliceProjector
from medrecon.operators.sparse import pays, sparse_bytes, sparse_projector, system_matrix
from tests.contracts import CHECKS, Check, distance, name, random
from tests.operators.test_ct_slices import (
    ARC,
    CLOCKWISE,
    FAN,
    FULL_TURN,
    HALF_TURN,
    PARALLEL,
    SHIFTED,
    SQUARE,
)
from tests.oracles import dense

SCANS: dict[str, tuple[Grid, SliceGeometry, Model | None]] = {
    "fan": (SHIFTED, FAN, None),
    "arc by footprints": (SHIFTED, ARC, FOOTPRINT),
    "four quarter turns": (SQUARE, FULL_TURN, None),
    "two quarter turns": (SQUARE, HALF_TURN, None),
    "quarter turns backwards by footprints": (SQUARE, CLOCKWISE, FOOTPRINT),
}
EVERY = pytest.mark.parametrize("scan", SCANS)


@pytest.mark.parametrize("check", CHECKS, ids=name)
@EVERY
def test_sparse_projector_keeps_the_contract(scan: str, check: Check) -> None:
    check(sparse_projector(*SCANS[scan]))


@EVERY
def test_matrix_gives_what_the_weights_on_the_fly_give(scan: str) -> None:
    A, B = SliceProjector(*SCANS[scan]), sparse_projector(*SCANS[scan])
    x, y = random(A.domain), random(A.codomain)
    assert distance(B(x), A(x)) < 1e-7  # weights are kept in single precision
    assert distance(B.adjoint(y), A.adjoint(y)) < 1e-7


@EVERY
def test_system_matrix_is_the_dense_matrix_of_a_slice(scan: str) -> None:
    grid, geometry, model = SCANS[scan]
    one = SliceProjector(grid.slab(0, 1), geometry, model)
    matrix = system_matrix(grid, geometry, model)
    assert matrix.indices.dtype == np.int32
    assert (matrix.data > 0).all()
    assert distance(torch.from_numpy(matrix.toarray()).double(), dense(one)) < 1e-7


@EVERY
def test_memory_is_known_before(scan: str) -> None:
    grid, geometry, model = SCANS[scan]
    A = sparse_projector(grid, geometry, model)
    A(random(A.domain))
    held = [v for k, v in vars(A).items() if k in ("_tables", "_first_tables")]
    assert len(held) == 1  # of quarter turns only the first
    assert sum(array.nbytes for array in held[0]) == sparse_bytes(grid, geometry, model)


def test_quarter_turns_save_three_quarters() -> None:
    whole = sparse_bytes(SQUARE.shifted((0.0, 1e-6, 0.0)), FULL_TURN)
    assert sparse_bytes(SQUARE, FULL_TURN) < 0.3 * whole


def test_a_matrix_that_does_not_fit_is_refused_with_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sparse, "free_memory", lambda: 1000.0)
    with pytest.raises(ResourceError, match="on the fly"):
        sparse_projector(SHIFTED, FAN)


def test_pickles_and_copies_leave_the_matrix_behind() -> None:
    A = sparse_projector(SQUARE, FULL_TURN)
    x = random(A.domain)
    y = A(x)
    assert len(pickle.dumps(A)) < 4_000
    assert copy.deepcopy(A) is A
    assert torch.equal(pickle.loads(pickle.dumps(A))(x), y)


def test_the_backend_of_this_name_keeps_matrices_of_slices_only() -> None:
    from tests.operators.test_ct_contract import CONE

    A = projector(SHIFTED, PARALLEL, "matrix")
    assert isinstance(A, SliceProjector)
    assert A.model is not None
    assert A.model.name == "matrix of joseph"
    with pytest.raises(UsageError, match="slices"):
        projector(SHIFTED, CONE, "matrix")


def test_a_matrix_pays_for_a_few_slices_many_times_if_it_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = SQUARE.slab(0, 1)
    turning = replace(FULL_TURN, angles=equiangular(8))
    assert pays(one, turning, 600)
    assert not pays(one, turning, 300)
    assert pays(SQUARE, turning, 300)
    assert not pays(replace(SQUARE, shape=(5, 8, 8)), turning, 1000)
    assert not pays(one, FAN, 1000)
    kept = projector(one, turning, applications=1000)
    assert isinstance(kept, SliceProjector)
    assert kept.model is not None
    assert kept.model.large
    monkeypatch.setattr(sparse, "free_memory", lambda: 1.5 * sparse_bytes(one, turning))
    assert not pays(one, turning, 1000)
