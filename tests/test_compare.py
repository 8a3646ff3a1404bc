"""Metrics against their definitions."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medrecon.compare import compare, compare_tensors
from medrecon.errors import InconsistentError, UsageError
from medrecon.grid import Grid
from medrecon.volume import Unit, Volume


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(3)
    reference = torch.rand(13, 20, 24, generator=generator, dtype=torch.float64)
    return reference + 0.1 * torch.randn(reference.shape, generator=generator), reference


def ssim_by_definition(a, b, data_range):
    """Wang et al. 2004, equation 13, averaged over the mirrored image."""

    def mean(v):
        return gaussian_filter(v, 1.5, truncate=5 / 1.5, mode="mirror")

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2
    cov = mean(a * b) - mu_a * mu_b
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    score = (2 * mu_a * mu_b + c1) * (2 * cov + c2)
    score /= (mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2)
    return score.mean()


def test_psnr_and_nrmse_are_their_formulas(pair):
    image, reference = pair
    metrics = compare_tensors(image, reference, 2.0)
    error = image - reference
    assert metrics.psnr == pytest.approx(10 * math.log10(4 / float((error**2).mean())))
    assert metrics.nrmse == pytest.approx(float(error.norm() / reference.norm()))
    assert metrics.data_range == 2.0


@pytest.mark.parametrize(("plane", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_ssim_of_each_plane_is_its_definition(pair, plane, axis):
    image, reference = (v.movedim(axis, 0).numpy() for v in pair)
    expected = np.mean(
        [ssim_by_definition(a, b, 1.0) for a, b in zip(image, reference, strict=True)]
    )
    metrics = compare_tensors(*pair, 1.0)
    assert metrics.ssim_per_plane[plane] == pytest.approx(expected, rel=1e-6)


def test_equal_volumes_are_perfect_and_still_strict_json(pair):
    metrics = compare_tensors(pair[1], pair[1], 1.0)
    assert (metrics.psnr, metrics.nrmse) == (math.inf, 0)
    assert metrics.ssim == pytest.approx(1)
    assert metrics.as_json()["psnr"] is None


def test_planes_thinner_than_the_window_are_left_out(pair):
    metrics = compare_tensors(*(v[:4] for v in pair), 1.0)
    assert set(metrics.ssim_per_plane) == {"axial"}


def test_the_default_range_is_that_of_the_reference(pair):
    grid = Grid.centred((13, 20, 24), (1.0, 1.0, 1.0))
    image, reference = (Volume(v, grid, Unit.ARBITRARY) for v in pair)
    metrics = compare(image, reference)
    assert metrics.data_range == float(pair[1].max() - pair[1].min())


def test_volumes_that_lie_elsewhere_are_not_compared(pair):
    grid = Grid.centred((13, 20, 24), (1.0, 1.0, 1.0))
    moved = Grid.centred((13, 20, 24), (1.0, 1.0, 1.0), (0.0, 0.5, 0.0))
    with pytest.raises(InconsistentError, match=r"0\.5 mm apart"):
        compare(Volume(pair[0], grid, Unit.HU), Volume(pair[1], moved, Unit.HU))


def test_impossible_comparisons_are_refused(pair):
    with pytest.raises(InconsistentError, match="shapes"):
        compare_tensors(pair[0][1:], pair[1], 1.0)
    with pytest.raises(InconsistentError, match="zero everywhere"):
        compare_tensors(pair[0], torch.zeros_like(pair[1]), 1.0)
    for data_range in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="data range"):
            compare_tensors(*pair, data_range)
