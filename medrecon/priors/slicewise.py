"""A 2D network lifted to volumes: slices in batches, complex as two channels, any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.graphs import Graphed
from medrecon.priors.network import EDM, position_channels
from medrecon.priors.precision import autocast
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
    precision
        In which convolutions run; noise, preconditioning and result stay in the volume's own.
    graphs
        Whether a GPU launches the kernels of a full batch as one CUDA graph. Only for models of
        ours; their weights may change in place, but not be replaced.
    """

    model: EDM | Wrapped
    levels: tuple[tuple[float, float], ...]
    batch: int = 8
    precision: torch.dtype = torch.float32
    graphs: bool = False
    _replayed: list[Graphed] = field(default_factory=list, init=False, repr=False)

    def error_variance(self, sigma: float) -> float:
        """Interpolate the validation error at ``sigma``; see :func:`interpolate_error`."""
        return interpolate_error(self.levels, sigma)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Denoise ``x`` (z, y, x), real for a 1-channel and complex for a 2-channel network."""
        channels = torch.view_as_real(x).movedim(-1, 1) if x.is_complex() else x[:, None]
        clean = torch.empty_like(channels, memory_format=torch.contiguous_format)
        for first in range(0, len(channels), self.batch):
            end = min(first + self.batch, len(channels))
            clean[first:end] = self._slices(channels, first, end, sigma)
        if x.is_complex():
            return torch.view_as_complex(clean.movedim(1, -1).contiguous())
        return clean[:, 0]

    @torch.no_grad()
    def _slices(self, volume: Tensor, first: int, end: int, sigma: float) -> Tensor:
        """Denoise slices ``first`` to ``end``, padded to the network's stride."""
        height, width = volume.shape[-2:]
        clean = self._evaluate(self._inputs(volume, first, end, sigma))
        return clean[..., :height, :width]

    def _inputs(self, volume: Tensor, first: int, end: int, sigma: float) -> tuple[Tensor, ...]:
        """Arguments of the model: slices, noise levels, position and, if seen, neighbours."""
        height, width = volume.shape[-2:]
        stride = self.model.network.stride
        pad = (0, -width % stride, 0, -height % stride)
        last = len(volume) - 1
        index = torch.arange(first, end, device=volume.device)
        x = _padded(volume[first:end], pad)
        where = _position(height, width, pad, x.dtype, x.device).expand(len(x), -1, -1, -1)
        level = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        if not self.model.network.neighbours:
            return x, level, where
        # at the ends a slice stands for its missing neighbour
        below, above = (volume[(index + k).clamp(0, last)] for k in (-1, 1))
        return x, level, where, _padded(torch.cat([below, above], dim=1), pad)

    def _evaluate(self, inputs: Sequence[Tensor]) -> Tensor:
        full = len(inputs[0]) == self.batch  # what is left over would need memory of its own
        if not (full and self.graphs and inputs[0].is_cuda and isinstance(self.model, EDM)):
            return self._forward(inputs)
        if not self._replayed:
            self._replayed.append(Graphed(self._forward))
        return self._replayed[0](inputs)

    @torch.no_grad()
    def _forward(self, inputs: Sequence[Tensor]) -> Tensor:
        with autocast(inputs[0].device, self.precision):
            clean: Tensor = self.model(*inputs)
        return clean


def _padded(x: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    """Continue slices at their ends, in the layout that convolutions are fastest in."""
    return F.pad(x, pad, mode="replicate").contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=4)
def _position(
    height: int,
    width: int,
    pad: tuple[int, int, int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Position channels of a padded slice, (1, 2, y, x), kept: every call needs the same."""
    return F.pad(position_channels(height, width).to(device, dtype)[None], pad, mode="replicate")


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
