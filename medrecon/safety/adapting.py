"""Lets a prior learn from one scan, watched by measurements that it does not learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.priors.adaptation import Adapted, kept_if_better
from medrecon.safety.comparison import visible_error
from medrecon.safety.held_out import HeldOut
from medrecon.sampling.consistency import Consistency
from medrecon.sampling.noise import SliceNoise

_SLICES = 4  # that pass through the network in one step


@dataclass(frozen=True)
class Lesson:
    """What was learnt at one noise level.

    Parameters
    ----------
    sigma
        The level.
    before, after
        Error of the consistent estimate on the held-out measurements.
    calls
        Calls of the network for the whole volume; steps of learning on slices are not counted.
    """

    sigma: float
    before: float
    after: float
    calls: int

    @property
    def was_kept(self) -> bool:
        """Whether it helped to predict what was held out; otherwise it was forgotten."""
        return self.after < self.before


def adapt(
    prior: Adapted,
    consistency: Consistency,
    held: HeldOut,
    start: Tensor,
    sigmas: Sequence[float],
    *,
    iterations: int,
    trust: float,
    generator: torch.Generator,
) -> Iterator[Lesson]:
    """Learn along falling noise levels, one lesson each.

    Every step noises the present estimate afresh, denoises it, draws it to the training data and
    teaches the network the difference. A lesson that does not predict the held-out measurements
    better than before is forgotten, so that noise and artefacts are not learnt.

    Parameters
    ----------
    prior
        Learns in place.
    consistency
        Proximal map of the training data.
    held
        Measurements in two parts.
    start
        First estimate ``(z, y, x)``, e.g. total variation of the training data.
    sigmas
        Falling noise levels.
    iterations
        Steps of learning at each.
    trust
        As the sampler's: factor on the denoiser's error variance.
    generator
        Source of noise and of the choice of slices, on the CPU.
    """
    noise = SliceNoise(spacing=1.0)
    estimate = start
    for sigma in sigmas:
        variance = trust * prior.error_variance(sigma)

        def improved(x: Tensor, sigma: float = sigma, variance: float = variance) -> Tensor:
            return consistency(prior(x, sigma), variance)[0].value

        x = estimate + sigma * noise(estimate, generator)
        with kept_if_better(prior) as scores:
            scores.append(visible_error(held, improved(x), variance))
            for _ in range(iterations):
                seen = estimate + sigma * noise(estimate, generator)
                slices = torch.randperm(len(estimate), generator=generator)[:_SLICES]
                prior.learn(seen, sigma, improved(seen), slices)
            after = improved(x)
            scores.append(visible_error(held, after, variance))
        yield Lesson(sigma, scores[0], scores[-1], iterations + 2)
        estimate = after if scores[-1] < scores[0] else improved(x)
