"""Halving and doubling images with a short low-pass filter, in plain convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it


class Resample(nn.Module):
    """Halve or double height and width, by a filter or by 2x2 pixel blocks.

    Parameters
    ----------
    factor
        2 to double, 1/2 to halve.
    taps
        One-dimensional symmetric filter of even length, used along y and x; ``None`` averages 2x2
        pixels, or repeats each twice. Constant images keep their value, except near the border,
        outside of which they are zero.

    References
    ----------
    Zhang, Making convolutional networks shift-invariant again, 2019, arXiv:1904.11486; used in
    StyleGAN2 (Karras 2020, arXiv:1912.04958) and score-based models (Song 2021, arXiv:2011.13456).
    """

    def __init__(self, factor: float, taps: Sequence[float] | None) -> None:
        super().__init__()
        self.doubles = factor > 1
        self.taps = None if taps is None else tuple(taps)
        if self.taps and (len(self.taps) % 2 or self.taps != self.taps[::-1]):
            raise ValueError(f"the filter {self.taps} is not symmetric with an even length")

    def forward(self, x: Tensor) -> Tensor:
        """Resample ``(batch, channels, y, x)``."""
        if self.taps is None and self.doubles:
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        if self.taps is None:
            return F.avg_pool2d(x, 2)
        filters, border = _filters(x, self.taps), len(self.taps) // 2 - 1
        if self.doubles:
            groups = x.shape[1]
            return F.conv_transpose2d(x, 4 * filters, stride=2, padding=border, groups=groups)
        return F.conv2d(x, filters, stride=2, padding=border, groups=x.shape[1])


class FilteredConv(nn.Module):
    """A 3x3 convolution that halves the image, filtered before so that nothing aliases."""

    def __init__(self, in_channels: int, out_channels: int, taps: Sequence[float]) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(batch, channels, y, x)`` to half the size."""
        smooth = F.conv2d(x, _filters(x, self.taps), padding=len(self.taps) // 2, groups=x.shape[1])
        return F.conv2d(smooth, self.weight, self.bias, stride=2)


def _filters(x: Tensor, taps: tuple[float, ...]) -> Tensor:
    """One normalised two-dimensional filter per channel of ``x``."""
    line = x.new_tensor(taps)
    plane = torch.outer(line, line) / line.sum() ** 2
    return plane.expand(x.shape[1], 1, -1, -1)
