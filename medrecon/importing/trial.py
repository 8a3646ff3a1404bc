"""Reading a network one way or another, and how well a phantom is denoised then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medrecon.priors.diffusion import Diffusion, Parametrisation
from medrecon.priors.wrapped import Wrapped, to_clean

SIGMAS = (0.1, 0.5, 3.0)
"""Noise of the phantom, in the prior's unit, whose images lie in [-1, 1]."""
_HIGHEST = 10.0
_WORST = -60.0
"""Gain in dB that stands for any worse one, NaN too."""


@dataclass(frozen=True)
class Trial:
    """What one reading of a network makes of the phantom."""

    diffusion: Diffusion
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """What of the network's settings is not in its file."""
    noisy: tuple[float, ...] = ()
    """PSNR at each of :data:`SIGMAS` in dB, data range 2."""
    denoised: tuple[float, ...] = ()

    @property
    def gains(self) -> tuple[float, ...]:
        """Rise of the PSNR at each noise level, dB."""
        return tuple(b - a for a, b in zip(self.noisy, self.denoised, strict=True))

    @property
    def gain(self) -> float:
        """Mean rise, dB."""
        return sum(self.gains) / len(self.gains)

    @property
    def rises(self) -> bool:
        """Whether every noise level is denoised."""
        return min(self.gains) > 0

    def in_words(self) -> str:
        """Say how the network was read."""
        d, s = self.diffusion, self.diffusion.schedule
        span = "" if s.kind == "cosine" else f" {s.start:g} to {s.end:g}"
        heads = "".join(f", {key} {value}" for key, value in self.overrides.items())
        return f"{d.parametrisation}, {s.kind}{span}, images in {list(d.range)}{heads}"


def try_readings(
    network: nn.Module,
    diffusion: Diffusion,
    parametrisations: Sequence[Parametrisation],
    image: Tensor,
    overrides: Mapping[str, Any],
) -> Iterator[Trial]:
    """Denoise a phantom with every meaning that a network's output could have.

    The network is evaluated once for all of them.

    Parameters
    ----------
    network, diffusion
        The network, and how it was trained but for what its output means.
    parametrisations
        The meanings; ``edm``, whose input is scaled differently, only by itself.
    image
        Clean, (batch, channels, y, x), in the prior's unit.
    overrides
        Told on with the results.
    """
    readings = [diffusion.model_copy(update={"parametrisation": p}) for p in parametrisations]
    noisy: list[float] = []
    denoised: list[list[float]] = [[] for _ in readings]
    wrapped = Wrapped(network, readings[0], complex_images=image.shape[1] == 2)
    for sigma in SIGMAS:
        x = image + sigma * _noise(image)
        with torch.no_grad():
            w, level = wrapped.enter(x, torch.full((len(x),), sigma))
            out = wrapped.output(w, level)
        noisy.append(psnr(x, image))
        for found, reading in zip(denoised, readings, strict=True):
            value = psnr(wrapped.leave(to_clean(w, out, level, reading), x), image)
            found.append(value if math.isfinite(value) else noisy[-1] + _WORST)
    for reading, found in zip(readings, denoised, strict=True):
        limited = [max(value, before + _WORST) for value, before in zip(found, noisy, strict=True)]
        yield Trial(reading, dict(overrides), tuple(noisy), tuple(limited))


def noise_statistics(network: nn.Module, diffusion: Diffusion, image: Tensor) -> tuple[float, ...]:
    """Mean and deviation of the noise that a network sees in a very noisy phantom.

    They are 0 and 1 but for the image's share, at most a tenth. An image that is read with the
    wrong offset shows in the mean, a wrong schedule in the deviation.
    """
    wrapped = Wrapped(network, diffusion, complex_images=image.shape[1] == 2)
    sigma = min(_HIGHEST, 0.9 * diffusion.schedule.range[1] / wrapped.scale)
    x = image + sigma * _noise(image)
    with torch.no_grad():
        noise = (x - wrapped(x, torch.full((len(x),), sigma))) / sigma
    return float(noise.mean()), float(noise.std())


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal to noise in dB for a data range of 2."""
    return 10 * math.log10(4 / max(float((image - reference).square().mean()), 1e-30))


def _noise(image: Tensor) -> Tensor:
    return torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
