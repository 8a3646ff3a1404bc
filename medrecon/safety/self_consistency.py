"""How well a prior denoises an image beside how well its card says it denoises its patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.priors.denoiser import Denoiser
from medrecon.sampling.noise import SliceNoise

SIGMAS = (0.1, 0.2)
"""Noise levels of the look, in the prior's unit: above the errors of a start, below the anatomy."""


@dataclass(frozen=True)
class SelfConsistency:
    """Errors of a denoiser on one image, over the errors that its card expects.

    Parameters
    ----------
    sigmas
        Noise levels.
    ratios
        Mean squared error on the image over ``error_variance``, one per level.
    calls
        Network calls it took.
    """

    sigmas: tuple[float, ...]
    ratios: tuple[float, ...]
    calls: int

    @property
    def ratio(self) -> float:
        """Geometric mean over the levels; about 1 or less where the image is as those trained on.

        A reconstruction is smoother than its truth, and smooth images are easy to denoise: on
        chests, abdomens and heads it lies between 0.4 and 0.8.
        """
        return math.exp(sum(math.log(max(r, 1e-12)) for r in self.ratios) / len(self.ratios))


def self_consistency(
    prior: Denoiser,
    image: Tensor,
    generator: torch.Generator,
    sigmas: Sequence[float] = SIGMAS,
) -> SelfConsistency:
    r"""Noise an image, denoise it, and compare the error with what the prior's card expects.

    .. math:: \rho(\sigma) = \frac{\|D(u + \sigma n, \sigma) - u\|^2}{N\, e^2(\sigma)}

    The prior's ``e^2`` is its error on patients of its own kind, so a ratio above 1 says that this
    image is of another kind. The expected error of a denoiser that is given a clean image is its
    mean squared error whatever the image; no truth is needed, only an image near it.

    Parameters
    ----------
    prior
        The denoiser.
    image
        Reconstruction ``(z, y, x)`` in the prior's unit, real or complex.
    generator
        Source of the noise, on the CPU.
    sigmas
        Noise levels, one network call each.
    """
    noise = SliceNoise(spacing=1.0)
    channels = 2 if image.is_complex() else 1
    ratios = []
    for sigma in sigmas:
        noisy = image + sigma * noise(image, generator)
        error = float((prior(noisy, sigma) - image).abs().square().mean()) / channels
        ratios.append(error / prior.error_variance(sigma))
    return SelfConsistency(tuple(sigmas), tuple(ratios), len(ratios))
