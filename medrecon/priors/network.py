"""A compact convolutional network for denoising image slices at any noise level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

_GROUPS = 8


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a scale and shift (FiLM) that depends on the noise level."""

    def __init__(self, in_channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_GROUPS, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * out_channels)
        self.norm2 = nn.GroupNorm(_GROUPS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = (
            nn.Conv2d(in_channels, out_channels, 1)
            if in_channels != out_channels
            else nn.Identity()
        )
        # The block starts as the identity, which keeps the first steps of training stable.
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        changed: Tensor = self.skip(x) + h
        return changed


class UNet(nn.Module):
    """A U-Net that works on 2x2 pixel blocks and knows the noise level and the position.

    The image is folded by 2x2 (pixel unshuffle) so that the widest feature maps have a quarter of
    the pixels; there is no attention, so any size that is a multiple of :attr:`stride` fits.

    Parameters
    ----------
    channels
        Image channels: 1 for a real image, 2 for the real and imaginary part of a complex one.
    widths
        Feature channels of each resolution level, fine to coarse; multiples of 8.
    blocks
        Residual blocks per level and direction.
    embedding
        Size of the noise-level embedding.
    neighbours
        Whether it also sees the slices below and above, as their differences from the slice:
        zero where there is none.
    """

    frequencies: Tensor

    def __init__(
        self,
        channels: int = 1,
        widths: tuple[int, ...] = (48, 96, 160),
        blocks: int = 2,
        embedding: int = 128,
        neighbours: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.neighbours = neighbours
        self.stride = 2 ** len(widths)
        # Frequencies of log(sigma)/4; spread so that neighbouring noise levels stay apart.
        self.register_buffer("frequencies", torch.linspace(0.1, 3.0, 32))
        self.embed = nn.Sequential(
            nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )
        seen = channels * (3 if neighbours else 1)
        self.head = nn.Conv2d(4 * (seen + 2), widths[0], 3, padding=1)
        self.encoder = nn.ModuleList()
        self.downsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        self.upsample = nn.ModuleList()
        width, skips = widths[0], []
        for level, out in enumerate(widths):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(_ResidualBlock(width, out, embedding))
                width = out
                skips.append(width)
            self.encoder.append(stage)
            if level < len(widths) - 1:
                self.downsample.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle = _ResidualBlock(width, width, embedding)
        for level in reversed(range(len(widths))):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(_ResidualBlock(width + skips.pop(), widths[level], embedding))
                width = widths[level]
            self.decoder.append(stage)
            if level > 0:
                self.upsample.append(nn.Conv2d(width, widths[level - 1], 3, padding=1))
                width = widths[level - 1]
        self.tail_norm = nn.GroupNorm(_GROUPS, width)
        self.tail = nn.Conv2d(width, 4 * channels, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, noise_label: Tensor, position: Tensor, differences: Tensor | None = None
    ) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        x
            Images, shape ``(batch, channels, y, x)``.
        noise_label
            One number per image, shape ``(batch,)``; ``log(sigma) / 4`` by convention.
        position
            x and y of every pixel in [-1, 1] over the full slice, shape ``(batch, 2, y, x)``.
        differences
            Slice below and slice above minus ``x``, shape ``(batch, 2 channels, y, x)``; ``None``
            for zeros. Only a network with ``neighbours`` sees them.

        Returns
        -------
        Tensor
            Shape of ``x``.
        """
        phase = 2 * math.pi * noise_label[:, None] * self.frequencies[None]
        embedding = self.embed(torch.cat([phase.sin(), phase.cos()], dim=1))
        seen = [x, position]
        if self.neighbours:
            absent = x.new_zeros((len(x), 2 * self.channels, *x.shape[2:]))
            seen.append(absent if differences is None else differences)
        h = _in_full_precision(self.head, F.pixel_unshuffle(torch.cat(seen, dim=1), 2))
        skips: list[Tensor] = []
        for level, stage in enumerate(self.encoder):
            for block in stage:  # type: ignore[attr-defined]
                h = block(h, embedding)
                skips.append(h)
            if level < len(self.downsample):
                h = self.downsample[level](h)
        h = self.middle(h, embedding)
        for level, stage in enumerate(self.decoder):
            for block in stage:  # type: ignore[attr-defined]
                h = block(torch.cat([h, skips.pop()], dim=1), embedding)
            if level < len(self.upsample):
                h = self.upsample[level](F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return F.pixel_shuffle(self.tail(F.silu(self.tail_norm(h))), 2)


def _in_full_precision(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer to values that autocast must not round, and round its result.

    bfloat16 keeps eight bits of an image that spans the whole range: its last bit is as large as
    the little noise that is to be seen at the end of sampling.
    """
    kind = x.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        exact: Tensor = layer(x)
        return exact
    rounded = torch.get_autocast_dtype(kind)
    with torch.autocast(kind, enabled=False):
        out: Tensor = layer(x)
    return out.to(rounded)


def position_channels(height: int, width: int) -> Tensor:
    """Coordinates of every pixel, x first, in [-1, 1] over the slice; shape ``(2, y, x)``."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    return torch.stack([x, y])


class EDM(nn.Module):
    r"""A network preconditioned to a denoiser, D(x, sigma) = E[x0 | x0 + sigma n = x].

    .. math:: D(x, \sigma) = c_{skip} x + c_{out} F(c_{in} x, \ln(\sigma)/4)

    A network that sees the noisy neighbours of a slice too, with noise of their own, gives the
    mean given all three.

    Parameters
    ----------
    network
        F; takes ``(image, noise label, position)``.
    sigma_data
        Standard deviation of the clean images, in their normalised unit.

    References
    ----------
    Karras et al., Elucidating the design space of diffusion-based generative models, 2022,
    arXiv:2206.00364, table 1.
    """

    def __init__(self, network: UNet, sigma_data: float) -> None:
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data

    def forward(
        self, x: Tensor, sigma: Tensor, position: Tensor, neighbours: Tensor | None = None
    ) -> Tensor:
        """Denoise ``x`` (batch, channels, y, x) whose noise has deviation ``sigma`` (batch,).

        ``neighbours`` are the noisy slices below and above, (batch, 2 channels, y, x); where
        there is none, ``x`` itself stands for it.
        """
        s = sigma.view(-1, 1, 1, 1)
        total = (s**2 + self.sigma_data**2).sqrt()
        c_skip = (self.sigma_data / total) ** 2
        c_out = s * self.sigma_data / total
        differences = None if neighbours is None else (neighbours - x.repeat(1, 2, 1, 1)) / total
        raw: Tensor = self.network(x / total, sigma.log() / 4, position, differences)
        return c_skip * x + c_out * raw.to(x.dtype)
