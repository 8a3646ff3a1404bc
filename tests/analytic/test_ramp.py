"""The ramp filter and the weights of rays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medrecon.analytic.columns import columns_of
from medrecon.analytic.orbit import orbit_of
from medrecon.analytic.ramp import filter_rows, ramp_response
from medrecon.analytic.weights import scanned_arc, shares_of
from medrecon.geometry.ct import CTGeometry, FanBeam, ParallelBeam, equiangular
from medrecon.geometry.frames import frames


def weights_of(geometry: CTGeometry) -> np.ndarray:
    f, orbit = frames(geometry), orbit_of(geometry)
    columns = columns_of(f, orbit)
    shares = shares_of(orbit, columns, is_parallel=f.source is None)
    return shares.arc.steps[:, None] * shares.of(orbit.angles, columns.fan)


def test_the_ramp_is_the_modulus_of_the_frequency() -> None:
    response = ramp_response(4096, 0.5)
    frequency = np.fft.rfftfreq(4096, 0.5)
    assert np.allclose(response, frequency, atol=2e-4)
    assert response[0] > 0  # the mean of the padded row is not lost


def test_filtering_is_convolution_with_the_sampled_kernel() -> None:
    row = torch.randn(17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    d, n = 0.7, 17
    k = np.subtract.outer(np.arange(n), np.arange(n))
    odd = np.where(k % 2 == 0, 1, k)
    kernel = np.where(k % 2 == 0, 0.0, -1 / (math.pi * odd * d) ** 2) + np.eye(n) / (4 * d * d)
    assert np.allclose(filter_rows(row, d).numpy(), d * kernel @ row.numpy())


def test_on_an_arc_the_kernel_has_the_sine_of_the_angle() -> None:
    row = torch.randn(41, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    g, n = 0.02, 41
    k = np.subtract.outer(np.arange(n), np.arange(n))
    odd = np.where(k % 2 == 0, 1, k)
    kernel = np.where(k % 2 == 0, 0.0, -((g / np.sin(odd * g) / math.pi) ** 2)) + np.eye(n) / 4
    assert np.allclose(filter_rows(row, 1.0, arc=g).numpy(), kernel @ row.numpy())


@pytest.mark.parametrize("turns", [1, 2])
def test_steps_of_a_full_turn_add_up_to_it(turns: int) -> None:
    arc = scanned_arc(equiangular(50 * turns, arc=2 * math.pi * turns, start=0.7))
    assert arc.is_full
    assert arc.steps.sum() == pytest.approx(2 * math.pi)


def test_steps_of_a_part_of_a_turn_add_up_to_it_in_any_order() -> None:
    angles = np.array(equiangular(40, arc=4.0, start=5.0))
    arc = scanned_arc(tuple(np.random.default_rng(0).permutation(angles).tolist()))
    assert not arc.is_full
    assert arc.length == pytest.approx(4.0)
    assert arc.steps.sum() == pytest.approx(4.0)
    assert arc.start == pytest.approx(5.0 - 0.05)


def test_both_looks_along_a_line_together_count_once() -> None:
    """Continuous version: the share at (a, u) plus that at (a + pi, -u) is one."""
    full = equiangular(80)
    shares = weights_of(ParallelBeam(angles=full, columns=30, column_spacing=1.0)) * 80 / math.tau
    assert np.allclose(shares + np.roll(shares, 40, axis=0)[:, ::-1], 1.0)
    short = ParallelBeam(angles=equiangular(60, arc=1.5 * math.pi), columns=30, column_spacing=1.0)
    shares = weights_of(short) * 60 / (1.5 * math.pi)
    assert np.allclose(shares[:20] + shares[40:], 1.0)
    assert np.allclose(shares[20:40], 1.0)


@pytest.mark.parametrize("radius", [math.inf, 200.0])
def test_an_offset_detector_counts_lines_seen_once_in_full(radius: float) -> None:
    scan = FanBeam(
        angles=equiangular(36),
        source_to_axis=100.0,
        source_to_detector=200.0,
        columns=60,
        column_spacing=1.0,
        column_offset=20.0,
        detector_radius=radius,
    )
    shares = weights_of(scan)[0] * 36 / math.tau
    u = np.arange(60) - 29.5 + 20
    assert np.allclose(shares[u > 10], 1.0)
    both = np.abs(u) < 10
    assert np.allclose(shares[both] + shares[both][::-1], 1.0)
