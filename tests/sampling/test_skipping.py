"""Calls are skipped where nothing is lost, and only there."""

import math

import pytest
import torch

from medrecon.sampling.counting import Counted
from medrecon.sampling.schedule import geometric_sigmas
from medrecon.sampling.skipping import Skipping

SIGMAS = geometric_sigmas(10, 1.0, 0.01)


class Line:
    """Answers in a straight line over the logarithm of the level, or jumps at every other call."""

    def __init__(self, jump=0.0):
        self.jump, self.calls = jump, 0

    def error_variance(self, sigma):
        return 0.01

    def __call__(self, x, sigma):
        self.calls += 1
        return torch.full_like(x, math.log(sigma) + self.jump * (-1) ** self.calls)


def _answers(prior, sigmas=SIGMAS):
    x = torch.zeros(1, 4, 4)
    return [float(prior(x, s).mean()) for s in sigmas]


def test_what_is_predictable_is_not_asked_twice_in_a_row():
    counted = Counted(Line())
    prior = Skipping(counted, tolerance=0.1, end=0.02)
    assert _answers(prior) == pytest.approx([math.log(s) for s in SIGMAS], abs=1e-5)
    # three answers make the first prediction that could be checked, then every other is skipped
    assert counted.calls == 3 + 3 + 1
    assert counted.calls + prior.skipped == len(SIGMAS)


def test_the_last_levels_are_always_asked():
    counted = Counted(Line())
    prior = Skipping(counted, tolerance=0.1, end=math.inf)
    _answers(prior)
    assert (counted.calls, prior.skipped) == (len(SIGMAS), 0)


@pytest.mark.parametrize("tolerance", [0.0, 0.1])
def test_nothing_is_skipped_where_answers_jump_by_more_than_the_priors_error(tolerance):
    counted = Counted(Line(jump=0.1 if tolerance else 1e-3))
    prior = Skipping(counted, tolerance, end=0.0)
    _answers(prior)
    assert prior.skipped == 0


def test_a_new_pass_remembers_nothing_of_the_last():
    counted = Counted(Line())
    prior = Skipping(counted, tolerance=0.1, end=0.0)
    once = _answers(prior)
    calls = counted.calls
    assert _answers(prior) == once
    assert counted.calls == 2 * calls


def test_errors_of_complex_volumes_are_per_channel():
    class Half(Line):
        def __call__(self, x, sigma):
            self.calls += 1
            error = 0.05 * (-1) ** self.calls
            return torch.full_like(x, math.log(sigma) + error * (1 + 1j))

    x = torch.zeros(1, 4, 4, dtype=torch.complex64)
    # the prediction misses by four times the jump in each channel: squared, 0.04
    for tolerance, skips in ((3.9, 0), (4.1, 1)):
        prior = Skipping(Half(), tolerance, end=0.0)
        for sigma in SIGMAS[:4]:
            prior(x, sigma)
        assert prior.skipped == skips
    assert prior.error_variance(0.1) == 0.01
