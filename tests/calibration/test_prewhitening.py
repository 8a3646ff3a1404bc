from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medrecon.calibration.prewhitening import (
    apply_to_coils,
    bandwidth_scale,
    noise_covariance,
    standard_deviation,
    whitening_matrix,
)
from medrecon.errors import InconsistentError

COILS = 5


def correlated(samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise ``(coils, samples)`` and its true covariance."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(COILS, COILS, dtype=torch.complex128, generator=generator)
    white = torch.randn(COILS, samples, dtype=torch.complex128, generator=generator)
    return mixing @ white, mixing @ mixing.mH


def test_the_covariance_is_that_of_the_noise() -> None:
    noise, truth = correlated(200_000)
    assert float((noise_covariance(noise) - truth).norm() / truth.norm()) < 0.02


def test_an_offset_is_not_taken_away() -> None:
    offset = torch.full((2, 10), 3 + 4j)
    assert torch.allclose(noise_covariance(offset), torch.full((2, 2), 25, dtype=torch.complex128))


def test_whitened_noise_has_unit_variance_per_complex_sample_and_no_correlation() -> None:
    noise, _ = correlated(100_000)
    W = whitening_matrix(noise_covariance(noise))
    fresh, _ = correlated(100_000)
    white = apply_to_coils(W, fresh, 0)
    C = noise_covariance(white)
    assert float((C - torch.eye(COILS)).abs().max()) < 0.02
    assert math.isclose(standard_deviation(C), 1, rel_tol=0.01)


@pytest.mark.parametrize(("axis", "shape"), [(0, (COILS, 3, 4, 6)), (1, (2, COILS, 4, 6))])
def test_whitening_mixes_the_coil_axis_only(axis: int, shape: tuple[int, ...]) -> None:
    kspace = torch.randn(shape, dtype=torch.complex64)
    W = torch.randn(COILS, COILS, dtype=torch.complex128)
    mixed = apply_to_coils(W, kspace, axis)
    letters = "czyx" if axis == 0 else "zcyx"
    expected = torch.einsum(f"ac,{letters}->{letters.replace('c', 'a')}", W, kspace.to(W.dtype))
    assert mixed.dtype == kspace.dtype
    assert torch.allclose(mixed.to(W.dtype), expected, atol=1e-5)


def test_a_wider_bandwidth_has_more_noise() -> None:
    # half the dwell time is twice the bandwidth is twice the variance
    assert bandwidth_scale(noise_dwell=10, imaging_dwell=5, relative_bandwidth=1) == 2
    assert math.isclose(bandwidth_scale(5, 5, 0.8), 1.25)
    assert bandwidth_scale(0, 5, 1) == 1
    noise, _ = correlated(1000)
    C = noise_covariance(noise)
    assert torch.allclose(whitening_matrix(C, 4.0), whitening_matrix(C) / 2)


def test_noise_scans_that_cannot_be_used_are_refused() -> None:
    noise, truth = correlated(1000)
    dead = noise.clone()
    dead[2] = 0
    with pytest.raises(InconsistentError, match="singular"):
        whitening_matrix(noise_covariance(dead))
    twice = noise.clone()
    twice[1] = twice[0]
    with pytest.raises(InconsistentError, match="singular"):
        whitening_matrix(noise_covariance(twice))
    with pytest.raises(InconsistentError, match="Hermitian"):
        whitening_matrix(truth + torch.triu(torch.ones_like(truth)))
    with pytest.raises(InconsistentError, match="too few"):
        noise_covariance(noise[:, :4])
    noise[0, 0] = math.nan
    with pytest.raises(InconsistentError, match="finite"):
        noise_covariance(noise)


def test_shrinkage_is_an_option_that_keeps_the_total_variance() -> None:
    noise, _ = correlated(1000)
    C = noise_covariance(noise)
    mean = float(C.diagonal().real.mean())
    assert torch.allclose(
        whitening_matrix(C, shrinkage=1.0), torch.eye(COILS, dtype=C.dtype) / math.sqrt(mean)
    )
    W = whitening_matrix(C, shrinkage=0.3)
    shrunk = 0.7 * C + 0.3 * mean * torch.eye(COILS, dtype=C.dtype)
    assert torch.allclose(W @ shrunk @ W.mH, torch.eye(COILS, dtype=C.dtype), atol=1e-10)
    dead = noise.clone()
    dead[2] = 0
    assert bool(whitening_matrix(noise_covariance(dead), shrinkage=0.1).isfinite().all())


def test_covariances_that_are_none_are_refused() -> None:
    C = torch.eye(3, dtype=torch.complex128)
    with pytest.raises(InconsistentError, match=r"got \(3, 2\)"):
        whitening_matrix(C[:, :2])
    with pytest.raises(InconsistentError, match="positive scale"):
        whitening_matrix(C, 0.0)
    with pytest.raises(InconsistentError, match="positive scale"):
        whitening_matrix(C, shrinkage=1.5)
    with pytest.raises(InconsistentError, match="singular"):
        whitening_matrix(0 * C)
    C[1, 1] = math.nan
    with pytest.raises(InconsistentError, match="finite"):
        whitening_matrix(C)


def test_parts_of_whitened_noise_have_half_the_variance_each() -> None:
    noise, _ = correlated(100_000)
    white = apply_to_coils(whitening_matrix(noise_covariance(noise)), noise, 0)
    assert math.isclose(float(white.real.square().mean()), 0.5, rel_tol=0.02)
    assert math.isclose(float(white.imag.square().mean()), 0.5, rel_tol=0.02)
