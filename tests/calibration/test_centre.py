"""Cartesian calibration data from trajectories, against Cartesian samples of the same object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.calibration.centre import cartesian_centre
from medrecon.calibration.coils import estimate_maps, rss
from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian
from medrecon.geometry.kspace import image_to_kspace
from medrecon.grid import Grid
from medrecon.operators.noncartesian import NonCartesianSense
from medrecon.simulate_mr import coil_sensitivities
from medrecon.trajectories import koosh, radial, spiral, stack
from tests.calibration.test_coils import unexplained

COILS = 6


def scene(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Image ``(z, y, x)`` of an ellipsoid with texture, and maps ``(coils, z, y, x)``."""
    z, y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = ((y**2 + x**2 / 0.6 + z**2 / 4) < 0.7) * (1 + 0.4 * torch.cos(7 * x + 5 * y)) + 0j
    return image, coil_sensitivities(Grid.centred(shape, (1.0, 1.0, 1.0)), COILS)


def measure(image: Tensor, maps: Tensor, geometry: NonCartesian) -> Tensor:
    layout = maps if geometry.is_3d else maps.transpose(0, 1).contiguous()
    y = NonCartesianSense(layout, geometry)(image)
    generator = torch.Generator().manual_seed(0)
    return y + 0.002 * torch.randn(y.shape, dtype=y.dtype, generator=generator)


@pytest.mark.parametrize(
    ("geometry", "shape"),
    [
        (radial((64, 56), 96, 128), (2, 64, 56)),
        (radial((64, 64), 55, 128, golden=True), (1, 64, 64)),
        (spiral((64, 64), 16, 800), (1, 64, 64)),
        (stack(radial((48, 48), 80, 96), np.arange(12) % 5 != 0), (12, 48, 48)),
        (koosh((24, 24, 24), 3000, 48), (24, 24, 24)),
    ],
    ids=["radial", "golden", "spiral", "stack", "koosh"],
)
def test_the_centre_is_what_a_cartesian_scan_measures(
    geometry: NonCartesian, shape: tuple[int, int, int]
) -> None:
    image, maps = scene(shape)
    axes = (-3, -2, -1) if geometry.is_3d else (-2, -1)
    truth = image_to_kspace(maps * image, axes)
    if not geometry.is_3d:
        truth = truth.transpose(0, 1)
    found = cartesian_centre(measure(image, maps, geometry), geometry, shape)
    assert found.shape == truth.shape
    there = (found != 0).any(dim=geometry.coil_axis)
    lines = min(int(n) for n in (there.nonzero().amax(0) - there.nonzero().amin(0) + 1)[-2:])
    assert lines >= (14 if geometry.trajectory.shape[-1] == 3 else 19)  # the cube in a ball
    error = (found - truth * (found != 0)).norm() / (truth * (found != 0)).norm()
    assert float(error) < 0.02


@pytest.mark.parametrize("method", ["espirit", "walsh"])
def test_maps_follow_from_a_trajectory_as_from_a_cartesian_scan(method: str) -> None:
    geometry, shape = radial((64, 64), 80, 128), (1, 64, 64)
    image, maps = scene(shape)
    kspace = measure(image, maps, geometry)
    found = estimate_maps(kspace, geometry, shape, method=method)  # type: ignore[arg-type]
    support = image[0].abs() > 0
    assert found.shape == (1, COILS, 64, 64)
    bound = {"espirit": 0.01, "walsh": 0.05}[method]
    assert unexplained(found[0], (maps * image)[:, 0], support) < bound
    assert bool((rss(found, 1)[0][support] > 0.99).all())


def test_maps_follow_from_a_stack() -> None:
    geometry, shape = stack(radial((40, 40), 64, 80), np.ones(10, dtype=bool)), (10, 40, 40)
    image, maps = scene(shape)
    found = estimate_maps(measure(image, maps, geometry), geometry, shape, noise_std=0.002)
    assert found.shape == maps.shape
    assert unexplained(found, maps * image, image.abs() > 0) < 0.02


def test_trajectories_without_a_centre_are_refused() -> None:
    geometry = radial((64, 64), 64, 128)
    kspace = torch.ones(1, 4, 64, 128, dtype=torch.complex64)
    with pytest.raises(InconsistentError, match="shape of the image"):
        estimate_maps(kspace, geometry)
    with pytest.raises(InconsistentError, match="do not fit a trajectory"):
        cartesian_centre(kspace[..., :-1], geometry, (1, 64, 64))
    outside = NonCartesian(trajectory=geometry.trajectory[:, :40])
    with pytest.raises(InconsistentError, match="no sample near the centre"):
        cartesian_centre(kspace[..., :40], outside, (1, 64, 64))
    few = radial((64, 64), 6, 128)
    with pytest.raises(InconsistentError, match="at least 8 fully sampled lines"):
        estimate_maps(torch.ones(1, 4, 6, 128, dtype=torch.complex64), few, (1, 64, 64))
