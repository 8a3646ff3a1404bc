"""The door to the projectors, and what they refuse."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import Any

import numba
import pytest
import torch

from medrecon.errors import InconsistentError, ResourceError, UsageError
from medrecon.grid import Grid
from medrecon.operators.cone import ConeProjector
from medrecon.operators.ct import projector
from medrecon.operators.fan import FanProjector
from medrecon.operators.kernels.compile import launch
from medrecon.operators.parallel import ParallelProjector
from tests.contracts import random
from tests.operators.test_ct_contract import CENTRED, CONE, FAN, PARALLEL, SHIFTED


def test_each_geometry_has_its_projector() -> None:
    assert isinstance(projector(CENTRED, PARALLEL), ParallelProjector)
    assert isinstance(projector(CENTRED, FAN), FanProjector)
    assert isinstance(projector(CENTRED, CONE), ConeProjector)


def test_unknown_backend_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'native', 'matrix', 'triton' or 'astra'"):
        projector(CENTRED, FAN, backend="tigre")  # type: ignore[arg-type]


@pytest.mark.parametrize("geometry", [PARALLEL, FAN, CONE])
def test_tilted_grid_is_refused(geometry: Any) -> None:
    turned = replace(CENTRED, directions=((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)))
    with pytest.raises(InconsistentError, match="axial"):
        projector(turned, geometry)


@pytest.mark.parametrize("geometry", [FAN, CONE])
def test_grid_that_reaches_the_source_is_refused(geometry: Any) -> None:
    with pytest.raises(InconsistentError, match="source"):
        projector(Grid.centred((3, 60, 60), (1.0, 1.0, 1.0)), geometry)


def test_integers_and_half_precision_are_refused_with_the_way_out() -> None:
    A = projector(CENTRED, FAN)
    for dtype in (torch.int64, torch.float16):
        with pytest.raises(InconsistentError, match=r"\.float\(\)"):
            A(torch.ones(CENTRED.shape, dtype=dtype))


@pytest.mark.parametrize("geometry", [PARALLEL, FAN, CONE])
def test_an_empty_batch_stays_empty(geometry: Any) -> None:
    A = projector(SHIFTED, geometry)
    assert A(torch.zeros(0, *A.domain.shape)).shape == (0, *A.codomain.shape)
    assert A.adjoint(torch.zeros(2, 0, *A.codomain.shape)).shape == (2, 0, *A.domain.shape)


@pytest.mark.parametrize("geometry", [FAN, CONE])
def test_a_bad_value_stays_visible(geometry: Any) -> None:
    A = projector(SHIFTED, geometry)
    x = torch.ones(A.domain.shape)
    x[2, 3, 4] = torch.nan
    assert A(x).isnan().any()


def test_more_slices_than_go_through_a_kernel_at_once_are_all_done() -> None:
    grid = Grid.centred((70, 6, 5), (1.0, 1.0, 1.0))
    A, one = projector(grid, PARALLEL), projector(grid.slab(0, 1), PARALLEL)
    x = random(A.domain)
    y = A(x)
    for z in (0, 31, 63, 64, 69):
        assert torch.allclose(y[z], one(x[z : z + 1])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("geometry", [PARALLEL, CONE])
def test_the_number_of_threads_does_not_change_a_bit(geometry: Any) -> None:
    A = projector(SHIFTED, geometry)
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


def test_kernels_run_on_torchs_threads_and_leave_numbas_setting() -> None:
    before, seen = torch.get_num_threads(), []
    setting = numba.get_num_threads()
    try:
        torch.set_num_threads(1)
        launch(lambda: seen.append(numba.get_num_threads()))
    finally:
        torch.set_num_threads(before)
    assert seen == [1]
    assert numba.get_num_threads() == setting


def test_projectors_run_in_several_python_threads() -> None:
    A = projector(SHIFTED, CONE)
    x = random(A.domain)
    expected, results = A(x), []
    workers = [threading.Thread(target=lambda: results.append(A(x))) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 6
    assert all(torch.equal(y, expected) for y in results)


def test_a_fork_of_a_process_that_projected_is_told_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    A = projector(SHIFTED, CONE)
    x = torch.ones(A.domain.shape)
    A(x)
    if numba.threading_layer() != "omp":
        pytest.skip("only GNU OpenMP does not survive a fork")
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    with pytest.raises(ResourceError, match="spawn"):
        A(x)
