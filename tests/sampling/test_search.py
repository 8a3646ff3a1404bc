"""Schedules are searched exactly, and are no worse than what they are compared with."""

import itertools

import pytest
import torch

from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.priors.gaussian import Gaussian
from medrecon.sampling.consistency import CGSettings, Consistency
from medrecon.sampling.counting import Counted
from medrecon.sampling.data_step import ErrorVariance, ProximalStep
from medrecon.sampling.denoise import Tweedie
from medrecon.sampling.loop import Method, sample
from medrecon.sampling.noise import SliceNoise
from medrecon.sampling.renoise import DDIM, Fresh
from medrecon.sampling.schedule import karras_sigmas
from medrecon.sampling.search import Scan, cheapest_path, search, step_costs
from medrecon.sampling.start import NoisyStart
from tests.sampling.dense import random_problem

GRID = karras_sigmas(6, 5.0, 0.05)


def _scan(law=None):
    A, y, weights = random_problem(slices=3)
    prior = Counted(Gaussian(torch.zeros(A.domain.shape).double(), torch.tensor(0.3).double()))
    tight = CGSettings(max_iterations=200, tolerance=1e-9)
    step = ProximalStep(Consistency(DataTerm(A, y, weights), tight), ErrorVariance(prior))
    start = torch.zeros(A.domain.shape).double()
    method = Method(NoisyStart(start), Tweedie(prior), step, law or Fresh())
    truth = torch.randn(start.shape, generator=torch.Generator().manual_seed(4)).double()

    def error(estimate):
        return float((estimate - truth).square().mean())

    return Scan(method, SliceNoise(spacing=1.0), truth, error), prior


def _end(events):
    while True:
        try:
            progress = next(events)
        except StopIteration as end:
            return end.value, progress


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_the_path_is_the_cheapest_of_all(seed, steps):
    costs = torch.rand(7, 6, generator=torch.Generator().manual_seed(seed)).double()

    def cost(path):
        rows = [0, *(k + 1 for k in path[:-1])]
        return sum(float(costs[r, k]) for r, k in zip(rows, path, strict=True))

    paths = [(*inner, 5) for inner in itertools.combinations(range(5), steps - 1)]
    found = cheapest_path(costs, steps)
    assert found in paths
    assert cost(found) == pytest.approx(min(map(cost, paths)))


@pytest.mark.parametrize("law", [Fresh(), DDIM(0.5)])
def test_dense_steps_cost_nothing_and_others_what_they_lose(law):
    scan, _ = _scan(law)
    costs = {(row, column): cost for row, column, cost in step_costs(scan, GRID)}
    assert len(costs) == 6 * 7 // 2
    assert all(costs[k, k] == 0 for k in range(6))
    assert min(costs.values()) == 0
    assert max(costs.values()) > 0
    # by hand: start at the second level, leaving out the first
    draw = scan.draw(1)
    x = scan.method.start(GRID[1], draw)
    skipped, _ = scan.method.data_step(scan.method.denoise(x, GRID[1], 0.0, draw), GRID[1], None)
    first, second = None, None
    for level, step in enumerate(_dense(scan)):
        first, second = (step, None) if level == 0 else (first, second or step)
    expected = max(0.0, scan.error(skipped.value) - scan.error(second.estimate))
    assert costs[0, 1] == pytest.approx(expected)


def _dense(scan):
    """The loop itself over the grid, each step with the noise of its level."""
    draws = iter(scan.draw(level)() for level in range(len(GRID)))
    return sample(scan.method, GRID, lambda: next(draws))


def test_schedules_fall_end_at_the_last_level_and_are_no_worse_than_karras():
    scan, prior = _scan()
    found, progress = _end(search([scan], GRID, (1, 3, 4)))
    assert progress[0] == progress[1] == prior.calls
    for steps, schedule in found.items():
        assert len(schedule.sigmas) == steps
        assert schedule.sigmas[-1] == pytest.approx(GRID[-1] if steps > 1 else schedule.sigmas[0])
        assert sorted(schedule.sigmas, reverse=True) == list(schedule.sigmas)
        assert schedule.error <= schedule.karras
        assert schedule.gain_db >= 0


@pytest.mark.parametrize(("scans", "steps"), [(0, (3,)), (1, ()), (1, (0,)), (1, (7,))])
def test_a_search_that_cannot_be_is_refused(scans, steps):
    with pytest.raises(InconsistentError, match="cannot be chosen"):
        _end(search([_scan()[0]] * scans, GRID, steps))
