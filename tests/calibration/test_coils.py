from __future__ import annotations

import math

import numpy as np
import pytest
import sigpy as sp
import sigpy.mri
import torch
from torch import Tensor

from medrecon.calibration.coils import coil_combine, estimate_maps, rss
from medrecon.calibration.noise import estimate_noise
from medrecon.calibration.region import calibration_region
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image

NOISE = 0.004


def object_and_coils(shape: tuple[int, int], coils: int) -> tuple[Tensor, Tensor]:
    """Shepp-Logan with a smooth phase, and birdcage maps of unit norm."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = torch.from_numpy(sp.shepp_logan(shape, dtype=complex) * np.exp(1j * (x + y * x)))
    maps = torch.from_numpy(sigpy.mri.birdcage_maps((coils, *shape)))
    return image.to(torch.complex64), (maps / rss(maps, 0)).to(torch.complex64)


def kspace_of(image: Tensor, maps: Tensor, noise: float = NOISE) -> Tensor:
    clean = image_to_kspace(maps * image, (-2, -1))
    generator = torch.Generator().manual_seed(0)
    return clean + noise * torch.randn(clean.shape, dtype=clean.dtype, generator=generator)


def unexplained(maps: Tensor, coil_images: Tensor, support: Tensor) -> float:
    """``|(I - s s^H) y| / |y|`` inside the object: what the maps cannot express."""
    rest = coil_images - maps * coil_combine(coil_images, maps, 0)
    return float(rss(rest, 0)[support].norm() / rss(coil_images, 0)[support].norm())


def lines(shape: tuple[int, int], count: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[::4] = True
    mask[shape[0] // 2 - count // 2 : shape[0] // 2 - count // 2 + count] = True
    return mask


@pytest.mark.parametrize("shape", [(96, 80), (81, 95)])
def test_maps_explain_the_coil_images_as_well_as_those_of_sigpy(shape: tuple[int, int]) -> None:
    image, truth = object_and_coils(shape, 6)
    kspace = kspace_of(image, truth)
    mask = lines(shape, 24)
    ours = estimate_maps(
        (kspace * torch.from_numpy(mask))[None], Cartesian(mask=mask), noise_std=NOISE, crop=0
    )[0]
    theirs = torch.from_numpy(
        sigpy.mri.app.EspiritCalib(kspace.numpy(), crop=0, show_pbar=False).run()
    )
    coil_images = truth * image
    support = image.abs() > 0.05
    error = unexplained(ours, coil_images, support)
    assert error < 0.01
    assert error < unexplained(theirs, coil_images, support)


def test_maps_have_unit_norm_everywhere_and_no_holes() -> None:
    image, truth = object_and_coils((64, 48), 4)
    mask = lines((64, 48), 20)
    maps = estimate_maps(kspace_of(image, truth)[None], Cartesian(mask=mask), crop=0)
    assert torch.allclose(rss(maps, 1), torch.ones(1, 64, 48), atol=1e-4)


def test_crop_sets_maps_to_zero_only_outside_the_object() -> None:
    image, truth = object_and_coils((64, 48), 4)
    kspace = kspace_of(image, truth)[None]
    maps = estimate_maps(kspace, Cartesian(mask=lines((64, 48), 24)), noise_std=NOISE, crop=0.7)
    norm = rss(maps, 1)[0]
    assert bool((norm == 0).any())
    assert float(norm[image.abs() > 0.05].min()) > 0.99


def test_all_slices_share_one_phase_reference() -> None:
    image, truth = object_and_coils((64, 48), 4)
    turned = truth * torch.exp(torch.tensor(0.7j))
    both = torch.stack([kspace_of(image, truth), kspace_of(image, turned)])
    maps = estimate_maps(both, Cartesian(mask=lines((64, 48), 24)), noise_std=NOISE)
    support = image.abs() > 0.05
    difference = (maps[0] - maps[1]).abs()[:, support]
    assert float(difference.max()) < 1e-2


def test_3d_maps_are_calibrated_in_planes() -> None:
    shape, coils = (20, 24, 28), 4
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    ball = ((z**2 + y**2 + x**2) < 0.6).to(torch.complex64) * (1 + 0.3 * torch.cos(5 * x + 3 * y))
    corners = [(a, b, c) for a in (-1.5, 1.5) for b, c in ((-1.5, 0.0), (0.5, 1.5))]
    truth = torch.stack(
        [
            torch.exp(-((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) / 4 + 1j * (a * z + b * x))
            for a, b, c in corners
        ]
    )
    truth = truth / rss(truth, 0)
    kspace = image_to_kspace(truth * ball, (-3, -2, -1))
    mask = np.zeros(shape, dtype=bool)
    mask[:, ::2] = True
    mask[3:17, 4:20] = True
    maps = estimate_maps(
        kspace * torch.from_numpy(mask), Cartesian(mask=mask), noise_std=0.0, kernel=5
    )
    assert maps.shape == (coils, *shape)
    assert unexplained(maps, truth * ball, ball.abs() > 0) < 0.03


def test_too_few_calibration_lines_are_named() -> None:
    image, truth = object_and_coils((64, 48), 4)
    kspace = kspace_of(image, truth)[None]
    mask = lines((64, 48), 5)
    with pytest.raises(InconsistentError, match=r"at least 8 .* found 5"):
        estimate_maps(kspace, Cartesian(mask=mask))
    mask[32] = False
    with pytest.raises(InconsistentError, match="found 0"):
        estimate_maps(kspace, Cartesian(mask=mask))
    with pytest.raises(InconsistentError, match="all zero"):
        estimate_maps(kspace * 0, Cartesian(mask=lines((64, 48), 24)), noise_std=0.1)
    with pytest.raises(InconsistentError, match="does not fit"):
        estimate_maps(kspace, Cartesian(mask=np.ones((64, 47), dtype=bool)))


def test_the_calibration_region_is_the_full_box_around_the_centre() -> None:
    mask = lines((64, 48), 24)
    assert calibration_region(mask) == (slice(20, 45), slice(0, 48))
    box = np.zeros((33, 40), dtype=bool)
    box[10:22, 12:30] = True
    assert calibration_region(box) == (slice(10, 22), slice(12, 30))
    assert calibration_region(np.ones((4, 5, 6), dtype=bool)) == tuple(
        map(slice, [0] * 3, (4, 5, 6))
    )
    half = np.zeros((16, 16), dtype=bool)
    half[6:] = True  # partial Fourier
    assert calibration_region(half) == (slice(6, 16), slice(0, 16))
    assert calibration_region(~box) == (slice(16, 16), slice(20, 20))


def test_combining_with_the_true_maps_gives_the_image_back() -> None:
    image, maps = object_and_coils((32, 24), 5)
    assert torch.allclose(coil_combine(3 * maps * image, 3 * maps, 0), image, atol=1e-5)
    hole = maps.clone()
    hole[:, 3, 4] = 0
    assert coil_combine(maps * image, hole, 0)[3, 4] == 0
    assert torch.allclose(rss(maps * image, 0), image.abs(), atol=1e-5)


@pytest.mark.parametrize("noise", [0.002, 0.05, 3.0])
def test_noise_is_estimated_from_the_periphery(noise: float) -> None:
    image, maps = object_and_coils((128, 128), 4)
    mask = lines((128, 128), 24)
    kspace = kspace_of(image, maps, noise) * torch.from_numpy(mask)
    assert math.isclose(estimate_noise(kspace[None], mask), noise, rel_tol=0.1)
    whole = np.repeat(mask[None], 3, axis=0)
    volume = kspace[:, None].expand(4, 3, 128, 128)
    assert math.isclose(estimate_noise(volume, whole), noise, rel_tol=0.1)


def test_a_filter_at_the_edges_of_the_readout_does_not_hide_the_noise() -> None:
    """Scans without oversampling: their edges are quieter than the object."""
    noise = 0.2
    image, maps = object_and_coils((96, 96), 4)
    images = kspace_to_image(kspace_of(image, maps, noise), (-1,))
    position = torch.linspace(-1, 1, 96).abs()
    filtered = images * (1 - 0.8 * ((position - 0.7) / 0.3).clamp_min(0))
    kspace = image_to_kspace(filtered, (-1,))
    for mask in (np.ones((96, 96), dtype=bool), lines((96, 96), 24)):
        found = estimate_noise((kspace * torch.from_numpy(mask))[None], mask)
        assert math.isclose(found, noise, rel_tol=0.15)


def test_orthonormal_transforms_keep_the_noise_level() -> None:
    noise = torch.randn(
        2, 64, 63, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)
    )
    assert math.isclose(
        float(kspace_to_image(noise, (-2, -1)).abs().square().mean()), 1, rel_tol=0.05
    )
