"""Adaptive combination, the maps of Walsh and JSENSE, and maps that the user brings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.calibration.coils import Method, adaptive_combine, coil_combine, estimate_maps, rss
from medrecon.calibration.given import check_maps
from medrecon.calibration.walsh import walsh
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image
from tests.calibration.test_coils import kspace_of, lines, object_and_coils, unexplained


def volume(noise: float) -> tuple[Tensor, Tensor, Tensor]:
    """Image, maps and noisy coil images of ``(coils, 6, 48, 40)``."""
    image, maps = object_and_coils((48, 40), 5)
    images = torch.stack(
        [kspace_to_image(kspace_of(image, maps, 1e-9), (-2, -1)) * (1 + z) for z in range(6)], 1
    )
    generator = torch.Generator().manual_seed(3)
    noisy = images + noise * torch.randn(images.shape, dtype=images.dtype, generator=generator)
    return image, maps, noisy


def test_the_direction_is_the_leading_eigenvector_of_the_covariance_around_a_voxel() -> None:
    _, _, images = volume(0.1)
    maps, share = walsh(images.to(torch.complex128))
    z, y, x = 3, 20, 1  # at the rim the neighbourhood is cut
    around = images[:, z - 2 : z + 3, y - 2 : y + 3, 0 : x + 3].flatten(1).to(torch.complex128)
    values, vectors = torch.linalg.eigh(around @ around.mH)
    assert math.isclose(float((vectors[:, -1].conj() @ maps[:, z, y, x]).abs()), 1, abs_tol=1e-6)
    assert math.isclose(float(share[z, y, x]), float(values[-1] / values.sum()), rel_tol=1e-6)


def test_slabs_that_fit_the_memory_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, images = volume(0.1)
    whole, _ = walsh(images.to(torch.complex128))
    monkeypatch.setattr("medrecon.calibration.walsh._CHUNK", 2 * 15 * 48 * 40)
    parts, _ = walsh(images.to(torch.complex128))
    assert torch.allclose((whole.conj() * parts).sum(dim=0).abs(), torch.ones(()).double())


@pytest.mark.parametrize("axis", [0, 1])
def test_adaptive_combination_has_less_noise_than_root_sum_of_squares(axis: int) -> None:
    image, _, images = volume(0.2)
    combined = adaptive_combine(images.movedim(0, axis), axis)
    truth = image.abs() * torch.arange(1, 7)[:, None, None]
    assert combined.shape == truth.shape
    ours = float((combined.abs() - truth).norm())
    theirs = float((rss(images.movedim(0, axis), axis) - truth).norm())
    assert ours < 0.75 * theirs


def test_adaptive_combination_is_that_of_true_maps_where_there_is_no_noise() -> None:
    image, maps = object_and_coils((48, 40), 5)
    combined = adaptive_combine(maps * image, 0)
    support = image.abs() > 0.05
    assert torch.allclose(combined.abs()[support], image.abs()[support], rtol=0.02)


@pytest.mark.parametrize(("method", "bound"), [("walsh", 0.05), ("jsense", 0.04)])
def test_other_methods_explain_the_coil_images(method: Method, bound: float) -> None:
    shape = (64, 56)
    image, truth = object_and_coils(shape, 6)
    mask = lines(shape, 24)
    kspace = kspace_of(image, truth)[None] * torch.from_numpy(mask)
    maps = estimate_maps(kspace, Cartesian(mask=mask), method=method, noise_std=0.004)
    support = image.abs() > 0.05
    assert unexplained(maps[0], truth * image, support) < bound
    assert torch.allclose(rss(maps, 1)[0][support], torch.ones(int(support.sum())), atol=1e-4)
    combined = coil_combine(truth * image, maps[0], 0)
    flat = estimate_maps(kspace, Cartesian(mask=mask), noise_std=0.004)
    phase = combined * coil_combine(truth * image, flat[0], 0).conj()
    assert float(phase[support].angle().abs().median()) < 0.05  # one convention for all


def test_given_maps_are_checked() -> None:
    maps = torch.ones(3, 4, 5, 6, dtype=torch.complex128)
    assert check_maps(maps, (3, 4, 5, 6)).dtype == torch.complex64
    assert check_maps(maps[None].expand(2, -1, -1, -1, -1), (3, 4, 5, 6)).shape[0] == 2
    with pytest.raises(InconsistentError, match=r"need complex .* = \(3, 4, 5, 6\)"):
        check_maps(maps[:, :3], (3, 4, 5, 6))
    with pytest.raises(InconsistentError, match="complex"):
        check_maps(maps.real, (3, 4, 5, 6))
    with pytest.raises(InconsistentError, match="zero everywhere"):
        check_maps(0 * maps, (3, 4, 5, 6))
    maps[0, 0, 0, 0] = np.nan
    with pytest.raises(InconsistentError, match="NaN"):
        check_maps(maps, (3, 4, 5, 6))
