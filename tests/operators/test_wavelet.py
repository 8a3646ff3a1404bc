"""Wavelets and blocks of series: the contract, PyWavelets, and that nothing is lost."""

import numpy as np
import pytest
import pywt
import torch

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.patches import SeriesBlocks
from medrecon.operators.shifted_wavelets import ShiftedWavelets, interleaved_shifts
from medrecon.operators.wavelet import Wavelet
from tests.contracts import CHECKS, distance, name, random

EVEN = Wavelet(Space((2, 32, 24), complex=True), (-2, -1), "db2", 2)
ODD = Wavelet(Space((2, 17, 30), complex=True), (-2, -1), "db4", 2)
VOLUME = Wavelet(Space((6, 18, 24)), (-3, -2, -1), "haar", 3)
OPERATORS = [
    EVEN,
    ODD,
    VOLUME,
    ShiftedWavelets(EVEN, interleaved_shifts(4, 2, 2)),
    ShiftedWavelets(VOLUME, interleaved_shifts(3, 3, 3)),
    SeriesBlocks(Space((3, 2, 8, 12), complex=True), (1, 4, 4), 2),
    SeriesBlocks(Space((3, 5, 7, 9)), (4, 4, 4), 3),
]


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("operator", OPERATORS, ids=name)
def test_wavelets_and_blocks_keep_the_contract(operator, check):
    check(operator)


@pytest.mark.parametrize("operator", OPERATORS, ids=name)
def test_nothing_is_lost_and_lengths_are_kept(operator):
    x = random(operator.domain)
    y = operator(x)
    assert distance(operator.adjoint(y), x) < 1e-12
    assert float(y.norm() / x.norm()) == pytest.approx(1, abs=1e-12)


def test_without_padding_the_transform_is_orthonormal_both_ways():
    y = random(EVEN.codomain)
    assert EVEN.codomain == EVEN.domain
    assert distance(EVEN(EVEN.adjoint(y)), y) < 1e-12


@pytest.mark.parametrize(
    ("wavelet", "levels"),
    [("haar", 4), ("db2", 3), ("db4", 2), ("sym5", 1), ("coif1", 2), ("db7", 1)],
)
@pytest.mark.parametrize("shape", [(64, 48), (32, 48, 64)])
def test_coefficients_are_those_of_pywavelets(wavelet, levels, shape):
    W = Wavelet(Space(shape), tuple(range(-len(shape), 0)), wavelet, levels)
    x = random(W.domain)
    peer, where = _of_pywavelets(x, wavelet, levels)
    assert np.abs(W(x).numpy() - peer).max() < 1e-12
    smooth = np.zeros(shape, dtype=bool)
    smooth[where] = True
    assert np.array_equal(~W.details.numpy(), smooth)


def test_odd_sizes_are_continued_by_zeros():
    x = random(Space((33, 30), complex=True))
    W = Wavelet(Space((33, 30), complex=True), (-2, -1), "db2", 2)
    peer, _ = _of_pywavelets(torch.nn.functional.pad(x, (0, 2, 0, 3)), "db2", 2)
    assert np.abs(W(x).numpy() - peer).max() < 1e-12


def _of_pywavelets(x, wavelet, levels):
    """The peer's coefficients in one array, and where the smooth ones stand."""
    parts = pywt.wavedecn(x.numpy(), wavelet, mode="periodization", level=levels)
    array, where = pywt.coeffs_to_array(parts)
    return array, where[0]


def test_short_axes_have_fewer_levels_than_long_ones():
    assert Wavelet(Space((6, 256, 256)), (-3, -2, -1), "db2", 5).codomain.shape == (6, 256, 256)
    details = Wavelet(Space((6, 256, 256)), (-3, -2, -1), "db2", 5).details
    assert int((~details).sum()) == 3 * 8 * 8


def test_smooth_images_have_only_smooth_coefficients():
    y = Wavelet(Space((64, 64)), (-2, -1), "db4", 3)(torch.ones(64, 64, dtype=torch.float64))
    details = Wavelet(Space((64, 64)), (-2, -1), "db4", 3).details
    assert float(y[details].abs().max()) < 1e-12
    assert torch.allclose(y[~details], torch.tensor(8.0, dtype=torch.float64))


def test_shifts_move_every_level_by_all_parities_once():
    for axes, levels in ((2, 4), (3, 3)):
        shifts = np.array(interleaved_shifts(1 << axes, axes, levels))
        for level in range(levels):
            bits = {tuple(row) for row in (shifts >> level) & 1}
            assert len(bits) == 1 << axes
        assert not shifts[0].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (((-4,), "db4", 2), "not axes"),
        (((1,), "db4", 2), "counted"),
        (((-1,), "bior2.2", 2), "no orthogonal wavelet"),
        (((-1,), "db99", 2), "no orthogonal wavelet"),
        (((-3,), "db4", 2), "do not fit"),
        (((-1,), "db4", 0), "do not fit"),
    ],
)
def test_transforms_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InconsistentError, match=message):
        Wavelet(Space((4, 32, 32)), *settings)


def test_blocks_of_a_series_are_its_voxels_by_frame():
    B = SeriesBlocks(Space((2, 1, 4, 4)), (1, 2, 2), 1)
    x = torch.arange(32.0).reshape(2, 1, 4, 4)
    first, second = B(x)[0, 0], B(x)[0, 1]
    assert torch.equal(first, torch.tensor([[0.0, 1, 4, 5], [16, 17, 20, 21]]))
    assert torch.equal(second, torch.tensor([[2.0, 3, 6, 7], [18, 19, 22, 23]]))


def test_frames_of_a_wrong_number_of_axes_are_refused():
    with pytest.raises(InconsistentError, match="SeriesBlocks"):
        SeriesBlocks(Space((2, 4, 4)), (1, 2, 2))
    with pytest.raises(InconsistentError, match="8 shifts"):
        interleaved_shifts(9, 3, 2)
