"""What UNet2DModel of diffusers is made of, under the names that its weights have."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.networks.layers import attend

Function = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Function] = {
    "silu": F.silu,
    "swish": F.silu,
    "mish": F.mish,
    "gelu": F.gelu,
    "relu": F.relu,
}


class TimeEmbedding(nn.Module):
    """Two linear layers on the embedding of the noise level."""

    def __init__(self, in_size: int, size: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(in_size, size), nn.Linear(size, size)

    def forward(self, waves: Tensor) -> Tensor:
        """Embed ``(batch, in_size)`` as ``(batch, size)``."""
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(waves)))
        return embedding


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, shifted or scaled by the noise level.

    Parameters
    ----------
    in_channels, out_channels
        Features before and after.
    embedding
        Size of the embedding of the noise level.
    groups, eps
        Of the normalisations.
    scale_shift
        Whether the noise level scales and shifts the second normalisation; otherwise it shifts
        the features before it.
    activation
        The nonlinearity.
    scale
        What the sum is divided by.
    resample
        What happens to both paths before the first convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        groups: int,
        eps: float,
        scale_shift: bool,
        activation: Function,
        scale: float = 1.0,
        resample: Function | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, (2 if scale_shift else 1) * out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels, eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.conv_shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        self.scale_shift, self.scale, self.activation = scale_shift, scale, activation
        self.resample = nn.Identity() if resample is None else resample

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply it to features ``(batch, channels, y, x)``."""
        h = self.conv1(self.resample(self.activation(self.norm1(x))))
        level = self.time_emb_proj(self.activation(embedding))[:, :, None, None]
        if self.scale_shift:
            scale, shift = level.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + level)
        h = self.conv2(self.activation(h))
        changed: Tensor = (self.conv_shortcut(self.resample(x)) + h) / self.scale
        return changed


class Attention(nn.Module):
    """Attention of every pixel to all others, beside the features.

    Parameters
    ----------
    channels
        Features.
    head_size
        Channels of a head; ``None`` for one head.
    groups
        Of the normalisation before; ``None`` for none.
    eps
        Of the normalisation.
    scale
        What the sum is divided by.
    """

    def __init__(
        self,
        channels: int,
        head_size: int | None,
        groups: int | None,
        eps: float,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        size = head_size or channels
        self.heads, self.scale = channels // size, scale
        inner = self.heads * size
        self.group_norm = nn.Identity() if groups is None else nn.GroupNorm(groups, channels, eps)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, inner) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(inner, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to features ``(batch, channels, y, x)``."""
        pixels = self.group_norm(x).flatten(2).transpose(1, 2)
        seen = attend(self.to_q(pixels), self.to_k(pixels), self.to_v(pixels), self.heads)
        out: Tensor = self.to_out[0](seen).transpose(1, 2).reshape(x.shape)
        return (out + x) / self.scale


class Halving(nn.Module):
    """A 3x3 convolution of stride 2."""

    def __init__(self, channels: int, symmetric: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1 if symmetric else 0)
        self.border = (0, 0, 0, 0) if symmetric else (0, 1, 0, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Convolve ``(batch, channels, y, x)``; the noise level is not looked at."""
        half: Tensor = self.conv(F.pad(x, self.border))
        return half


class Doubling(nn.Module):
    """Every pixel twice along y and x, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Convolve ``(batch, channels, y, x)``; the noise level is not looked at."""
        double: Tensor = self.conv(F.interpolate(x, scale_factor=2.0))
        return double


class Level(nn.Module):
    """One resolution on the way down or up, with what leads to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.resnets, self.attentions = nn.ModuleList(), nn.ModuleList()
        self.downsamplers, self.upsamplers = nn.ModuleList(), nn.ModuleList()

    def down(self, h: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        """Give features of the next resolution; ``skips`` grows."""
        for number in range(len(self.resnets)):
            h = self._block(number, h, embedding)
            skips.append(h)
        for resample in self.downsamplers:
            h = resample(h, embedding)
            skips.append(h)
        return h

    def up(self, h: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        """Give features of the next resolution; ``skips`` shrinks."""
        for number in range(len(self.resnets)):
            h = self._block(number, torch.cat([h, skips.pop()], dim=1), embedding)
        for resample in self.upsamplers:
            h = resample(h, embedding)
        return h

    def _block(self, number: int, h: Tensor, embedding: Tensor) -> Tensor:
        h = self.resnets[number](h, embedding)
        return self.attentions[number](h) if self.attentions else h


class Middle(nn.Module):
    """Two residual blocks with attention between them, or without."""

    def __init__(self, blocks: Sequence[nn.Module], attention: nn.Module | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList([] if attention is None else [attention])

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        """Apply it to features ``(batch, channels, y, x)``."""
        h = self.resnets[0](h, embedding)
        for attention in self.attentions:
            h = attention(h)
        changed: Tensor = self.resnets[1](h, embedding)
        return changed
