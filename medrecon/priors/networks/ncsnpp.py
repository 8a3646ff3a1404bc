"""The network NCSN++ (and DDPM++) of score_sde, in plain convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.networks.fir import FilteredConv, Resample
from medrecon.priors.networks.layers import FourierFeatures, sinusoidal
from medrecon.priors.networks.ncsnpp_blocks import (
    Activation,
    AsymmetricHalving,
    Attention,
    InputSkip,
    OutputSkip,
    ResidualBlock,
    ResidualInput,
    Tail,
    conv3,
)

Taps = Sequence[float] | None
Block = Literal["biggan", "ddpm"]
ImageIn = Literal["none", "input_skip", "residual"]
ImageOut = Literal["none", "output_skip"]

ACTIVATIONS: dict[str, Activation] = {
    "swish": F.silu,
    "elu": F.elu,
    "relu": F.relu,
    "lrelu": partial(F.leaky_relu, negative_slope=0.2),
}


class NCSNpp(nn.Module):
    """U-Net with residual blocks, attention, and pyramids of the image beside it.

    Parameters
    ----------
    channels
        Image channels.
    width
        Feature channels of the finest level; groups of the normalisation need it in fours.
    multipliers
        Feature channels of each level over ``width``, fine to coarse.
    blocks
        Residual blocks per level; the decoder has one more.
    attention
        Levels with attention after their blocks; the middle always has it.
    block
        ``biggan`` resamples inside a residual block, ``ddpm`` beside.
    taps
        Filter of all resampling; ``None`` for 2x2 blocks.
    skip_rescale
        Whether sums of two paths are divided by sqrt(2).
    resample_conv
        Whether ``ddpm`` blocks are resampled by a convolution.
    image_in
        How the shrunken image joins the encoder: ``none``, ``input_skip`` or ``residual``.
    image_in_joins
        ``sum`` or ``cat``, of ``input_skip``.
    image_out
        How the image is gathered from the decoder: ``none`` or ``output_skip``. The public code
        has a third way, ``residual``, in which it does not run.
    fourier
        Whether the label is a noise deviation, embedded by Fourier features of its log; otherwise
        it is a number, embedded by sines.
    conditional
        Whether the network sees the label at all.
    centred
        Whether images lie in [-1, 1]; otherwise in [0, 1], and the network centres them.
    scale_by_sigma
        Whether the output is divided by the noise deviation, which makes it the score.
    sigmas
        Noise deviation of label 0, of the last label, and the number of labels, evenly spaced in
        the logarithm; needed to scale by sigma where the label is a number.
    activation
        One of :data:`ACTIVATIONS`.

    References
    ----------
    Song et al., Score-based generative modeling through stochastic differential equations, 2021,
    arXiv:2011.13456, appendix H.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int] = (),
        block: Block = "biggan",
        taps: Taps = (1.0, 3.0, 3.0, 1.0),
        skip_rescale: bool = True,
        resample_conv: bool = True,
        image_in: ImageIn = "none",
        image_in_joins: str = "sum",
        image_out: ImageOut = "none",
        fourier: bool = True,
        conditional: bool = True,
        centred: bool = False,
        scale_by_sigma: bool = True,
        sigmas: tuple[float, float, int] | None = None,
        activation: str = "swish",
    ) -> None:
        super().__init__()
        _check(block, image_in, image_out, activation)
        if scale_by_sigma and not fourier and sigmas is None:
            raise ValueError("scaling by sigma needs the noise deviations that labels stand for")
        self.channels = channels
        self.stride = 2 ** (len(multipliers) - 1)
        self.width, self.centred = width, centred
        self.scale_by_sigma, self.sigmas = scale_by_sigma, sigmas
        self.activation = ACTIVATIONS[activation]
        embedding = 4 * width
        residual = partial(
            ResidualBlock,
            embedding=embedding,
            activation=self.activation,
            rescale=skip_rescale,
        )
        looks = partial(Attention, rescale=skip_rescale)
        shrink, grow = Resample(0.5, taps), Resample(2, taps)
        last = len(multipliers) - 1

        self.features = FourierFeatures(width) if fourier else None
        self.time = nn.ModuleList()
        if conditional:
            self.time.append(nn.Linear((2 if fourier else 1) * width, embedding))
            self.time.append(nn.Linear(embedding, embedding))
        self.head = conv3(channels, width)

        self.encoder = nn.ModuleList()
        now, image, skips = width, channels, [width]
        for index, multiplier in enumerate(multipliers):
            level = EncoderLevel()
            for _ in range(blocks):
                level.blocks.append(residual(now, width * multiplier))
                now = width * multiplier
                skips.append(now)
                if index in attention:
                    level.attention.append(looks(now))
            if index < last:
                level.resample = (
                    residual(now, now, resample=shrink)
                    if block == "biggan"
                    else _Unaware(_halving(now, now, taps) if resample_conv else shrink)
                )
                if image_in == "input_skip":
                    level.join = InputSkip(image, now, shrink, image_in_joins)
                    now *= 2 if image_in_joins == "cat" else 1
                elif image_in == "residual":
                    level.join = ResidualInput(_halving(image, now, taps), skip_rescale)
                    image = now
                skips.append(now)
            self.encoder.append(level)

        self.middle = nn.ModuleList([residual(now, now), looks(now), residual(now, now)])

        self.decoder = nn.ModuleList()
        for index in reversed(range(len(multipliers))):
            stage = DecoderLevel()
            for _ in range(blocks + 1):
                stage.blocks.append(residual(now + skips.pop(), width * multipliers[index]))
                now = width * multipliers[index]
            if index in attention:
                stage.attention = looks(now)
            if image_out == "output_skip":
                stage.gather = OutputSkip(Tail(now, channels, self.activation), grow)
            if index > 0:
                stage.resample = (
                    residual(now, now, resample=grow)
                    if block == "biggan"
                    else _Unaware(_doubling(now, taps) if resample_conv else grow)
                )
            self.decoder.append(stage)
        self.tail = None if image_out == "output_skip" else Tail(now, channels, self.activation)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Apply the network.

        Parameters
        ----------
        x
            Noisy images ``(batch, channels, y, x)``, sides multiples of :attr:`stride`.
        label
            Noise deviation or number of the noise level, shape ``(batch,)``.

        Returns
        -------
        Tensor
            What it was trained for, shape of ``x``: the score where the output is scaled by sigma.
        """
        embedding = self._embed(label)
        image = x if self.centred else 2 * x - 1
        h = self.head(image)
        skips = [h]
        for level in self.encoder:
            h, image = level(h, image, embedding, skips)
        first, looks, second = self.middle
        h = second(looks(first(h, embedding)), embedding)
        gathered: Any = None
        for level in self.decoder:
            h, gathered = level(h, gathered, embedding, skips)
        out: Tensor = gathered if self.tail is None else self.tail(h)
        if not self.scale_by_sigma:
            return out
        scaled: Tensor = out / self._deviation(label).view(-1, 1, 1, 1)
        return scaled

    def _embed(self, label: Tensor) -> Tensor | None:
        if not self.time:
            return None
        waves = (
            sinusoidal(label, self.width, cosine_first=False, shift=1)
            if self.features is None
            else self.features(label)
        )
        first, second = self.time
        embedding: Tensor = second(self.activation(first(waves.to(self.head.weight.dtype))))
        return embedding

    def _deviation(self, label: Tensor) -> Tensor:
        """Noise deviation that a label stands for."""
        if self.sigmas is None:
            return label
        start, end, count = self.sigmas
        deviation: Tensor = start * (end / start) ** (label / (count - 1))
        return deviation


class EncoderLevel(nn.Module):
    """One resolution on the way down, with what leads to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.attention = nn.ModuleList(), nn.ModuleList()
        self.resample: nn.Module | None = None
        self.join: nn.Module | None = None

    def forward(
        self, h: Tensor, image: Tensor, embedding: Tensor | None, skips: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Give features and image of the next resolution; ``skips`` grows."""
        for number, block in enumerate(self.blocks):
            h = block(h, embedding)
            h = self.attention[number](h) if self.attention else h
            skips.append(h)
        if self.resample is not None:
            h = self.resample(h, embedding)
            if self.join is not None:
                h, image = self.join(h, image)
            skips.append(h)
        return h, image


class DecoderLevel(nn.Module):
    """One resolution on the way up, with what leads to the next."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        self.attention: nn.Module | None = None
        self.gather: nn.Module | None = None
        self.resample: nn.Module | None = None

    def forward(
        self, h: Tensor, gathered: Tensor | None, embedding: Tensor | None, skips: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        """Give features of the next resolution and what is gathered; ``skips`` shrinks."""
        for block in self.blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), embedding)
        h = h if self.attention is None else self.attention(h)
        if self.gather is not None:
            h, gathered = self.gather(h, gathered)
        return h if self.resample is None else self.resample(h, embedding), gathered


class _Unaware(nn.Module):
    """Resampling that does not see the noise level."""

    def __init__(self, resample: nn.Module) -> None:
        super().__init__()
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Resample ``(batch, channels, y, x)``."""
        changed: Tensor = self.resample(x)
        return changed


def _halving(in_channels: int, out_channels: int, taps: Taps) -> nn.Module:
    if taps is None:
        return AsymmetricHalving(in_channels, out_channels)
    return FilteredConv(in_channels, out_channels, taps)


def _doubling(channels: int, taps: Taps) -> nn.Module:
    # With a filter, the public code stops at a negative step, so that nobody has such weights.
    if taps is not None:
        raise ValueError("doubling by a convolution is known without a filter only")
    return nn.Sequential(Resample(2, None), conv3(channels, channels))


def _check(block: str, image_in: str, image_out: str, activation: str) -> None:
    for value, known in (
        (block, get_args(Block)),
        (image_in, get_args(ImageIn)),
        (image_out, get_args(ImageOut)),
        (activation, tuple(ACTIVATIONS)),
    ):
        if value not in known:
            raise ValueError(f"{value!r} is none of {', '.join(known)}")
