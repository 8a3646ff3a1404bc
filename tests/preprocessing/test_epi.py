from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad

from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image
from medrecon.preprocessing.epi import gradient_area, ramp_positions, regrid, regridding_matrix
from medrecon.preprocessing.epi_phase import (
    PhaseError,
    phase_correction,
    phase_from_image,
)

TIMES = {"ramp_up": 160.0, "flat_top": 240.0, "ramp_down": 160.0}
ODD_TIMES = {"ramp_up": 120.0, "flat_top": 260.0, "ramp_down": 180.0}


def ndft(row: NDArray[np.complex128], positions: NDArray[Any]) -> NDArray[np.complex128]:
    """Samples of a row of voxels at any positions, by the sum that defines them."""
    n = row.shape[-1]
    kernel = np.exp(-2j * np.pi * np.outer(positions, np.arange(n) - n // 2) / n) / math.sqrt(n)
    return np.asarray(row @ kernel.T)


def row_of(n: int, filled: float, seed: int = 0) -> NDArray[np.complex128]:
    """Two coils of a random object in the middle of the field of view."""
    rng = np.random.default_rng(seed)
    row = rng.standard_normal((2, n)) + 1j * rng.standard_normal((2, n))
    row[:, np.abs(np.arange(n) - n // 2) > filled * n / 2] = 0
    return np.asarray(row)


@pytest.mark.parametrize("times", [TIMES, ODD_TIMES])
def test_the_area_is_the_integral_of_the_gradient(times: dict[str, float]) -> None:
    up, flat, down = times.values()

    def height(t: float) -> float:
        return max(0.0, min(1.0, t / up, (up + flat + down - t) / down))

    for t in (0.0, 40.0, up, 230.0, up + flat, 470.0, up + flat + down, 600.0):
        exact = quad(height, 0, t, points=[up, up + flat], limit=200)[0]
        assert gradient_area(np.array([t]), **times)[0] == pytest.approx(exact, abs=1e-6)


def test_without_ramps_positions_are_the_integers_between_samples() -> None:
    times = {"ramp_up": 0.0, "flat_top": 320.0, "ramp_down": 0.0}
    positions = ramp_positions(64, 64, **times, delay=0.0, dwell=5.0)
    assert np.allclose(positions, np.arange(64) - 31.5)


@pytest.mark.parametrize("times", [TIMES, ODD_TIMES])
@pytest.mark.parametrize("width", [160, 161])
def test_samples_on_ramps_become_the_cartesian_samples_of_the_object(
    times: dict[str, float], width: int
) -> None:
    positions = ramp_positions(160, width, **times, delay=32.0, dwell=3.1)
    assert np.diff(positions).max() > 1.2 * np.diff(positions).min()
    row = row_of(width, 0.7)
    cartesian = regrid(torch.from_numpy(ndft(row, positions)), positions, width)
    exact = image_to_kspace(torch.from_numpy(row), (-1,))
    assert float((cartesian - exact).norm() / exact.norm()) < 1e-10


def test_interpolation_does_not_amplify_noise() -> None:
    positions = ramp_positions(160, 160, **TIMES, delay=32.0, dwell=3.1)
    gain = regridding_matrix(positions, 160).abs().square().sum(1).sqrt()
    assert float(gain.max()) < 1.01
    assert float(gain.mean()) > 0.8


@pytest.mark.parametrize(
    ("changed", "match"),
    [({"delay": 100.0}, "does not fit"), ({"dwell": 0.0}, "cannot be"), ({"ramp_up": -1.0}, "be")],
)
def test_impossible_times_are_refused(changed: dict[str, float], match: str) -> None:
    times = {**TIMES, "delay": 32.0, "dwell": 3.1, **changed}
    with pytest.raises(InconsistentError, match=match):
        ramp_positions(160, 160, **times)


@pytest.mark.parametrize("n", [64, 65])
def test_a_shift_is_a_shift_of_k_space_and_half_of_it_is_taken_off_each_direction(n: int) -> None:
    row = row_of(n, 0.8)
    error = PhaseError(0.7, 1.3)
    k = np.arange(n) - n // 2
    # forward and backward echoes displaced in opposite directions, half of the constant each
    forward = torch.from_numpy(ndft(row, k + 0.65) * np.exp(-0.35j))
    backward = torch.from_numpy(ndft(row, k - 0.65) * np.exp(0.35j))
    exact = ndft(row, k.astype(np.float64))
    for lines, reverse in ((forward, False), (backward, True)):
        assert np.allclose(error.taken_off(lines, reverse).numpy(), exact)


def navigators(
    row: NDArray[np.complex128], reverse: list[bool], error: PhaseError, drift: float
) -> torch.Tensor:
    turn = error.phase(row.shape[-1])  # (x,) or (coils, x)
    lines = [
        row * np.exp(1j * ((turn / 2 if r else -turn / 2) + drift * i))
        for i, r in enumerate(reverse)
    ]
    return image_to_kspace(torch.from_numpy(np.stack(lines)), (-1,))


@pytest.mark.parametrize("reverse", [[True, False, True], [False, True, False, True]])
@pytest.mark.parametrize("error", [PhaseError(), PhaseError(3.0, -2.4), PhaseError(-1.0, 0.3)])
def test_three_navigators_give_the_error_whatever_the_frequency(
    reverse: list[bool], error: PhaseError
) -> None:
    found = phase_correction(navigators(row_of(64, 0.6), reverse, error, drift=0.9), reverse)
    assert found.constant == pytest.approx(error.constant, abs=1e-9)
    assert found.shift == pytest.approx(error.shift, abs=1e-9)


def test_two_navigators_give_the_error_where_the_frequency_is_right() -> None:
    error = PhaseError(0.4, 0.8)
    found = phase_correction(navigators(row_of(65, 0.6), [True, False], error, 0.0), [True, False])
    assert found.constant == pytest.approx(0.4, abs=1e-9)
    assert found.shift == pytest.approx(0.8, abs=1e-9)


def test_the_fit_bears_noise_and_outliers() -> None:
    rng = np.random.default_rng(3)
    error = PhaseError(0.4, 1.2)
    reverse = [True, False, True]
    lines = navigators(row_of(128, 0.6), reverse, error, drift=0.3)
    noise = rng.standard_normal(lines.shape) + 1j * rng.standard_normal(lines.shape)
    found = phase_correction(lines + 0.05 * torch.from_numpy(noise), reverse)
    assert found.constant == pytest.approx(0.4, abs=0.02)
    assert found.shift == pytest.approx(1.2, abs=0.02)
    row = row_of(128, 0.6)
    odd = row * np.where(np.abs(np.arange(128) - 45) < 5, 1j, 1)  # fat, or a vessel
    lines = navigators(row, [False], error, 0.0)
    found = phase_correction(torch.cat([lines, navigators(odd, [True], error, 0.0)]), [False, True])
    assert found.constant == pytest.approx(0.4, abs=0.06)
    assert found.shift == pytest.approx(1.2, abs=0.1)


def test_coils_have_errors_of_their_own_unless_their_noise_hides_them() -> None:
    rng = np.random.default_rng(4)
    reverse = [True, False, True]
    error = PhaseError(np.array([0.4, 0.6, 0.5, 0.5]), np.array([1.0, 1.3, 1.15, 1.15]))
    row = np.concatenate([row_of(128, 0.7), row_of(128, 0.7, seed=1)])
    lines = navigators(row, reverse, error, drift=0.0)
    found = phase_correction(lines, reverse)
    assert np.allclose(found.constant, error.constant, atol=0.01)
    assert np.allclose(found.shift, error.shift, atol=0.01)
    # one coil is all noise: it gets what the others say
    noise = rng.standard_normal(lines.shape) + 1j * rng.standard_normal(lines.shape)
    lines[:, 3] = 0.02 * torch.from_numpy(noise)[:, 3]
    found = phase_correction(lines, reverse)
    assert abs(np.asarray(found.shift)[3] - 1.15) < 0.15
    assert np.allclose(np.asarray(found.shift)[:3], [1.0, 1.3, 1.15], atol=0.03)


def test_navigators_of_one_direction_are_refused() -> None:
    with pytest.raises(InconsistentError, match="both directions"):
        phase_correction(torch.ones(3, 1, 8, dtype=torch.complex64), [True] * 3)
    nothing = phase_correction(torch.zeros(2, 1, 8, dtype=torch.complex64), [True, False])
    assert not np.any(nothing.phase(8))


@pytest.mark.parametrize("error", [PhaseError(0.5, 0.8), PhaseError(-1.2, -2.0), PhaseError()])
def test_the_sharpest_image_shows_the_error_without_navigators(error: PhaseError) -> None:
    y, x = np.mgrid[-1:1:48j, -1:1:64j]
    body = ((x / 0.4) ** 2 + (y / 0.55) ** 2 < 1) + 0.5 * ((x - 0.1) ** 2 + y**2 < 0.02)
    coils = np.stack([body * np.exp(1j * (x + y)) * (1.2 + x), body * np.exp(-2j * x) * (1 - y)])
    kspace = image_to_kspace(torch.from_numpy(coils), (-2, -1))
    reverse = [bool(i % 2) for i in range(48)]
    turn = torch.from_numpy(error.phase(64)) / 2
    for i, backward in enumerate(reverse):
        line = kspace_to_image(kspace[:, i], (-1,))
        kspace[:, i] = image_to_kspace(line * torch.exp(1j * (turn if backward else -turn)), (-1,))
    found = phase_from_image(kspace, reverse)
    assert found.constant == pytest.approx(error.constant, abs=0.02)
    assert found.shift == pytest.approx(error.shift, abs=0.02)
    narrow = phase_from_image(kspace, reverse, within=(0.1, 0.1))
    assert abs(float(narrow.constant)) <= 0.1
    assert abs(float(narrow.shift)) <= 0.1
    assert not phase_from_image(kspace * 0, reverse).phase(8).any()
