"""Multi-coil MR along trajectories: the battery, direct sums, and the convolution as gram."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.operators.base import LinearOperator
from medrecon.operators.cartesian import CartesianSense
from medrecon.operators.noncartesian import NonCartesianSense
from medrecon.operators.sense import sense_operator
from medrecon.operators.toeplitz import eigenvalues
from tests.contracts import CHECKS, Check, distance, name, random
from tests.operators.trajectories import LAYOUTS, along_the_stack, ndft, noncartesian
from tests.oracles import dense

OPERATORS: dict[str, LinearOperator] = {
    **{layout: noncartesian(layout) for layout in LAYOUTS},
    **{f"normal {layout}": noncartesian(layout).normal for layout in LAYOUTS},
}


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
def test_contract(operator: LinearOperator, check: Check) -> None:
    check(operator)


def direct(operator: NonCartesianSense, x: torch.Tensor) -> torch.Tensor:
    """Sums over the voxels in double precision, straight from the definition."""
    geometry, axis = operator.geometry, operator.blocks
    seen = operator.maps * x.unsqueeze(axis)
    if geometry.partitions is None:
        d = geometry.trajectory.shape[-1]
        matrix = ndft(tuple(seen.shape[-d:]), geometry.trajectory)
        return (seen.flatten(start_dim=-d) @ matrix.T).reshape(operator.codomain.shape)
    layout = "stack full" if geometry.partitions.all() else "stack"
    matrix = ndft(tuple(seen.shape[1:]), along_the_stack(layout))
    y = (seen.flatten(start_dim=1) @ matrix.T).reshape(operator.codomain.shape)
    return y * torch.from_numpy(geometry.partitions)[:, None, None]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_equals_the_direct_sum(layout: str) -> None:
    operator = noncartesian(layout)
    x = random(operator.domain, seed=1)
    assert distance(operator(x), direct(operator, x)) < 1e-11


def test_a_stack_is_a_trajectory_with_three_axes() -> None:
    stack = noncartesian("stack")
    steps = stack.geometry.partitions
    assert steps is not None
    positions = along_the_stack("stack")[steps]
    volume = NonCartesianSense(
        stack.maps, NonCartesian(trajectory=positions.reshape(-1, *positions.shape[-2:]))
    )
    x = random(stack.domain)
    measured = stack(x)[:, torch.from_numpy(steps)].flatten(1, 2)
    assert distance(measured, volume(x)) < 1e-11
    assert distance(stack.gram(x), volume.gram(x)) < 1e-11


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gram_is_the_dense_normal_matrix(layout: str) -> None:
    operator = noncartesian(layout)
    A = dense(operator)
    x = random(operator.domain, seed=2)
    expected = A.mH @ (A @ x.flatten())
    assert distance(operator.gram(x).flatten(), expected) < 1e-11
    single = operator.gram(x.to(torch.complex64))
    assert single.dtype == torch.complex64
    assert distance(single.to(x.dtype).flatten(), expected) < 1e-6


@pytest.mark.parametrize("layout", ["slices odd", "stack", "3d even"])
def test_samples_may_have_weights_in_the_normal_operator(layout: str) -> None:
    operator = noncartesian(layout)
    weights = np.random.default_rng(3).uniform(-1, 2, operator.geometry.trajectory.shape[:-1])
    x = random(operator.domain, seed=3)
    expected = operator.adjoint(operator(x) * torch.from_numpy(weights))
    assert distance(operator.weighted_normal(weights)(x), expected) < 1e-11


@pytest.mark.parametrize("layout", ["slices odd", "stack", "3d even"])
def test_gram_is_differentiable(layout: str) -> None:
    operator = noncartesian(layout)
    x = random(operator.domain).requires_grad_()
    g = random(operator.domain, seed=5)
    (gradient,) = torch.autograd.grad((g.conj() * operator.gram(x)).sum().real, x)
    assert distance(gradient, operator.gram(g)) < 1e-12


def test_where_every_sample_of_a_grid_was_taken_the_normal_operator_is_one() -> None:
    axes = [np.arange(n, dtype=float) - n // 2 for n in (6, 7)]
    every = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    operator = NonCartesianSense(
        random(Space((1, 1, 6, 7), complex=True)), NonCartesian(trajectory=every)
    )
    values = eigenvalues(operator.nufft)
    assert torch.allclose(values[0, 0], torch.ones(6, 7, dtype=torch.float64), atol=1e-11)
    assert torch.allclose(values.sum(dim=(0, 1)), values[0, 0], atol=1e-11)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_device_path_gives_what_the_cpu_path_gives(
    layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = noncartesian(layout)
    x = random(operator.domain, 2, seed=6)
    expected = operator.gram(x)
    monkeypatch.setattr("medrecon.operators.toeplitz._on_cpu", lambda _: False)
    assert distance(operator.gram(x), expected) < 1e-13


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_number_of_threads_does_not_change_a_bit(layout: str) -> None:
    threads = torch.get_num_threads()
    operator = noncartesian(layout)
    x = random(operator.domain, 2, precision=torch.float32)
    results = []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            results.append((operator(x), operator.gram(x), operator.adjoint(operator(x))))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_it_agrees_with_cartesian_sampling_on_integer_positions() -> None:
    maps = random(Space((2, 3, 7, 6), complex=True))
    mask = torch.rand(7, 6, generator=torch.Generator().manual_seed(2)) < 0.6
    index = torch.nonzero(mask)
    positions = (index - torch.tensor([3, 3])).double().numpy()[None]
    along = NonCartesianSense(maps, NonCartesian(trajectory=positions))
    grid = CartesianSense(maps, mask)
    x = random(grid.domain)
    assert distance(along(x)[:, :, 0], grid(x)[..., index[:, 0], index[:, 1]]) < 1e-11
    assert distance(along.gram(x), grid.gram(x)) < 1e-11


def test_pickling_carries_no_plan() -> None:
    operator = noncartesian("slices odd")
    x = random(operator.domain)
    before = operator(x), operator.gram(x)
    twin: NonCartesianSense = pickle.loads(pickle.dumps(operator))
    assert len(operator.nufft.plans) == 1
    assert len(twin.nufft.plans) == 0
    assert torch.equal(twin(x), before[0])
    assert torch.equal(twin.gram(x), before[1])


def test_what_does_not_fit_is_refused() -> None:
    maps = random(Space((2, 4, 6, 8), complex=True))
    plane = noncartesian("slices even").geometry
    with pytest.raises(InconsistentError, match="complex"):
        NonCartesianSense(maps.real, plane)
    with pytest.raises(InconsistentError, match="complex"):
        NonCartesianSense(maps[0], plane)
    with pytest.raises(InconsistentError, match="stack of 5"):
        NonCartesianSense(maps, noncartesian("stack").geometry)


def test_the_door_opens_to_the_right_operator() -> None:
    along, grid = noncartesian("3d even"), Cartesian(mask=np.eye(4, 6, dtype=bool))
    assert isinstance(sense_operator(along.geometry, along.maps), NonCartesianSense)
    maps = random(Space((2, 3, 4, 6), complex=True))
    y = sense_operator(grid, maps)(random(Space((2, 4, 6), complex=True), seed=1))
    assert torch.equal(y[0, 0] != 0, torch.from_numpy(grid.mask))
    with pytest.raises(InconsistentError, match="times"):
        sense_operator(grid, maps, field_map=torch.zeros(2, 4, 6))
    timeless = NonCartesian(trajectory=along.geometry.trajectory)
    with pytest.raises(InconsistentError, match="times"):
        sense_operator(timeless, along.maps, field_map=torch.zeros(4, 6, 8))
