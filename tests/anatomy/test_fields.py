"""Random fields have the laws they promise, in the plane and from slice to slice."""

import math

import pytest
import torch

from medrecon.anatomy.dice import Dice
from medrecon.anatomy.fields import along_z, bumps, filtered_noise
from medrecon.anatomy.frame import deformed_frame, plain_grid


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_mixed_slices_have_unit_variance_and_the_gaussian_correlation():
    noise = torch.randn(6, 200_000, generator=seeded())
    mixed = along_z(noise, slice_mm=2.0, length_mm=4.0)
    found = mixed @ mixed.T / mixed.shape[1]
    z = 2.0 * torch.arange(6)
    wanted = torch.exp(-0.5 * ((z[:, None] - z) / 4.0) ** 2)
    assert torch.allclose(found, wanted, atol=0.012)  # 5 / sqrt(200000)


def test_far_slices_are_left_alone():
    noise = torch.randn(4, 50, generator=seeded())
    assert torch.allclose(along_z(noise, 100.0, 1.0), noise, atol=1e-6)


@pytest.mark.parametrize(("coarsest", "finest"), [(0.0, 0.4), (0.0, 3.0), (6.0, 2.0)])
@pytest.mark.parametrize("shape", [(40, 64, 64), (40, 63, 50)])
def test_filtered_noise_has_unit_variance(coarsest, finest, shape):
    field = filtered_noise(seeded(), shape, coarsest=coarsest, finest=finest)
    assert field.shape == shape
    assert float(field.var()) == pytest.approx(1, abs=0.06)


def test_filtered_noise_is_correlated_as_its_gaussian_window_says():
    finest = 2.0
    field = filtered_noise(seeded(), (200, 64, 64), finest=finest)
    for lag in (1, 3):
        found = float((field * field.roll(lag, 2)).mean())
        # the window's transform squared is a Gaussian with twice the variance
        assert found == pytest.approx(math.exp(-(lag**2) / (4 * finest**2)), abs=0.02)


def test_bumps_pass_through_their_nodes():
    field = bumps(seeded(3), (1, 31, 31), 4, 1.0)
    nodes = torch.randn(1, 4, 4, generator=seeded(3))
    assert torch.allclose(field[:, ::10, ::10], nodes, atol=1e-3)


def test_the_dice_keep_their_promises():
    dice = Dice(seeded())
    draws = [dice.uniform(2, 5) for _ in range(5000)]
    assert min(draws) >= 2
    assert max(draws) < 5
    assert sum(draws) / 5000 == pytest.approx(3.5, abs=0.06)
    assert {dice.integer(1, 3) for _ in range(200)} == {1, 2, 3}
    assert sum(dice.chance(0.2) for _ in range(5000)) / 5000 == pytest.approx(0.2, abs=0.03)
    assert max(abs(dice.normal()) for _ in range(5000)) <= 2.5


def test_a_grid_is_centred_in_mm():
    grid = plain_grid((3, 4, 5), 2.0, 10.0, middle_mm=7.0)
    assert grid.z[:, 0, 0].tolist() == [-3.0, 7.0, 17.0]
    assert grid.y[0, :, 0].tolist() == [-3.0, -1.0, 1.0, 3.0]
    assert grid.x[0, 0].tolist() == [-4.0, -2.0, 0.0, 2.0, 4.0]


def frame(shape, slow, fine, shift=(0.0, 0.0), turn=0.0):
    return deformed_frame(
        seeded(5),
        shape,
        2.0,
        2.5,
        middle_mm=0.0,
        shift_mm=shift,
        turn=turn,
        slow_mm=slow,
        fine_mm=fine,
    )


def test_a_frame_without_deformation_is_the_shifted_turned_grid():
    places = frame((2, 20, 30), 0.0, 0.0, shift=(3.0, -4.0), turn=0.3).places
    grid = plain_grid((2, 20, 30), 2.0, 2.5)
    y, x = grid.y - 3, grid.x + 4
    assert torch.allclose(places.y, math.cos(0.3) * y - math.sin(0.3) * x, atol=1e-5)
    assert torch.allclose(places.x, math.sin(0.3) * y + math.cos(0.3) * x, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_a_deformation_of_the_size_in_use_never_folds(seed):
    places = deformed_frame(
        seeded(seed),
        (3, 128, 128),
        2.8,
        2.5,
        middle_mm=0.0,
        shift_mm=(0.0, 0.0),
        turn=0.0,
        slow_mm=6.0,
        fine_mm=1.3,
    ).places
    gradients = [torch.gradient(axis, spacing=2.8, dim=(1, 2)) for axis in (places.y, places.x)]
    (yy, yx), (xy, xx) = gradients
    assert float((yy * xx - yx * xy).min()) > 0


def test_a_box_holds_every_pixel_between_two_corners_and_none_is_none():
    body = frame((3, 40, 40), 5.0, 1.0)
    z, y, x = body.places
    inside = (y > -11) & (y < 3) & (x > 5) & (x < 20) & (z > -1)
    box = body.box((-1, -11, 5), (99, 3, 20))
    assert box is not None
    assert int(inside[box].sum()) == int(inside.sum()) > 0
    assert inside[box].numel() < inside.numel() / 2
    assert body.box((50, 0, 0), (60, 1, 1)) is None
