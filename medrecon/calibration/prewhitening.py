"""Prewhitening: make the noise of all coils uncorrelated, with unit variance.

The convention is ``E|n|^2 = 1`` per *complex* sample, so that real and imaginary parts have the
variance 1/2. Software that gives each of them unit variance (Gadgetron, ismrmrd-python-tools) has
matrices and whitened data ``sqrt(2)`` times ours. The mean of the noise readouts is not
subtracted: noise has none, and an offset is part of what is there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medrecon.errors import InconsistentError

_CONDITION_LIMIT = 1e10


def noise_covariance(noise: Tensor) -> Tensor:
    """Estimate ``E[n n^H]`` from readouts without signal.

    Parameters
    ----------
    noise
        Complex, ``(coils, samples)``; readouts laid end to end.

    Returns
    -------
    Tensor
        complex128, ``(coils, coils)``, Hermitian.

    Raises
    ------
    InconsistentError
        If there are fewer samples than coils, or samples that are not finite.
    """
    coils, samples = noise.shape
    if samples < coils:
        raise InconsistentError(
            f"The noise scan has {samples} samples for {coils} coils: too few for a covariance; "
            "reconstruct without it."
        )
    if not bool(torch.isfinite(torch.view_as_real(noise.resolve_conj())).all()):
        raise InconsistentError("The noise scan has samples that are not finite numbers.")
    n = noise.to(torch.complex128)
    return n @ n.mH / samples


def bandwidth_scale(noise_dwell: float, imaging_dwell: float, relative_bandwidth: float) -> float:
    """Variance of imaging noise over that of the noise scan.

    White noise of density N0 has the variance ``N0 / dwell`` per sample; the noise scan sees only
    the share ``relative_bandwidth`` of it, since the receiver's filter cuts its edges, while the
    middle of an imaging readout sees all.

    Parameters
    ----------
    noise_dwell, imaging_dwell
        Time per sample of the two scans, any common unit; 0 or less where not known, then they
        are taken as equal.
    relative_bandwidth
        Effective over nominal bandwidth of the receiver (MRD's relativeReceiverNoiseBandwidth,
        often 0.79); 1 where not known.

    References
    ----------
    Kellman and McVeigh, Image reconstruction in SNR units, Magn Reson Med 54 (2005), eq. 5.
    """
    known = noise_dwell > 0 and imaging_dwell > 0
    return (noise_dwell / imaging_dwell if known else 1.0) / relative_bandwidth


def whitening_matrix(covariance: Tensor, scale: float = 1.0, *, shrinkage: float = 0.0) -> Tensor:
    """Invert the Cholesky factor: ``W = L^-1`` with ``scale * covariance = L L^H``.

    Parameters
    ----------
    covariance
        Hermitian, ``(coils, coils)``.
    scale
        Variance of imaging noise over that of the noise scan, see :func:`bandwidth_scale`.
    shrinkage
        Share, 0 to 1, of the mean variance times the identity that takes the place of as much of
        the covariance: for noise scans too short to tell coils apart. Correlations are then not
        removed entirely, and a dead coil is given the noise of the others. None by default.

    Returns
    -------
    Tensor
        complex128, ``(coils, coils)``, lower triangular; ``W n`` has the identity as covariance.

    Raises
    ------
    InconsistentError
        If the covariance is not square, not finite, not Hermitian, or is singular (a dead or a
        duplicated coil), or if scale or shrinkage are out of range.

    References
    ----------
    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, J
    Multivar Anal 88 (2004), doi:10.1016/S0047-259X(03)00096-4.
    """
    C = covariance.to(torch.complex128)
    if C.ndim != 2 or C.shape[0] != C.shape[1] or not C.numel():
        raise InconsistentError(f"A noise covariance is (coils, coils), got {tuple(C.shape)}.")
    if not bool(torch.isfinite(torch.view_as_real(C.resolve_conj())).all()):
        raise InconsistentError("The noise covariance has values that are not finite numbers.")
    if not (0 < scale < math.inf and 0 <= shrinkage <= 1):
        raise InconsistentError(
            f"Whitening takes a positive scale and a shrinkage between 0 and 1, got {scale} and "
            f"{shrinkage}."
        )
    if not torch.allclose(C, C.mH, rtol=1e-6, atol=1e-6 * float(C.abs().max())):
        raise InconsistentError("The noise covariance is not Hermitian.")
    identity = torch.eye(len(C), dtype=C.dtype)
    C = (1 - shrinkage) * C + shrinkage * C.diagonal().real.mean() * identity
    values = torch.linalg.eigvalsh(C)
    if not float(values[-1]) < _CONDITION_LIMIT * float(values[0]):
        raise InconsistentError(
            "The noise covariance of the coils is singular (a dead or a duplicated coil); "
            "leave that coil out, or whiten with shrinkage."
        )
    L = torch.linalg.cholesky(C * scale)
    W: Tensor = torch.linalg.solve_triangular(L, identity, upper=False)
    return W


def apply_to_coils(matrix: Tensor, kspace: Tensor, axis: int) -> Tensor:
    """Mix the coils, ``y_a = sum_b matrix[a, b] k_b``, along ``axis`` of ``kspace``."""
    mixed: Tensor = torch.tensordot(matrix.to(kspace), kspace, dims=([1], [axis % kspace.ndim]))
    return mixed.movedim(0, axis)


def standard_deviation(covariance: Tensor) -> float:
    """Root of the mean over coils of ``E|n|^2``."""
    return math.sqrt(float(covariance.diagonal().real.mean()))
