"""Volumes of standard normal noise whose slices may be correlated over a length in mm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SliceNoise:
    r"""Noise n ~ N(0, 1) per voxel, correlated along z as a first-order autoregression.

    .. math:: n_i = \rho\, n_{i-1} + \sqrt{1-\rho^2}\, \xi_i, \qquad \rho = e^{-d_z / L}

    Every slice is exactly white noise, so a slice prior sees what it was trained on; the
    correlation of slices i and j is ``exp(-|i-j| d_z / L)`` whatever the number of slices.
    ``L = 0`` gives independent slices.  Drawn on the CPU in one piece: the same seed gives the
    same noise on every device and for every batch size.

    Parameters
    ----------
    spacing
        Distance of slices, mm.
    length
        Correlation length L, mm.
    amount
        Factor on the noise; below 1 the volumes are not standard normal, 0 draws nothing.

    References
    ----------
    The autoregression is the discrete Ornstein-Uhlenbeck process, doi:10.1103/PhysRev.36.823;
    noise shared between slices was proposed as inter-slice consistent stochasticity,
    arXiv:2602.04162.
    """

    spacing: float
    length: float = 0.0
    amount: float = 1.0

    @property
    def correlation(self) -> float:
        """Correlation of neighbouring slices."""
        return math.exp(-self.spacing / self.length) if self.length > 0 else 0.0

    def __call__(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Draw noise of the shape ``(z, y, x)``, kind and device of ``like``.

        Complex noise has unit variance in each of its two channels.
        """
        if self.amount == 0:
            return torch.zeros_like(like)
        channels = (2,) if like.is_complex() else ()
        precision = like.real.dtype if like.is_complex() else like.dtype
        noise = torch.randn((*like.shape, *channels), generator=generator, dtype=precision)
        rho = self.correlation
        if rho > 0:
            fresh = math.sqrt(1 - rho**2)
            for previous, current in pairwise(noise):
                current.mul_(fresh).add_(previous, alpha=rho)
        if like.is_complex():
            noise = torch.view_as_complex(noise)
        if self.amount != 1:
            noise *= self.amount
        return noise.to(like.device)
