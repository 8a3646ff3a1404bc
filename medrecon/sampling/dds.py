"""Decomposed diffusion sampling: the plain member of the family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from medrecon.priors.denoiser import Denoiser
from medrecon.sampling.consistency import Consistency
from medrecon.sampling.data_step import ErrorVariance, ProximalStep
from medrecon.sampling.denoise import Tweedie
from medrecon.sampling.loop import Method, Renoise, Step, sample
from medrecon.sampling.noise import SliceNoise
from medrecon.sampling.start import NoisyStart


def dds(
    prior: Denoiser,
    consistency: Consistency,
    start: Tensor,
    sigmas: Sequence[float],
    *,
    renoise: Renoise,
    noise: SliceNoise,
    generator: torch.Generator,
    trust: float = 1.0,
) -> Iterator[Step]:
    """Sample a volume by decomposed diffusion sampling: denoise, make consistent, noise again.

    The caller owns the loop: every iteration of the generator is one step, the last one's
    ``estimate`` is the reconstruction.

    Parameters
    ----------
    prior
        The denoiser.
    consistency
        The data step.
    start
        Clean start in the prior's unit, ``(z, y, x)``: a classical reconstruction, or zeros for
        a start from noise. Noise of the first level is added to it.
    sigmas
        Falling noise levels, one step each.
    renoise
        Law between two levels.
    noise
        Source of fresh noise.
    generator
        Source of randomness, on the CPU.
    trust
        Factor on the denoiser's own error variance, which weighs its estimate against the data:
        1 takes the prior's word, more follows the data further. With 1 and a white Gaussian
        prior the sampler's mean is the exact posterior mean.

    Yields
    ------
    Step
        Report and estimate of each step.

    References
    ----------
    Chung, Lee and Ye, Decomposed diffusion sampler for accelerating large-scale inverse problems,
    ICLR 2024, arXiv:2303.05754; here with Hermitian inner products, an exact adjoint, a data term
    in nats and total variation that does not tie the top slice to the bottom one.
    """
    method = Method(
        NoisyStart(start),
        Tweedie(prior),
        ProximalStep(consistency, ErrorVariance(prior, trust)),
        renoise,
    )
    return sample(method, sigmas, partial(noise, start, generator))
