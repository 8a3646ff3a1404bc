"""The classical methods at their best: weights swept, iterations run until they settle."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from medrecon.baselines import cgls, total_variation
from medrecon.benchmark.score import quality
from medrecon.problem import Problem
from medrecon.protocol import Baseline
from medrecon.reconstruct import Event
from medrecon.solvers.progress import Progress

CHECKED = 10
"""Iterations between two looks at the PSNR."""
SETTLED = 0.02
"""dB over so many iterations, below which a method counts as converged."""
FLAT = 0.01
"""dB that another factor of 2 has to bring for a sweep to go on."""


@dataclass(frozen=True)
class Method:
    """A classical method, and how it is brought to its best.

    Parameters
    ----------
    name
        As protocols name it.
    iterations
        Most iterations.
    weight
        Where the sweep of the weight begins; ``None``: it has none.
    early
        Whether it is best stopped early (its best iterate counts), or run until it settles.
    quick
        Most iterations of a quick look.
    """

    name: str
    iterations: int = 0
    weight: float | None = None
    early: bool = False
    quick: int = 6

    @property
    def is_filtered(self) -> bool:
        """Whether it is a closed formula with a filter."""
        return self.name in ("fdk", "fbp")


METHODS: dict[str, tuple[Method, ...]] = {
    "cone": (
        Method("fdk"),
        Method("sirt", 200, early=True),
        Method("tv", 300, 40.0),
    ),
    "fan": (
        Method("fbp"),
        Method("sirt", 200, early=True),
        Method("tv", 300, 40.0),
    ),
    "cartesian": (
        Method("adjoint"),
        Method("cg_sense", 60, 200.0, early=True),
        Method("wavelet", 150, 32.0),
        Method("tv", 200, 25.0),
    ),
    "non_cartesian": (
        Method("gridding"),
        Method("cg_sense", 60, 200.0, early=True),
        Method("wavelet", 150, 32.0),
        Method("tv", 200, 25.0),
    ),
}
"""By kind of acquisition, in the order in which they are run."""
METHODS["parallel"] = METHODS["fan"]


@dataclass
class Made:
    """What a method made, and how."""

    image: Tensor
    facts: dict[str, Any] = field(default_factory=dict)


Making = Generator[Event, None, Made]


def make(method: Method, problem: Problem, weight: float | None, *, quick: bool) -> Making:
    """Run a method with a weight: until the PSNR settles, or to its best iterate.

    Ends once the PSNR changes by less than :data:`SETTLED` over :data:`CHECKED` iterations, which
    ``settled`` tells, or at the most iterations; methods that are stopped early end once the PSNR
    falls, and their best iterate counts. That uses the truth, in the method's favour.
    """
    if method.iterations == 0:
        yield Event(method.name, 1, 1)
        return Made(problem.direct[method.name]())
    most = method.quick if quick else method.iterations
    best, last, settled = None, -float("inf"), False
    best_at, state = 0, None
    for state in iterates(method, problem, weight, most):
        yield Event(method.name, state.iteration, most, state.residual)
        if state.iteration % CHECKED and state.iteration < most:
            continue
        now = quality(problem, state.value)
        if best is None or now > last or not method.early:
            best, best_at = state.value, state.iteration
        settled = now - last < SETTLED if method.early else abs(now - last) < SETTLED
        last = max(now, last) if method.early else now
        if settled:
            break
    assert state is not None
    if best is None or (not method.early and best_at < state.iteration):
        best, best_at = state.value, state.iteration  # it stood still between two looks
    settled = settled or state.iteration < most
    facts = {"iterations": best_at, "change": round(state.residual, 8), "settled": settled}
    return Made(best, facts)


def iterates(
    method: Method, problem: Problem, weight: float | None, most: int
) -> Iterator[Progress]:
    """Begin a method's iterations, CT's total variation at the closed formula."""
    if method.name in problem.iterative:
        spec = Baseline(method=method.name, iterations=most, weight=weight)  # type: ignore[arg-type]
        return problem.iterative[method.name](spec)
    if method.name == "tv":
        return total_variation(
            problem.data,
            problem.grid.spacing,
            weight=weight or 1.0,
            iterations=most,
            start=_start(problem),
        )
    return cgls(problem.data, iterations=most, weight=weight or 0.0)


def _start(problem: Problem) -> Tensor | None:
    for name in ("fdk", "fbp", "adjoint"):
        if name in problem.direct:
            return problem.direct[name]()
    return None


Trial = Callable[[float], Generator[Event, None, float]]


def sweep(
    start: float, trial: Trial, *, factor: float = 2.0, most: int = 9
) -> Generator[Event, None, dict[float, float]]:
    """Climb from a weight, by a factor at a time, until the PSNR falls on both sides.

    It also ends where the weight has stopped to matter: a step up of less than :data:`FLAT`.

    Parameters
    ----------
    start
        First weight.
    trial
        PSNR of a weight.
    factor
        Between neighbouring weights.
    most
        Trials at most.

    Returns
    -------
    dict
        PSNR by weight; the best one is not at the rim unless ``most`` was reached.
    """
    tried: dict[int, float] = {}
    power, best = 0, -math.inf
    while len(tried) < most:
        tried[power] = yield from trial(start * factor**power)
        top = max(tried, key=lambda p: tried[p])
        missing = [p for p in (top + 1, top - 1) if p not in tried]
        is_flat = len(tried) > 2 and 0 < tried[top] - best < FLAT
        if not missing or is_flat:
            break
        best = tried[top]
        power = missing[0]
    return {start * factor**p: value for p, value in sorted(tried.items())}


def best_weight(trials: dict[float, float]) -> float:
    """Return the weight of the best PSNR.

    Examples
    --------
    >>> best_weight({10.0: 30.0, 20.0: 31.0, 40.0: 30.5})
    20.0
    """
    return max(trials, key=partial(dict.__getitem__, trials))
