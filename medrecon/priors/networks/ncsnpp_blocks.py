"""What NCSN++ is made of: residual blocks, attention, and the image beside the features."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.networks.layers import attend

Activation = Callable[[Tensor], Tensor]


def norm(channels: int) -> nn.GroupNorm:
    """Normalise groups of at least four channels, 32 groups at most."""
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


def conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Convolve by 3x3 pixels."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class Sum(nn.Module):
    """Sum of two paths, divided by sqrt(2) where variances are to be kept."""

    def __init__(self, rescale: bool) -> None:
        super().__init__()
        self.factor = math.sqrt(0.5) if rescale else 1.0

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add tensors of one shape."""
        return (a + b) * self.factor


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, resampled together.

    Parameters
    ----------
    in_channels, out_channels
        Features before and after.
    embedding
        Size of the embedding of the noise level.
    activation
        The nonlinearity.
    rescale
        See :class:`Sum`.
    resample
        What happens to both paths before the first convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        activation: Activation,
        rescale: bool,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(in_channels), conv3(in_channels, out_channels)
        self.time = nn.Linear(embedding, out_channels)
        self.norm2, self.conv2 = norm(out_channels), conv3(out_channels, out_channels)
        same = in_channels == out_channels and resample is None
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        self.resample = nn.Identity() if resample is None else resample
        self.activation, self.sum = activation, Sum(rescale)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Apply it to features ``(batch, channels, y, x)``."""
        h = self.conv1(self.resample(self.activation(self.norm1(x))))
        if embedding is not None:
            h = h + self.time(self.activation(embedding))[:, :, None, None]
        h = self.conv2(self.activation(self.norm2(h)))
        changed: Tensor = self.sum(self.shortcut(self.resample(x)), h)
        return changed


class Attention(nn.Module):
    """Attention of every pixel to all others, one head, beside the features."""

    def __init__(self, channels: int, rescale: bool) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.query, self.key, self.value, self.out = (
            nn.Conv2d(channels, channels, 1) for _ in range(4)
        )
        self.sum = Sum(rescale)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to features ``(batch, channels, y, x)``."""
        h = self.norm(x)
        q, k, v = (
            each(h).flatten(2).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        seen = attend(q, k, v, heads=1).transpose(1, 2).reshape(x.shape)
        changed: Tensor = self.sum(x, self.out(seen))
        return changed


class Tail(nn.Module):
    """Features become an image: normalisation, nonlinearity, convolution."""

    def __init__(self, in_channels: int, out_channels: int, activation: Activation) -> None:
        super().__init__()
        self.norm, self.conv = norm(in_channels), conv3(in_channels, out_channels)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to features ``(batch, channels, y, x)``."""
        image: Tensor = self.conv(self.activation(self.norm(x)))
        return image


class AsymmetricHalving(nn.Module):
    """A 3x3 convolution of stride 2 that sees zeros below and to the right only."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(batch, channels, y, x)`` to half the size."""
        half: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return half


class InputSkip(nn.Module):
    """The shrunken image joins the features, through a 1x1 convolution."""

    def __init__(self, image: int, features: int, shrink: nn.Module, joins: str) -> None:
        super().__init__()
        if joins not in ("sum", "cat"):
            raise ValueError(f"the image joins by sum or cat, not {joins!r}")
        self.shrink, self.conv = shrink, nn.Conv2d(image, features, 1)
        self.joins = torch.add if joins == "sum" else _concatenate

    def forward(self, h: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Give the features and the image of the next level."""
        image = self.shrink(image)
        return self.joins(self.conv(image), h), image


class ResidualInput(nn.Module):
    """The image becomes features itself and carries the sums."""

    def __init__(self, shrink: nn.Module, rescale: bool) -> None:
        super().__init__()
        self.shrink, self.sum = shrink, Sum(rescale)

    def forward(self, h: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Give the features and the image of the next level: the same."""
        both = self.sum(self.shrink(image), h)
        return both, both


class OutputSkip(nn.Module):
    """Every level adds its image to the one that was grown from the coarser levels."""

    def __init__(self, tail: Tail, grow: nn.Module) -> None:
        super().__init__()
        self.tail, self.grow = tail, grow

    def forward(self, h: Tensor, gathered: Tensor | None) -> tuple[Tensor, Tensor]:
        """Give the features and the image so far."""
        image = self.tail(h)
        return h, image if gathered is None else self.grow(gathered) + image


def _concatenate(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a, b], dim=1)
