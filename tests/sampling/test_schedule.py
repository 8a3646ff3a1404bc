"""Noise levels: they fall as said, in the steps asked for."""

import math
from itertools import pairwise

import pytest

from medrecon.errors import InconsistentError
from medrecon.sampling.schedule import ddim_sigmas, geometric_sigmas, karras_sigmas

GRIDS = [karras_sigmas, geometric_sigmas, ddim_sigmas]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_levels_fall_from_start_to_end_in_the_steps_asked_for(grid, steps):
    sigmas = grid(steps, 2.0, 0.01)
    assert len(sigmas) == steps
    assert sigmas[0] == pytest.approx(2.0)
    assert steps == 1 or sigmas[-1] == pytest.approx(0.01)
    assert all(a > b for a, b in pairwise(sigmas))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("bad", [(0, 1.0, 0.1), (3, 0.1, 1.0), (3, 1.0, 0.0)])
def test_levels_that_cannot_fall_are_refused(grid, bad):
    with pytest.raises(InconsistentError, match="must fall"):
        grid(*bad)


def test_geometric_levels_fall_by_one_factor():
    ratios = [b / a for a, b in pairwise(geometric_sigmas(9, 4.0, 0.02))]
    assert ratios == pytest.approx([ratios[0]] * 8)


def test_ddim_levels_are_every_twentieth_of_the_linear_chain():
    abar, chain = 1.0, []
    for t in range(1000):
        abar *= 1 - (1e-4 + t / 999 * (0.02 - 1e-4))
        chain.append(math.sqrt((1 - abar) / abar))
    found = ddim_sigmas(50, chain[980], chain[0])
    assert found == pytest.approx([chain[t] for t in range(980, -1, -20)], rel=1e-9)
