"""Looks whether a prior fits a scan, and leans on total variation where it does not."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from medrecon.baselines import total_variation
from medrecon.data_term import DataTerm
from medrecon.priors.adaptation import Adapted
from medrecon.priors.weights import Prior
from medrecon.problem import Problem
from medrecon.protocol import Baseline, Safety, Sampler
from medrecon.safety.adapting import adapt
from medrecon.safety.comparison import compare
from medrecon.safety.groups import kind_of_groups, split
from medrecon.safety.held_out import HeldOut
from medrecon.safety.leaning import lean
from medrecon.safety.self_consistency import self_consistency
from medrecon.safety.verdict import Look, Test, Verdict
from medrecon.samplers import assemble, data_step, levels

_CHEAP = Safety(held_out="never", action="report")

Progress = tuple[int, int]
"""Which of how many parts is done."""


@dataclass(eq=False)
class Safeguard:
    """Everything that the look at a sampler's result needs.

    Parameters
    ----------
    prior
        The prior that was used.
    problem
        Data term, grid and geometry.
    sampler
        The protocol's sampler.
    tv
        Its baseline of total variation, ``None`` where it has none.
    seed
        The run's seed.
    """

    prior: Prior
    problem: Problem
    sampler: Sampler
    tv: Baseline | None
    seed: int
    _calls: int = field(default=0, init=False)

    def __call__(
        self, images: Mapping[str, Tensor], result: Tensor
    ) -> Generator[Progress, None, tuple[Tensor, Verdict]]:
        """Judge ``result``, and return what it should be and why; to be called once.

        Parameters
        ----------
        images
            The baselines by name, in the prior's unit.
        result
            The sampler's image.
        """
        image, verdict = yield from self._judged(images, result)
        return image, replace(verdict, calls=self._calls)

    def _judged(
        self, images: Mapping[str, Tensor], result: Tensor
    ) -> Generator[Progress, None, tuple[Tensor, Verdict]]:
        tv = None if self.tv is None else images[self.tv.method]
        look = self.look(result, tv)
        yield 1, 4
        if self.safety.held_out == "never" or self.tv is None or tv is None:
            return result, Verdict(look, untested=self._why_not)
        if self.safety.held_out == "auto" and not look.is_worth_a_test:
            return result, Verdict(look)
        held = split(self.problem.data, self.problem.study.geometry, self._generator(1))
        if held is None:
            few = "too few views or lines to compare with total variation on held-out ones"
            return result, Verdict(look, untested=few)
        start = self._total_variation(held.training, self.tv)
        yield 2, 4
        test = self._test(held, start, self.prior)
        yield 3, 4
        if self.safety.action == "adapt" and test.leaning.share < 1:
            learnt = self._adapted(held, start)
            again = replace(self._test(held, start, learnt), is_adapted=True)
            if again.leaning.expected_db > test.leaning.expected_db:
                test = again
                result = self._sample(learnt, self.problem.data, images, self.sampler.steps)
        yield 4, 4
        is_applied = self.safety.action != "report"
        return (test.leaning(tv, result) if is_applied else result), Verdict(look, test, is_applied)

    def look(self, result: Tensor, tv: Tensor | None) -> Look:
        """Look at a result without repeating anything."""
        data = self.problem.data
        found = self_consistency(self.prior.denoiser, result, self._generator(0))
        self._calls += found.calls
        return Look(
            found,
            data.misfit(result),
            None if tv is None else data.misfit(tv),
        )

    @property
    def safety(self) -> Safety:
        """The protocol's settings, or the cheap look."""
        return self.sampler.safety or _CHEAP

    @property
    def _why_not(self) -> str:
        if self.sampler.safety is not None and self.tv is None:
            return "not compared with total variation, as it is not among the baselines"
        return Verdict.untested

    def _generator(self, stream: int) -> torch.Generator:
        """Randomness of its own, so that looking changes no result."""
        return torch.Generator().manual_seed((self.seed + 0x5AFE * (stream + 1)) % 2**63)

    def _total_variation(self, data: DataTerm, spec: Baseline) -> Tensor:
        for state in total_variation(
            data, self.problem.grid.spacing, weight=spec.strength, iterations=spec.iterations
        ):
            value = state.value
        return value

    def _test(self, held: HeldOut, start: Tensor, prior: Prior) -> Test:
        steps = self.sampler.steps
        if self.sampler.start != "noise":  # a start from noise needs all of them
            steps = min(steps, self.safety.steps)
        sampled = self._sample(prior, held.training, {self.sampler.start: start}, steps)
        comparison = compare(held, start, sampled, self._generator(2))
        kind = kind_of_groups(self.problem.study.geometry)
        return Test(comparison, held.groups, held.of, kind, lean(comparison))

    def _sample(
        self, prior: Prior, data: DataTerm, images: Mapping[str, Tensor], steps: int
    ) -> Tensor:
        problem = replace(self.problem, data=data)
        settings = self.sampler.model_copy(update={"steps": steps})
        sampler = assemble(prior, problem, settings, dict(images), self.seed)
        for step in sampler.steps():
            estimate = step.estimate
        self._calls += sampler.counted.calls
        return estimate

    def _adapted(self, held: HeldOut, start: Tensor) -> Prior:
        settings = self.safety.adaptation
        generator = self._generator(3)
        learner = Adapted.of(self.prior.denoiser, generator, rank=settings.rank, rate=settings.rate)
        short = self.sampler.model_copy(update={"steps": settings.levels})
        training = replace(self.problem, data=held.training)
        for lesson in adapt(
            learner,
            data_step(training, self.prior.denoiser, self.sampler).consistency,
            held,
            start,
            levels(short, self.prior.card),
            iterations=settings.iterations,
            trust=self.sampler.trust,
            generator=generator,
        ):
            self._calls += lesson.calls
        return replace(self.prior, denoiser=learner.denoiser)
