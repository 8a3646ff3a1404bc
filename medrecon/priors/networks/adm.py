"""The U-Net of guided-diffusion (ADM) and of MONAI's DiffusionModelUNet."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it


class ADM(nn.Module):
    """A U-Net with residual blocks that know the noise level, and attention at coarse levels.

    Dhariwal, Nichol, Diffusion models beat GANs on image synthesis, 2021, arXiv:2105.05233,
    appendix. Names of the parameters are those of the released weights.

    Parameters
    ----------
    channels
        Image channels.
    outputs
        Channels that come out: as many, or twice as many with the learned variance.
    base
        Size of the sinusoids of the noise label.
    widths
        Feature channels of each level, fine to coarse.
    blocks
        Residual blocks of each level on the way down; one more on the way up.
    attention
        Whether each level has attention.
    heads
        Attention heads of each level; the middle has those of the last.
    scale_shift
        Whether the noise level scales and shifts the features or is only added to them.
    resblock_updown
        Whether resolution changes inside residual blocks.
    new_order
        Whether queries of all heads come first, then keys, then values, and not head by head.
    middle_attention
        Whether the coarsest features attend to each other.
    groups, eps
        Of the group normalisation.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        base: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        attention: Sequence[bool],
        heads: Sequence[int],
        scale_shift: bool = False,
        resblock_updown: bool = False,
        new_order: bool = False,
        middle_attention: bool = True,
        groups: int = 32,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.channels, self.base = channels, base
        self.stride = 2 ** (len(widths) - 1)
        embedding = 4 * base
        norm = _Norm(groups, eps)

        def block(width: int, out: int, change: float = 1) -> _Block:
            return _Block(width, out, embedding, norm, scale_shift, change)

        def attend(width: int, level: int) -> _Attention:
            return _Attention(width, heads[level], norm, new_order)

        self.time_embed = nn.Sequential(
            nn.Linear(base, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        width, skips = widths[0], [widths[0]]
        self.input_blocks = nn.ModuleList([_Stage([_conv(channels, width)])])
        last = len(widths) - 1
        for level, out in enumerate(widths):
            for _ in range(blocks[level]):
                layers: list[nn.Module] = [block(width, out)]
                width = out
                layers += [attend(width, level)] if attention[level] else []
                self.input_blocks.append(_Stage(layers))
                skips.append(width)
            if level < last:
                down = block(width, width, 0.5) if resblock_updown else _Down(width)
                self.input_blocks.append(_Stage([down]))
                skips.append(width)
        centre = [attend(width, last)] if middle_attention else []
        self.middle_block = _Stage([block(width, width), *centre, block(width, width)])
        self.output_blocks = nn.ModuleList()
        for level in range(last, -1, -1):
            for k in range(blocks[level] + 1):
                layers = [block(width + skips.pop(), widths[level])]
                width = widths[level]
                layers += [attend(width, level)] if attention[level] else []
                if level > 0 and k == blocks[level]:
                    layers += [block(width, width, 2) if resblock_updown else _Up(width)]
                self.output_blocks.append(_Stage(layers))
        self.out = nn.Sequential(norm(width), nn.SiLU(), _conv(width, outputs))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Apply it to (batch, channels, y, x) with the noise labels (batch,)."""
        embedding = self.time_embed(sinusoids(label, self.base).to(x.dtype))
        skips, h = [], x
        for stage in self.input_blocks:
            h = stage(h, embedding)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
        out: Tensor = self.out(h)
        return out


def sinusoids(label: Tensor, size: int) -> Tensor:
    """Cosines, then sines of the labels, at wavelengths from 2 pi to 10^4 as much; (batch, size).

    Vaswani 2017, arXiv:1706.03762, section 3.5, as Ho 2020 took it to noise levels.
    """
    half = size // 2
    power = torch.arange(half, device=label.device, dtype=torch.float32) / half
    phase = label.float()[:, None] * torch.exp(-math.log(1e4) * power)[None]
    return F.pad(torch.cat([phase.cos(), phase.sin()], dim=1), (0, size % 2))


class _Norm:
    """Makes normalisations of one kind."""

    def __init__(self, groups: int, eps: float) -> None:
        self.groups, self.eps = groups, eps

    def __call__(self, width: int) -> nn.GroupNorm:
        return nn.GroupNorm(self.groups, width, self.eps)


def _conv(width: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(width, out, kernel, stride, padding=kernel // 2)


class _Stage(nn.ModuleList):
    """Layers in a row; those that know the noise level are told it."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, _Block) else layer(x)
        return x


class _Down(nn.Module):
    """Half the resolution by a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = _conv(width, width, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.op(x)
        return out


class _Up(nn.Module):
    """Twice the resolution, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class _Block(nn.Module):
    """Two convolutions around what the noise level says, maybe at another resolution.

    ``change``: 0.5 averages 2 x 2 pixels before the first convolution, 2 repeats pixels.
    """

    def __init__(
        self,
        width: int,
        out: int,
        embedding: int,
        norm: _Norm,
        scale_shift: bool,
        change: float,
    ) -> None:
        super().__init__()
        self.scale_shift, self.change = scale_shift, change
        self.in_layers = nn.Sequential(norm(width), nn.SiLU(), _conv(width, out))
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding, 2 * out if scale_shift else out)
        )
        # The third layer drops out while training; it keeps the number it has in the weights.
        self.out_layers = nn.Sequential(norm(out), nn.SiLU(), nn.Identity(), _conv(out, out))
        self.skip_connection = _conv(width, out, 1) if width != out else nn.Identity()

    def _resample(self, x: Tensor) -> Tensor:
        if self.change == 1:
            return x
        if self.change < 1:
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest")

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers[2](self._resample(self.in_layers[1](self.in_layers[0](x))))
        told = self.emb_layers(embedding)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            h = self.out_layers[3](self.out_layers[1](h))
        else:
            h = self.out_layers(h + told)
        out: Tensor = self.skip_connection(self._resample(x)) + h
        return out


class _Attention(nn.Module):
    """Every pixel attends to every other (Vaswani 2017), with a shortcut."""

    def __init__(self, width: int, heads: int, norm: _Norm, new_order: bool) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} channels do not divide into {heads} attention heads")
        self.heads, self.new_order = heads, new_order
        self.norm = norm(width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.norm(x).flatten(2)
        batch, width, pixels = flat.shape
        every = self.qkv(flat)
        if self.new_order:
            parts = every.view(batch, 3, self.heads, width // self.heads, pixels).unbind(1)
        else:
            parts = every.view(batch, self.heads, 3, width // self.heads, pixels).unbind(2)
        # Only contiguous ones are attended to without a table of all pairs of pixels.
        query, key, value = (part.mT.contiguous() for part in parts)
        seen = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj_out(seen.mT.reshape(batch, width, pixels))
        return x + out.view_as(x)
