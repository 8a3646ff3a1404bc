"""A 2D network lifted to volumes: slices in batches, complex as two channels, any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.network import EDM, position_channels
from medrecon.priors.wrapped import Wrapped


@dataclass(frozen=True, eq=False)
class Slicewise:
    """Denoises the axial slices of a volume, each with its neighbours in view where the model can.

    A model with neighbours expects noise that is independent from slice to slice.

    Parameters
    ----------
    model
        The slice denoiser; 1 channel for real volumes, 2 for complex ones.
    levels
        Validation error of the model, pairs of sigma and mean squared error per real channel.
    batch
        Slices per call: changes memory and speed, not the result.
    """

    model: EDM | Wrapped
    levels: tuple[tuple[float, float], ...]
    batch: int = 8

    def error_variance(self, sigma: float) -> float:
        """Interpolate the validation error at ``sigma``; see :func:`interpolate_error`."""
        return interpolate_error(self.levels, sigma)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Denoise ``x`` (z, y, x), real for a 1-channel and complex for a 2-channel network."""
        channels = torch.view_as_real(x).movedim(-1, 1) if x.is_complex() else x[:, None]
        count = len(channels)
        clean = torch.cat(
            [
                self._slices(channels, first, min(first + self.batch, count), sigma)
                for first in range(0, count, self.batch)
            ]
        )
        if x.is_complex():
            return torch.view_as_complex(clean.movedim(1, -1).contiguous())
        return clean[:, 0]

    @torch.no_grad()
    def _slices(self, volume: Tensor, first: int, end: int, sigma: float) -> Tensor:
        """Denoise slices ``first`` to ``end``, padded to the network's stride."""
        height, width = volume.shape[-2:]
        stride = self.model.network.stride
        pad = (0, -width % stride, 0, -height % stride)
        last = len(volume) - 1
        index = torch.arange(first, end, device=volume.device)
        x = F.pad(volume[first:end], pad, mode="replicate")
        around = None
        if self.model.network.neighbours:  # at the ends a slice stands for its missing neighbour
            below, above = (volume[(index + k).clamp(0, last)] for k in (-1, 1))
            around = F.pad(torch.cat([below, above], dim=1), pad, mode="replicate")
        position = position_channels(height, width).to(x)
        where = F.pad(position[None], pad, mode="replicate").expand(len(x), -1, -1, -1)
        level = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        clean: Tensor = self.model(x, level, where, around)
        return clean[..., :height, :width]


def interpolate_error(levels: Sequence[tuple[float, float]], sigma: float) -> float:
    """Mean squared error of a denoiser at ``sigma`` from a table of (sigma, error).

    The share of the noise that is left, ``error / sigma^2``, is interpolated linearly in
    ``(log sigma, log share)``. Below the table it tends to 1 at sigma = 0 (nothing can be removed),
    above it the error stays what it is at the last level.
    """
    table = sorted(levels)
    logs = [math.log(s) for s, _ in table]
    shares = [math.log(error / s**2) for s, error in table]
    if sigma >= table[-1][0]:
        return table[-1][1]
    if sigma < table[0][0]:
        return sigma**2 * math.exp(shares[0] * sigma / table[0][0])
    k = max(i for i, log in enumerate(logs) if log <= math.log(sigma) + 1e-12)
    t = (math.log(sigma) - logs[k]) / (logs[k + 1] - logs[k])
    return sigma**2 * math.exp((1 - t) * shares[k] + t * shares[k + 1])
