"""Off-resonance against the direct sum with the exponential of frequency and time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.operators.base import LinearOperator
from medrecon.operators.cartesian import CartesianSense
from medrecon.operators.off_resonance import OffResonance, OffResonanceNormal
from medrecon.operators.segments import differences, histogram, segment
from medrecon.operators.sense import sense_operator
from tests.contracts import CHECKS, Check, distance, name, random
from tests.operators.trajectories import noncartesian
from tests.oracles import dense

TIMES = np.linspace(1e-3, 2.1e-2, 6)


def field(*shape: int) -> torch.Tensor:
    """Uneven by 200 Hz, off centre, rough: the worst a shim leaves."""
    generator = torch.Generator().manual_seed(4)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 200 - 70


def cartesian(encoded: int) -> CartesianSense:
    mask = torch.rand(5, 6, generator=torch.Generator().manual_seed(1)) < 0.7
    mask = mask if encoded == 2 else mask.expand(3, 5, 6)
    return CartesianSense(random(Space((3, 3, 5, 6), complex=True)), mask, encoded)


def plain(case: str) -> LinearOperator:
    if case == "sets":
        maps = random(Space((2, 2, 3, 7, 5), complex=True))
        return sense_operator(noncartesian("slices odd").geometry, maps)
    if case == "sets of a volume":
        maps = random(Space((2, 2, 4, 6, 8), complex=True))
        return sense_operator(noncartesian("3d even").geometry, maps)
    if case.startswith("cartesian"):
        return cartesian(int(case[-1]))
    return noncartesian(case)


ALONG = ["slices odd", "stack", "3d even"]
CASES = [*ALONG, "cartesian 2", "cartesian 3", "sets", "sets of a volume"]


def volume(operator: LinearOperator) -> tuple[int, ...]:
    shape = list(operator.domain.shape)
    if len(shape) == 4:
        del shape[operator.blocks]
    return tuple(shape)


def uneven(case: str, error: float = 1e-12) -> OffResonance:
    operator = plain(case)
    return OffResonance(operator, field(*volume(operator)), TIMES, error)


OPERATORS: dict[str, LinearOperator] = {case: uneven(case) for case in CASES}


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
def test_contract(operator: LinearOperator, check: Check) -> None:
    check(operator)


def matrix(operator: OffResonance) -> torch.Tensor:
    """Dense matrix without off-resonance, every entry turned by its voxel and time."""
    even = dense(operator.operator).reshape(*operator.codomain.shape, *operator.domain.shape)
    f = operator.field_map
    if operator.domain.ndim == 4:
        f = f.unsqueeze(operator.blocks)
    readout = torch.from_numpy(operator.times).reshape(-1, *[1] * operator.domain.ndim)
    turned = even * torch.exp(-2j * math.pi * f * readout)
    return turned.reshape(operator.codomain.size, -1)


@pytest.mark.parametrize("case", CASES)
def test_it_equals_the_direct_sum(case: str) -> None:
    operator = uneven(case)
    A = matrix(operator)
    x, y = random(operator.domain), random(operator.codomain)
    assert distance(operator(x).flatten(), A @ x.flatten()) < 1e-11
    assert distance(operator.adjoint(y).flatten(), A.mH @ y.flatten()) < 1e-11
    assert distance(operator.gram(x).flatten(), A.mH @ (A @ x.flatten())) < 1e-11


@pytest.mark.parametrize("error", [1e-2, 1e-4, 1e-6, 1e-9])
def test_the_error_that_is_asked_for_is_kept(error: float) -> None:
    operator = uneven("slices odd", error)
    assert operator.segments.error <= error
    x = random(operator.domain)
    direct = matrix(operator) @ x.flatten()
    assert distance(operator(x).flatten(), direct) <= 2 * error
    assert distance(operator.gram(x), operator.adjoint(operator(x))) <= 4 * error


def test_fewer_segments_serve_a_larger_error_and_an_even_field() -> None:
    numbers = [len(uneven("slices odd", error).segments) for error in (1e-2, 1e-5, 1e-8)]
    assert numbers == sorted(set(numbers))
    flat = OffResonance(noncartesian("slices odd"), torch.full((3, 7, 5), 40.0), TIMES)
    assert len(flat.segments) == 1
    x = random(flat.domain)
    turned = flat.operator(x) * torch.exp(-2j * math.pi * 40 * torch.from_numpy(TIMES))
    assert distance(flat(x), turned) < 1e-11


@pytest.mark.parametrize("duration", [5e-3, 5e-2])
def test_interpolators_stay_small_so_that_they_amplify_nothing(duration: float) -> None:
    frequencies = np.random.default_rng(0).normal(30, 60, 5000).clip(-150, 200)
    times = np.linspace(2e-3, 2e-3 + duration, 700)
    for error in (1e-3, 1e-6):
        bins = histogram(frequencies, duration)
        for cases in (bins, differences(*bins)):
            found = segment(*cases, times, error)
            assert found.error <= error
            assert np.abs(found.weights).max() < 2


def test_the_histogram_weighs_voxels_and_reaches_from_the_lowest_to_the_highest() -> None:
    values: NDArray[np.float64] = np.array([-50.0, 10.0, 10.0, 80.0])
    frequencies, weights = histogram(values, 0.01)
    assert (frequencies[0], frequencies[-1]) == (-50, 80)
    assert math.isclose(weights.sum(), 1)
    assert abs(frequencies[weights.argmax()] - 10) < 1
    gaps, pairs = differences(frequencies, weights)
    assert (gaps[0], gaps[-1]) == (-130, 130)
    assert math.isclose(pairs.sum(), 1)
    assert np.allclose(gaps, -gaps[::-1])
    assert np.array_equal(pairs, pairs[::-1])


def test_a_trajectory_has_a_normal_operator_of_convolutions() -> None:
    operator = uneven("stack")
    assert isinstance(operator.normal, OffResonanceNormal)
    for check in CHECKS:
        check(operator.normal)
    assert uneven("cartesian 2").normal is None


def test_without_memory_for_the_kernels_gram_is_adjoint_after_forward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = uneven("slices odd")
    monkeypatch.setattr("medrecon.operators.off_resonance.free_memory", lambda: 1000.0)
    operator = uneven("slices odd")
    x = random(operator.domain)
    assert operator.normal is None
    assert distance(operator.gram(x), expected.gram(x)) < 1e-11


def test_a_voxel_above_resonance_turns_clockwise() -> None:
    geometry = NonCartesian(trajectory=np.zeros((1, 2, 2)), times=np.array([0.0, 0.0025]))
    maps = torch.ones(1, 1, 2, 2, dtype=torch.complex128)
    A = sense_operator(geometry, maps, field_map=torch.full((1, 2, 2), 100.0))
    x = torch.zeros(1, 2, 2, dtype=torch.complex128)
    x[0, 1, 1] = 2
    assert torch.allclose(A(x), torch.tensor([1, -1j], dtype=A(x).dtype), atol=1e-10)


def test_cartesian_readouts_take_time_too() -> None:
    geometry = Cartesian(mask=np.ones((7, 6), dtype=bool), times=TIMES)
    maps = random(Space((3, 2, 7, 6), complex=True))
    A = sense_operator(geometry, maps, field_map=field(3, 7, 6))
    assert isinstance(A, OffResonance)
    x = random(A.domain)
    assert distance(A(x).flatten(), matrix(A) @ x.flatten()) < 2e-5
    with pytest.raises(InconsistentError, match="as many times"):
        Cartesian(mask=np.ones((7, 5), dtype=bool), times=TIMES)


def test_only_where_coils_see_the_field_has_to_be_right() -> None:
    shape = (1, 2, 7, 5)
    maps = random(Space(shape, complex=True))
    maps[..., 0] = 0
    f = field(1, 7, 5) / 10
    f[..., 0] = 1e9
    geometry = noncartesian("slices odd").geometry
    A = sense_operator(geometry, maps, field_map=f)
    assert isinstance(A, OffResonance)
    assert len(A.segments) < 10
    x = random(A.domain)
    assert distance(A(x).flatten(), matrix(A) @ x.flatten()) < 1e-5


def test_what_does_not_fit_is_refused() -> None:
    operator = noncartesian("slices odd")
    f = field(3, 7, 5)
    with pytest.raises(InconsistentError, match="shape"):
        OffResonance(operator, f[:2], TIMES)
    with pytest.raises(InconsistentError, match="real"):
        OffResonance(operator, f + 0j, TIMES)
    with pytest.raises(InconsistentError, match="6 samples"):
        OffResonance(operator, f, TIMES[:5])
    with pytest.raises(InconsistentError, match="finite"):
        OffResonance(operator, f * math.nan, TIMES)
    with pytest.raises(InconsistentError, match="support"):
        OffResonance(operator, f, TIMES, support=torch.ones(2, 2, 2).bool())
    with pytest.raises(InconsistentError, match="unit"):
        OffResonance(operator, f * 1e4, TIMES)
    with pytest.raises(InconsistentError, match="error"):
        OffResonance(operator, f, TIMES, error=1e-17)
