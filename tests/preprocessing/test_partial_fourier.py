from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image
from medrecon.preprocessing.partial_fourier import (
    filled_mask,
    homodyne,
    partial_fourier_axis,
    pocs,
    zero_fill,
)

Fill = Callable[..., Tensor]

# encoded shape, axis, measured range: both sides, every axis, even and odd, 2D and 3D
SCANS = [
    ((64, 48), -2, 20, 64),
    ((65, 47), -2, 0, 45),
    ((64, 48), -1, 0, 33),
    ((65, 47), -1, 14, 47),
    ((24, 21, 22), -3, 7, 24),
    ((21, 24, 23), -2, 0, 17),
]


def mask_of(shape: tuple[int, ...], axis: int, low: int, high: int) -> Tensor:
    mask = torch.zeros(shape, dtype=torch.bool)
    mask.movedim(axis, 0)[low:high] = True
    return mask


def body(shape: tuple[int, ...], phase: float) -> tuple[Tensor, Tensor]:
    """Coil images ``(2, *shape)`` with sharp edges and smooth phases, and the k-space of them."""
    grid = torch.meshgrid(
        *[torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape], indexing="ij"
    )
    radius = torch.stack(grid).square().sum(0)
    magnitude = (radius < 0.7).double() + 0.5 * ((grid[0] - 0.2) ** 2 + grid[1] ** 2 < 0.1)
    bend = phase * (grid[0] + 0.8 * grid[1] ** 2)
    image = torch.stack([magnitude * torch.exp(1j * bend), 2 * magnitude * torch.exp(-0.5j * bend)])
    return image, image_to_kspace(image, encoded(shape))


def encoded(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(-len(shape), 0))


def error(kspace: Tensor, image: Tensor) -> float:
    difference = kspace_to_image(kspace, encoded(tuple(image.shape[1:]))) - image
    return float(difference.norm() / image.norm())


@pytest.mark.parametrize(("shape", "axis", "low", "high"), SCANS)
@pytest.mark.parametrize("fill", [homodyne, pocs])
def test_a_real_image_is_recovered_exactly(
    fill: Fill, shape: tuple[int, ...], axis: int, low: int, high: int
) -> None:
    image, kspace = body(shape, 0.0)
    mask = mask_of(shape, axis, low, high)
    # k = -n/2 of an even axis is its own mirror: an image without it can be known completely
    if shape[axis] % 2 == 0:
        kspace.movedim(axis, 0)[0] = 0
        image = kspace_to_image(kspace, encoded(shape)).real + 0j
        kspace = image_to_kspace(image, encoded(shape))
        kspace.movedim(axis, 0)[0] = 0
    measured = kspace * mask
    assert error(measured, image) > 0.02
    more = {"iterations": 40} if fill is pocs else {}
    assert error(fill(measured, mask, encoded(shape), **more), image) < 1e-6


@pytest.mark.parametrize(("shape", "axis", "low", "high"), SCANS[:4])
def test_an_image_of_smooth_phase_is_recovered_far_better_than_by_zeros(
    shape: tuple[int, ...], axis: int, low: int, high: int
) -> None:
    image, kspace = body(shape, 1.0)
    mask = mask_of(shape, axis, low, high)
    measured = kspace * mask
    zeros = error(measured, image)
    assert error(homodyne(measured, mask, encoded(shape)), image) < 0.35 * zeros
    found = error(pocs(measured, mask, encoded(shape)), image)
    assert found < 0.25 * zeros
    assert found < 0.02


@pytest.mark.parametrize(("shape", "axis", "low", "high"), SCANS)
def test_projections_keep_measured_samples(
    shape: tuple[int, ...], axis: int, low: int, high: int
) -> None:
    _, kspace = body(shape, 1.0)
    noise = torch.randn(
        kspace.shape, dtype=kspace.dtype, generator=torch.Generator().manual_seed(0)
    )
    kspace = kspace + 0.1 * noise
    mask = mask_of(shape, axis, low, high)
    assert torch.equal((pocs(kspace, mask, encoded(shape), iterations=5) * mask), kspace * mask)


def test_both_axes_may_be_partial_for_projections() -> None:
    shape = (65, 47)
    image, kspace = body(shape, 0.0)
    mask = mask_of(shape, -2, 18, 65) & mask_of(shape, -1, 0, 35)
    measured = kspace * mask
    assert error(pocs(measured, mask, (-2, -1)), image) < 0.5 * error(measured, image)


def test_coils_and_slices_are_filled_each_by_its_own_mask() -> None:
    shape = (64, 48)
    image, kspace = body(shape, 1.0)
    masks = torch.stack([mask_of(shape, -2, 20, 64), mask_of(shape, -2, 16, 64)])
    stack = torch.stack([kspace, kspace])  # (z, coils, y, x)
    # what is common to all slices is what the phase is taken from
    together = pocs(stack * masks[:, None], masks[:, None], (-2, -1))
    assert error(together[0], image) < 0.02
    assert error(together[1], image) < 0.02
    assert torch.equal(together * masks[:, None], stack * masks[:, None])


@pytest.mark.parametrize("n", [64, 65])
@pytest.mark.parametrize("low_side", [True, False])
def test_the_partial_axis_is_found_with_its_share(n: int, low_side: bool) -> None:
    lines = 49 if n == 65 else 48
    cut = (n - lines, n) if low_side else (0, lines)
    found = partial_fourier_axis(mask_of((20, n), -1, *cut).numpy())
    assert found is not None
    assert found[0] == -1
    assert found[1] == pytest.approx(0.75, abs=0.005)
    assert partial_fourier_axis(mask_of((20, n, 6), -2, *cut)) == (-2, found[1])


def test_the_most_partial_of_several_axes_is_named() -> None:
    mask = mask_of((64, 64), -2, 8, 64) & mask_of((64, 64), -1, 0, 44)
    assert partial_fourier_axis(mask) == (-1, 44 / 64)


def test_complete_undersampled_and_low_resolution_scans_are_not_partial() -> None:
    assert partial_fourier_axis(np.ones((5, 6), dtype=bool)) is None
    every_fourth = mask_of((128, 32), -2, 0, 128)
    every_fourth[torch.arange(128) % 4 > 0] = False
    assert partial_fourier_axis(every_fourth) is None
    assert partial_fourier_axis(mask_of((128, 32), -2, 32, 96)) is None
    rng = np.random.default_rng(0)
    assert partial_fourier_axis(rng.random((128, 128)) < 0.2) is None


@pytest.mark.parametrize("fill", [homodyne, pocs])
def test_a_complete_scan_stays_as_it_is(fill: Fill) -> None:
    _, kspace = body((20, 22), 1.0)
    assert torch.equal(fill(kspace, torch.ones(20, 22, dtype=torch.bool), (-2, -1)), kspace)


@pytest.mark.parametrize("fill", [homodyne, pocs])
def test_gaps_and_a_side_without_samples_are_refused(fill: Fill) -> None:
    _, kspace = body((64, 48), 1.0)
    mask = mask_of((64, 48), -2, 16, 64)
    mask[::2] = False
    with pytest.raises(InconsistentError, match="gaps"):
        fill(kspace, mask, (-2, -1))
    with pytest.raises(InconsistentError, match="short side"):
        fill(kspace, mask_of((64, 48), -2, 30, 64), (-2, -1))
    with pytest.raises(InconsistentError, match="does not fit"):
        fill(kspace, mask_of((60, 48), -2, 30, 60), (-2, -1))


def test_cut_corners_are_no_gaps() -> None:
    image, kspace = body((65, 65), 0.0)
    y, x = torch.meshgrid(torch.arange(65) - 32, torch.arange(65) - 32, indexing="ij")
    ellipse = (x**2 + y**2 <= 32**2).expand(65, 65)
    whole = kspace * ellipse
    mask = ellipse & (y > -12)
    filled = pocs(kspace * mask, mask, (-2, -1), iterations=40)
    known = torch.from_numpy(filled_mask(mask))
    assert torch.equal(known, ellipse)
    assert float((filled - whole).norm() / whole.norm()) < 1e-6
    assert error(filled, image) < 0.1


@pytest.mark.parametrize("n", [8, 9])
def test_what_is_known_after_filling_is_what_conjugate_symmetry_tells(n: int) -> None:
    mask = mask_of((n, n), -2, n // 2 - 1, n)
    known = filled_mask(mask)
    rng = np.random.default_rng(1)
    measured = image_to_kspace(torch.from_numpy(rng.standard_normal((n, n))) + 0j, (-2, -1))
    # all real images: the measured samples and their conjugates at the mirrored places
    for y in range(n):
        for x in range(n):
            mirror = ((2 * (n // 2) - y) % n, (2 * (n // 2) - x) % n)
            assert known[y, x] == bool(mask[y, x] | mask[mirror])
            assert torch.isclose(measured[y, x], measured[mirror].conj())


def test_a_soft_edge_takes_ringing_away() -> None:
    image = torch.zeros(1, 128, 4, dtype=torch.complex128)
    image[:, 57:72] = 1
    band = torch.cos(torch.pi * (torch.arange(128) - 64) / 128) ** 2  # only one edge shall ring
    kspace = image_to_kspace(image, (-2, -1)) * band[:, None]
    mask = mask_of((128, 4), -2, 40, 128)
    hard = zero_fill(kspace, mask, (-2, -1))
    assert torch.equal(hard, kspace * mask)
    soft = zero_fill(kspace, mask, (-2, -1), transition=16)
    assert torch.equal(soft[:, 56:], hard[:, 56:])
    far = [float(kspace_to_image(k, (-2, -1))[:, :30].abs().mean()) for k in (hard, soft)]
    assert far[1] < 0.2 * far[0]
