"""The reverse loop: four choices (start, denoise, data step, re-noise) along falling levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.sampling.consistency import Carried
from medrecon.solvers.cg import Outcome, Solution

Draw = Callable[[], Tensor]
"""Draws fresh noise of the volume's shape, standard normal in every voxel and real channel."""

Memory = tuple[tuple[float, Tensor], ...]
"""What a multistep law remembers of earlier levels, newest first; empty for the others."""


@dataclass(frozen=True)
class Point:
    """Where the sampler is at one noise level.

    Parameters
    ----------
    x
        The noisy volume ``(z, y, x)``.
    sigma
        Its noise level.
    denoised
        What the prior makes of it.
    estimate
        What the data step makes of that.
    """

    x: Tensor
    sigma: float
    denoised: Tensor
    estimate: Tensor

    @property
    def predicted(self) -> Tensor:
        """The noise that the prior sees in x, of unit deviation."""
        return (self.x - self.denoised) / self.sigma

    @property
    def implied(self) -> Tensor:
        """The noise in x if the consistent estimate is the clean volume."""
        return (self.x - self.estimate) / self.sigma


class Start(Protocol):
    """Where the sampler begins."""

    def __call__(self, sigma: float, draw: Draw) -> Tensor:
        """Return a volume with noise of deviation ``sigma``, the first level."""


class Denoise(Protocol):
    """What the data step is given of a noisy volume."""

    def __call__(self, x: Tensor, sigma: float, target: float, draw: Draw) -> Tensor:
        """Make an estimate of ``x`` at level ``sigma``; ``target`` is the next level, 0 the end."""


class DataStep(Protocol):
    """Draws an estimate to the data."""

    def __call__(
        self, estimate: Tensor, sigma: float, carried: Carried | None
    ) -> tuple[Solution, Carried | None]:
        """Solve from ``estimate`` at level ``sigma``; ``carried`` is what the last call left."""


class Renoise(Protocol):
    """From one noise level to the next."""

    def __call__(
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """Return the volume at level ``target`` and what to remember; ``memory`` starts empty."""


@dataclass(frozen=True)
class Method:
    """A sampler: four choices; every published one of the family is one combination."""

    start: Start
    denoise: Denoise
    data_step: DataStep
    renoise: Renoise


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
    denoised
        What the data step was given.
    """

    index: int
    sigma: float
    estimate: Tensor
    residual: float
    iterations: int
    outcome: Outcome
    denoised: Tensor


def sample(method: Method, sigmas: Sequence[float], draw: Draw) -> Iterator[Step]:
    """Sample a volume along falling noise levels.

    The caller owns the loop: every iteration of the generator is one step, the last one's
    ``estimate`` is the reconstruction. Noise is only drawn by choices that use it.

    Parameters
    ----------
    method
        The four choices.
    sigmas
        Falling noise levels, one step each, in the prior's unit.
    draw
        Source of fresh noise.

    Yields
    ------
    Step
        Report and estimate of each step.

    Raises
    ------
    InconsistentError
        If the levels do not fall or are not above 0.
    """
    if not sigmas or sigmas[-1] <= 0 or any(a <= b for a, b in pairwise(sigmas)):
        raise InconsistentError(
            f"Noise levels must fall and stay above 0, got {', '.join(f'{s:g}' for s in sigmas)}."
        )
    x = method.start(sigmas[0], draw)
    carried: Carried | None = None
    memory: Memory = ()
    for index, (sigma, target) in enumerate(pairwise((*sigmas, 0.0))):
        denoised = method.denoise(x, sigma, target, draw)
        solution, carried = method.data_step(denoised, sigma, carried)
        yield Step(
            index,
            sigma,
            solution.value,
            solution.residual,
            solution.iterations,
            solution.outcome,
            denoised,
        )
        if target > 0:
            at = Point(x, sigma, denoised, solution.value)
            x, memory = method.renoise(at, target, draw, memory)
