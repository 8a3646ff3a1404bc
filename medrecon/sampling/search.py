"""Noise levels found on a few scans: dynamic programming over a dense grid of levels.

A dense trajectory is run once on every scan.  Then every step from one of its levels to every
lower one is tried, with the same noise, and costs how much farther from the truth it ends than the
dense trajectory does there.  The cheapest path of a given number of steps is the schedule.

The cost of a path is taken to be the sum of its steps' costs, which is not exact: what was lost at
a high level may be regained below.  So the paths found are run, beside Karras' levels, and the
best on the scans is kept.

References
----------
Liu et al. 2023, arXiv:2312.07243 (USF: schedules of solvers are searched); arXiv:2606.06236
(TrO: levels for the conditional sampler by dynamic programming, against a dense trajectory).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.sampling.consistency import Carried
from medrecon.sampling.loop import Draw, Memory, Method, Point, sample
from medrecon.sampling.noise import SliceNoise
from medrecon.sampling.schedule import karras_sigmas


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan to search on.

    Parameters
    ----------
    method
        The sampler's choices; one call of the prior per step.
    noise
        The law of its noise.
    like
        A volume of the sampler's shape and kind.
    error
        Mean squared error of an estimate, in any unit; where nobody knows the truth, against what
        a long run gives.
    """

    method: Method
    noise: SliceNoise
    like: Tensor
    error: Callable[[Tensor], float]

    def draw(self, seed: int) -> Draw:
        """Noise for the step to a level of the grid: the same, wherever the step comes from."""
        return partial(self.noise, self.like, torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Found:
    """A schedule, and its mean squared error on the scans beside that of Karras' levels."""

    sigmas: tuple[float, ...]
    error: float
    karras: float

    @property
    def gain_db(self) -> float:
        """How much the schedule is better than Karras' levels, dB."""
        return 10 * math.log10(self.karras / self.error)


@dataclass(frozen=True, eq=False)
class _State:
    """Where the dense trajectory was, and all that the next step asks for."""

    at: Point
    memory: Memory
    carried: Carried | None


Progress = tuple[int, int]
"""Steps done and to do."""

_ANOTHER_SEED = 2**32  # than those of levels


def search(
    scans: Sequence[Scan], grid: Sequence[float], steps: Sequence[int]
) -> Generator[Progress, None, dict[int, Found]]:
    """Find schedules for several numbers of steps.

    Parameters
    ----------
    scans
        Scans like those that the schedules are for.
    grid
        Falling noise levels to choose from; every schedule ends at the last.
    steps
        Numbers of steps, at most the length of the grid.

    Yields
    ------
    tuple
        Runs of the prior done and to do.

    Returns
    -------
    dict
        By number of steps.

    Raises
    ------
    InconsistentError
        If there is no scan, or more steps than levels.
    """
    if not scans or not steps or min(steps) < 1 or max(steps) > len(grid):
        raise InconsistentError(
            f"A schedule of {', '.join(map(str, steps)) or 'no'} steps cannot be chosen from "
            f"{len(grid)} noise levels on {len(scans)} scans."
        )
    levels = len(grid)
    one = levels * (levels + 1) // 2
    total, done = len(scans) * (one + 2 * sum(steps)), 0
    costs = torch.zeros(levels + 1, levels, dtype=torch.float64)
    for scan in scans:
        for row, column, cost in step_costs(scan, grid):
            costs[row, column] += cost / len(scans)
            done += 1
            yield done, total
    found = {}
    for count in sorted(set(steps)):
        chosen = tuple(grid[k] for k in cheapest_path(costs, count))
        karras = karras_sigmas(count, grid[0], grid[-1])
        errors = [sum(_run(scan, s) for scan in scans) / len(scans) for s in (chosen, karras)]
        best = chosen if errors[0] <= errors[1] else karras
        found[count] = Found(best, min(errors), errors[1])
        done += 2 * count * len(scans)
        yield done, total
    return found


def step_costs(scan: Scan, grid: Sequence[float]) -> Generator[tuple[int, int, float], None, None]:
    """Cost of every step between two levels of a grid.

    Yields
    ------
    tuple
        Row: 0 is the start, ``i + 1`` the level ``i`` that the step comes from; column: the level
        it goes to; cost: by how much its mean squared error exceeds the dense trajectory's, not
        below 0. A step of the dense trajectory itself costs nothing.
    """
    dense: list[_State] = []
    for level in range(len(grid)):
        before = dense[-1] if dense else None
        dense.append(_step(scan, before, grid, level))
        error = scan.error(dense[-1].at.estimate)
        yield level, level, 0.0
        for row in range(level):
            other = _step(scan, dense[row - 1] if row else None, grid, level)
            yield row, level, max(0.0, scan.error(other.at.estimate) - error)


def _step(scan: Scan, before: _State | None, grid: Sequence[float], level: int) -> _State:
    """Go to a level from a state, or from the start."""
    sigma, draw = grid[level], scan.draw(level)
    memory: Memory = ()
    if before is None:
        x = scan.method.start(sigma, draw)
    else:
        x, memory = scan.method.renoise(before.at, sigma, draw, before.memory)
    denoised = scan.method.denoise(x, sigma, 0.0, draw)
    solution, carried = scan.method.data_step(
        denoised, sigma, None if before is None else before.carried
    )
    return _State(Point(x, sigma, denoised, solution.value), memory, carried)


def cheapest_path(costs: Tensor, steps: int) -> tuple[int, ...]:
    """Return the levels of the cheapest path of exactly ``steps`` steps to the last level.

    Parameters
    ----------
    costs
        Shape ``(levels + 1, levels)``, as :func:`step_costs` numbers them; only steps to a later
        level are looked at.
    steps
        Their number, 1 to ``levels``.

    References
    ----------
    Bellman 1957, Dynamic Programming.
    """
    levels = costs.shape[1]
    usable = torch.full((levels, levels), math.inf, dtype=torch.float64)  # [from, to]
    later = torch.triu(torch.ones(levels, levels, dtype=torch.bool), 1)
    usable[later] = costs[1:].double()[later]
    total, came_from = costs[0].double(), []
    for _ in range(steps - 1):
        total, best = (total[:, None] + usable).min(0)
        came_from.append(best)
    path = [levels - 1]
    for best in reversed(came_from):
        path.append(int(best[path[-1]]))
    return tuple(reversed(path))


def _run(scan: Scan, sigmas: Sequence[float]) -> float:
    """Mean squared error at the end of a run; its noise is none of the search's."""
    for step in sample(scan.method, sigmas, scan.draw(_ANOTHER_SEED)):
        last = step.estimate
    return scan.error(last)
