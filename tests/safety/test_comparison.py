"""Which image is nearer the truth, told by what neither has seen."""

import math

import pytest
import torch

from medrecon.data_term import DataTerm
from medrecon.safety.comparison import Comparison, compare, visible_error
from medrecon.safety.held_out import HeldOut
from medrecon.safety.leaning import FULL, Leaning, lean
from tests.sampling.dense import Dense

SIZE = (8, 8)


def _held(rows, precision, *, is_complex=False, seed=0, noisy=False, correlated=False):
    """A test of random (or of smooth) rows, and the truth behind it."""
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if is_complex else torch.float64
    matrix = torch.randn(rows, 64, generator=generator, dtype=dtype)
    if correlated:
        scales = torch.ones(rows, dtype=torch.float64)
        scales[-1] = 30.0
        matrix = scales[:, None] * torch.linalg.qr(matrix.mT)[0].mT
    truth = torch.randn(3, *SIZE, generator=generator, dtype=dtype)
    A = Dense(matrix, 3, SIZE)
    y = A(truth)
    if noisy:
        noise = torch.randn(y.shape, generator=generator, dtype=torch.float64)
        y = y + noise / math.sqrt(precision)
    data = DataTerm(A, y, precision)
    return HeldOut(data, data, (1,), torch.ones(rows, dtype=torch.bool), rows), truth, generator


@pytest.mark.parametrize("is_complex", [False, True])
def test_data_that_see_everything_give_the_exact_share_and_errors(is_complex):
    held, truth, generator = _held(800, 1e8, is_complex=is_complex)
    first = truth + 0.3 * torch.randn(truth.shape, generator=generator, dtype=truth.dtype)
    second = truth + 0.2 * torch.randn(truth.shape, generator=generator, dtype=truth.dtype)
    found = compare(held, first, second, generator)
    d = second - first
    share = float((d.conj() * (truth - first)).real.sum() / d.abs().square().sum())
    channels = 2 if is_complex else 1
    assert found.weight == pytest.approx(share, abs=1e-3)
    for image, error in ((first, found.error(0)), (second, found.error(1))):
        exact = float((image - truth).abs().square().mean()) / channels
        assert error == pytest.approx(exact, rel=0.01)
    assert found.gain_db() == pytest.approx(-10 * math.log10(found.error(1) / found.error(0)))


def test_few_rows_are_right_within_their_standard_error():
    shares, deviations, exact = [], [], []
    for seed in range(12):
        held, truth, generator = _held(16, 1e6, seed=seed)
        first = truth + 0.3 * torch.randn(truth.shape, generator=generator, dtype=truth.dtype)
        second = truth + 0.2 * torch.randn(truth.shape, generator=generator, dtype=truth.dtype)
        found, d = compare(held, first, second, generator), second - first
        shares.append(found.weight)
        deviations.append(found.deviation)
        exact.append(float((d * (truth - first)).sum() / d.square().sum()))
    off = (torch.tensor(shares) - torch.tensor(exact)) / torch.tensor(deviations)
    assert 0.4 < float(off.square().mean().sqrt()) < 2.0


def test_noise_in_the_test_is_not_an_error_of_the_images():
    found = []
    for seed in range(20):
        held, truth, generator = _held(48, 1.0, seed=seed, noisy=True)
        first = truth + 0.3 * torch.randn(truth.shape, generator=generator, dtype=truth.dtype)
        second = truth + 0.3 * torch.randn(truth.shape, generator=generator, dtype=truth.dtype)
        found.append(compare(held, first, second, generator).error(0) / 0.09)
    assert 0.7 < sum(found) / len(found) < 1.3


def test_rows_of_very_different_scale_count_alike():
    # the second image is better in one strong direction and worse in the fifteen others
    held, truth, generator = _held(16, 1e8, correlated=True)
    rows = held.test.operator.matrix
    unit = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)

    def wrong(values):
        return truth + (torch.as_tensor(values, dtype=truth.dtype) @ unit).view(1, *SIZE)

    first = wrong([0.1] * 15 + [0.3])
    second = wrong([0.3] * 15 + [0.0])
    assert held.test.misfit(second) < held.test.misfit(first)
    assert compare(held, first, second, generator).gain_db() < -5
    errors = [visible_error(held, image, 0.05) for image in (first, second)]
    assert errors[0] < errors[1]


def test_equal_images_lean_on_the_first():
    held, truth, generator = _held(16, 1.0)
    found = compare(held, truth, truth.clone(), generator)
    assert lean(found) == Leaning(0.0, 0.0)


@pytest.mark.parametrize(
    ("weight", "deviation", "share"),
    [(1.1, 0.05, 1.0), (0.6, 0.2, 0.35), (0.1, 0.05, 0.0), (-1.0, 0.1, 0.0), (0.9, 9.0, 0.0)],
)
def test_doubt_is_in_favour_of_total_variation(weight, deviation, share):
    leaning = lean(Comparison(1.0, weight * 0.5, 0.5, deviation))
    assert leaning.share == pytest.approx(share)
    assert leaning.share == 1 or leaning.share < FULL
    if 0 < share < 1:
        assert leaning.expected_db > 0


def test_a_blend_lies_between_and_a_full_share_is_the_very_image():
    tv, sampled = torch.zeros(2, 3, 3), torch.ones(2, 3, 3)
    assert torch.equal(Leaning(0.25, 1.0)(tv, sampled), torch.full((2, 3, 3), 0.25))
    assert Leaning(1.0, 1.0)(tv, sampled) is sampled
    assert torch.equal(Leaning(0.0, 0.0)(tv, sampled), tv)
