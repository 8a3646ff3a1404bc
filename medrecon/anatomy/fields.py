"""Smooth and filtered random fields that go on smoothly from slice to slice."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional

_JITTER = 1e-6  # keeps the covariance of near slices positive definite


def along_z(noise: Tensor, slice_mm: float, length_mm: float) -> Tensor:
    """Mix independent slices so that their correlation is ``exp(-dz^2 / 2 length^2)``.

    Parameters
    ----------
    noise
        Slices with independent values, ``(slices, ...)``.
    slice_mm
        Distance of slices in mm.
    length_mm
        Standard deviation of the correlation in mm.

    Returns
    -------
    Tensor
        Slices of the same marginal law, ``(slices, ...)``: a stack of any height shows the same
        stationary field.
    """
    factor: Tensor = _factor(len(noise), slice_mm / length_mm).to(noise)
    mixed: Tensor = torch.einsum("ij,j...->i...", factor, noise)
    return mixed


@functools.lru_cache(maxsize=16)
def _factor(slices: int, step: float) -> Tensor:
    z = step * torch.arange(slices, dtype=torch.float64)
    covariance = torch.exp(-0.5 * (z[:, None] - z).square())
    covariance.diagonal().add_(_JITTER)
    factor: Tensor = torch.linalg.cholesky(covariance / (1 + _JITTER))
    return factor


def bumps(
    generator: torch.Generator, shape: tuple[int, int, int], nodes: int, z_steps: float
) -> Tensor:
    """Smooth field of about unit variance from ``nodes`` x ``nodes`` normal values per slice.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        ``(slices, y, x)``.
    nodes
        Values per side; few make a slow field.
    z_steps
        Correlation length along z in slices.

    Returns
    -------
    Tensor
        Field ``(slices, y, x)``.
    """
    slices, *plane = shape
    coarse = along_z(torch.randn(slices, nodes, nodes, generator=generator), 1.0, z_steps)
    fine = functional.interpolate(coarse[:, None], plane, mode="bicubic", align_corners=True)
    return fine[:, 0]


@functools.lru_cache(maxsize=64)
def _band(y: int, x: int, low: float, high: float) -> Tensor:
    fy = torch.fft.fftfreq(y)[:, None]
    f2 = fy.square() + torch.fft.rfftfreq(x).square()
    shape = torch.exp(-0.5 * f2 / high**2)
    if low > 0:
        shape = shape * (1 - torch.exp(-0.5 * f2 / low**2))
    # a half spectrum counts all but its first and last columns twice
    twice = torch.full_like(shape, 2.0)
    twice[:, 0] = 1
    if x % 2 == 0:
        twice[:, -1] = 1
    power = (twice * shape.square()).sum() / (y * x)
    return shape / power.sqrt()


def filtered_noise(
    generator: torch.Generator,
    shape: tuple[int, int, int],
    *,
    coarsest: float = 0.0,
    finest: float,
) -> Tensor:
    """Gaussian noise of unit variance between two sizes, independent slices.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        ``(slices, y, x)``.
    coarsest, finest
        Standard deviations in pixels of the Gaussian windows that are taken away and kept; with
        a ``coarsest`` of 0 nothing is taken away.

    Returns
    -------
    Tensor
        Field ``(slices, y, x)``, periodic in the plane.
    """
    low = 0.0 if coarsest == 0 else 1 / (6.2832 * coarsest)
    band = _band(shape[1], shape[2], low, 1 / (6.2832 * finest))
    spectrum = torch.fft.rfft2(torch.randn(shape, generator=generator))
    field: Tensor = torch.fft.irfft2(spectrum * band, shape[1:])
    return field


def grain(
    generator: torch.Generator,
    shape: tuple[int, int, int],
    *,
    fine_mm: float,
    pixel_mm: float,
    slice_mm: float,
) -> Tensor:
    """Texture of tissue: fine and coarse in equal parts, alike in slices less than 4 mm apart.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        ``(slices, y, x)``.
    fine_mm
        Standard deviation of the finer part's window in mm; the coarser one has 5 mm.
    pixel_mm, slice_mm
        Size of a pixel and distance of slices in mm.

    Returns
    -------
    Tensor
        Field of about unit variance ``(slices, y, x)``.
    """
    fine = filtered_noise(generator, shape, finest=max(0.5, fine_mm / pixel_mm))
    coarse = filtered_noise(generator, shape, finest=max(0.5, 5.0 / pixel_mm))
    return along_z(0.7 * fine + 0.7 * coarse, slice_mm, 4.0)
