"""The reverse loop: denoise, make consistent, noise again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.priors.denoiser import Denoiser
from medrecon.sampling.consistency import Consistency
from medrecon.sampling.noise import SliceNoise
from medrecon.sampling.renoise import Renoise
from medrecon.solvers.cg import Outcome


@dataclass(frozen=True)
class Step:
    """One step of the sampler.

    Parameters
    ----------
    index
        Counts from 0.
    sigma
        Noise level of the step.
    estimate
        The consistent estimate of the clean volume; that of the last step is the result.
    residual
        Relative residual of the step's linear system.
    iterations
        Conjugate gradient iterations it took.
    outcome
        How conjugate gradients ended.
    """

    index: int
    sigma: float
    estimate: Tensor
    residual: float
    iterations: int
    outcome: Outcome


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
    """Sample a volume by decomposed diffusion sampling.

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
    x = start + sigmas[0] * noise(start, generator)
    split = None
    for index, sigma in enumerate(sigmas):
        denoised = prior(x, sigma)
        variance = trust * prior.error_variance(sigma)
        solution, split = consistency(denoised, variance, split)
        yield Step(
            index, sigma, solution.value, solution.residual, solution.iterations, solution.outcome
        )
        if index + 1 < len(sigmas):
            predicted = (x - denoised) / sigma
            fresh = noise(start, generator)
            x = renoise(solution.value, predicted, fresh, sigma, sigmas[index + 1])
