"""The network UNet2DModel of diffusers; its parts carry the names they have there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.networks.diffusers_blocks import (
    ACTIVATIONS,
    Attention,
    Doubling,
    Halving,
    Level,
    Middle,
    ResidualBlock,
    TimeEmbedding,
)
from medrecon.priors.networks.layers import FourierFeatures, sinusoidal


class DiffusersUNet(nn.Module):
    """U-Net with residual blocks and attention.

    Parameters
    ----------
    channels, outputs
        Image channels in and out; a network that learned its variance says twice as many.
    widths
        Feature channels of each level, fine to coarse.
    layers
        Residual blocks per level; the way up has one more.
    attention_down, attention_up
        Levels with attention after each block, counted in the order they are passed: from the
        finest on the way down, from the coarsest on the way up.
    residual_down, residual_up
        Levels, counted alike, that are resampled inside a residual block, not by a convolution.
    middle, middle_attention
        Whether there is a block between down and up, and attention in it.
    middle_scale
        What the sums in the middle are divided by.
    head_size
        Channels of an attention head; ``None`` for one head.
    groups, middle_groups
        Groups of the normalisations, and of the middle attention's; ``None`` where it has none.
    eps
        Added to variances in normalisations.
    scale_shift
        Whether the noise level scales features as well as it shifts them.
    embedding
        ``positional``: the label is a number, embedded by sines. ``fourier``: it is a noise
        deviation, embedded by Fourier features of its log, and divides the output. ``learned``:
        it is the number of a learned vector.
    embedding_size
        Length of the embedding of the noise level.
    cosine_first, shift
        See :func:`~medrecon.priors.networks.layers.sinusoidal`.
    labels
        Number of learned vectors.
    symmetric
        Whether convolutions that halve see zeros on all sides, not below and to the right only.
    activation
        One of :data:`~medrecon.priors.networks.diffusers_blocks.ACTIVATIONS`.
    centre
        Whether images lie in [0, 1] and the network centres them.

    References
    ----------
    von Platen et al., Diffusers: state-of-the-art diffusion models, 2022; the architecture is that
    of Dhariwal and Nichol 2021, arXiv:2105.05233, and of Song et al. 2021, arXiv:2011.13456.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        widths: Sequence[int],
        layers: int,
        attention_down: Sequence[int] = (),
        attention_up: Sequence[int] = (),
        residual_down: Sequence[int] = (),
        residual_up: Sequence[int] = (),
        middle: bool = True,
        middle_attention: bool = True,
        middle_scale: float = 1.0,
        head_size: int | None = 8,
        groups: int = 32,
        middle_groups: int | None = 32,
        eps: float = 1e-5,
        scale_shift: bool = False,
        embedding: str = "positional",
        embedding_size: int = 512,
        cosine_first: bool = True,
        shift: float = 0.0,
        labels: int = 1000,
        symmetric: bool = True,
        activation: str = "silu",
        centre: bool = False,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"there is no activation {activation!r}, only {list(ACTIVATIONS)}")
        if embedding not in ("positional", "fourier", "learned"):
            raise ValueError(f"there is no embedding {embedding!r}")
        self.channels, self.stride = channels, 2 ** (len(widths) - 1)
        self.fourier, self.centre = embedding == "fourier", centre
        self.waves = partial(sinusoidal, size=widths[0], cosine_first=cosine_first, shift=shift)
        residual = partial(
            ResidualBlock,
            embedding=embedding_size,
            groups=groups,
            eps=eps,
            scale_shift=scale_shift,
            activation=ACTIVATIONS[activation],
        )
        looks = partial(Attention, head_size=head_size, groups=groups, eps=eps)

        self.conv_in = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.time_proj: nn.Module | None = None
        if embedding == "fourier":
            self.time_proj = FourierFeatures(widths[0])
        elif embedding == "learned":
            self.time_proj = nn.Embedding(labels, widths[0])
        self.time_embedding = TimeEmbedding((2 if self.fourier else 1) * widths[0], embedding_size)
        last = len(widths) - 1
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        now, skips = widths[0], [widths[0]]
        for index, width in enumerate(widths):
            level = Level()
            for _ in range(layers):
                level.resnets.append(residual(now, width))
                now = width
                skips.append(now)
                if index in attention_down:
                    level.attentions.append(looks(now))
            if index < last:
                level.downsamplers = nn.ModuleList(
                    [
                        residual(now, now, resample=partial(F.avg_pool2d, kernel_size=2))
                        if index in residual_down
                        else Halving(now, symmetric)
                    ]
                )
                skips.append(now)
            self.down_blocks.append(level)
        self.mid_block = (
            Middle(
                [residual(now, now, scale=middle_scale) for _ in range(2)],
                Attention(now, head_size, middle_groups, eps, middle_scale)
                if middle_attention
                else None,
            )
            if middle
            else None
        )
        for index, width in enumerate(reversed(widths)):
            level = Level()
            for _ in range(layers + 1):
                level.resnets.append(residual(now + skips.pop(), width))
                now = width
                if index in attention_up:
                    level.attentions.append(looks(now))
            if index < last:
                level.upsamplers = nn.ModuleList(
                    [
                        residual(now, now, resample=partial(F.interpolate, scale_factor=2.0))
                        if index in residual_up
                        else Doubling(now)
                    ]
                )
            self.up_blocks.append(level)
        self.conv_norm_out = nn.GroupNorm(groups, now, eps)
        self.conv_out = nn.Conv2d(now, outputs, 3, padding=1)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        x
            Noisy images ``(batch, channels, y, x)``, sides multiples of :attr:`stride`.
        label
            Noise level as the network knows it, shape ``(batch,)``.

        Returns
        -------
        Tensor
            What it was trained for, shape ``(batch, outputs, y, x)``.
        """
        embedding = self.time_embedding(self._embed(label).to(self.conv_in.weight.dtype))
        h = self.conv_in(2 * x - 1 if self.centre else x)
        skips = [h]
        for level in self.down_blocks:
            h = level.down(h, embedding, skips)  # type: ignore[operator]
        h = h if self.mid_block is None else self.mid_block(h, embedding)
        for level in self.up_blocks:
            h = level.up(h, embedding, skips)  # type: ignore[operator]
        out: Tensor = self.conv_out(F.silu(self.conv_norm_out(h)))
        return out / label.view(-1, 1, 1, 1) if self.fourier else out

    def _embed(self, label: Tensor) -> Tensor:
        if self.time_proj is None:
            return self.waves(label)
        number = label if self.fourier else label.round().to(torch.long)
        vector: Tensor = self.time_proj(number)
        return vector
