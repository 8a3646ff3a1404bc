"""Multistep laws against the exact flow of a Gaussian prior and against their own polynomials."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from medrecon.priors.gaussian import Gaussian
from medrecon.sampling.denoise import Tweedie
from medrecon.sampling.loop import Method, Point, sample
from medrecon.sampling.multistep import DEIS, DPMSolver, Momentum, integrated_lagrange
from medrecon.sampling.schedule import geometric_sigmas, karras_sigmas
from medrecon.sampling.start import NoisyStart
from medrecon.solvers.cg import Outcome, Solution
from tests.sampling.problems import assembled, posterior, repeated, settings, white

VARIANCE = 0.5


def no_data(estimate, sigma, carried):
    """A data step without data."""
    return Solution(estimate, 0, 0.0, Outcome.CONVERGED), None


def silence():
    raise AssertionError("a deterministic law drew noise")


def flow_error(law, sigmas):
    """Error at the last level of a law on the flow of N(0.3, 1/2), which is known."""
    first = torch.linspace(-30, 30, 7, dtype=torch.float64)
    gaussian = Gaussian(torch.tensor(0.3).double(), torch.tensor(VARIANCE).double())
    method = Method(lambda sigma, draw: first, Tweedie(gaussian), no_data, law)
    last = list(sample(method, sigmas, silence))[-1].denoised
    shrink = VARIANCE / (VARIANCE + sigmas[-1] ** 2)
    reached = 0.3 + (last - 0.3) / shrink
    exact = 0.3 + (first - 0.3) * math.sqrt(
        (VARIANCE + sigmas[-1] ** 2) / (VARIANCE + sigmas[0] ** 2)
    )
    return float((reached - exact).abs().max())


@pytest.mark.parametrize(
    ("law", "grid", "order"),
    [
        (DPMSolver(), geometric_sigmas, 2),
        (DEIS(1), karras_sigmas, 1),
        (DEIS(2), karras_sigmas, 2),
        (DEIS(3), karras_sigmas, 3),
        (Momentum(1.0), karras_sigmas, 2),
        (Momentum(0.8), karras_sigmas, 2),
    ],
)
def test_the_error_falls_with_the_order_of_the_law(law, grid, order):
    coarse, fine = (flow_error(law, grid(steps, 20.0, 0.05)) for steps in (160, 320))
    assert 0.75 * 2**order < coarse / fine < 1.35 * 2**order


def test_ten_steps_of_second_order_beat_twenty_of_the_first():
    assert flow_error(DPMSolver(), geometric_sigmas(10, 20.0, 0.05)) < 0.5 * flow_error(
        DEIS(1), geometric_sigmas(20, 20.0, 0.05)
    )


def test_momentum_without_damping_is_adams_and_bashforth():
    sigmas = karras_sigmas(12, 20.0, 0.05)
    assert flow_error(Momentum(1.0), sigmas) == pytest.approx(flow_error(DEIS(2), sigmas), rel=1e-9)


@pytest.mark.parametrize("law", [DEIS(2), DEIS(3), Momentum(0.6), Momentum(1.0)])
def test_slopes_that_are_linear_in_sigma_are_integrated_exactly(law):
    memory, levels = (), [5.0, 4.2, 3.0, 2.5, 1.0, 0.4]
    for step, (sigma, target) in enumerate(pairwise(levels)):
        x = torch.tensor([1.0, -2.0]).double()
        slope = torch.tensor([2.0, 0.5]).double() * sigma + 1
        at = Point(x, sigma, x, x - sigma * slope)
        moved, memory = law(at, target, silence, memory)
        exact = torch.tensor([2.0, 0.5]).double() * (target**2 - sigma**2) / 2 + target - sigma
        assert torch.allclose(moved - x, exact) == (step > 0)


def test_settled_momentum_on_even_levels_is_the_published_formula():
    beta, generator = 0.7, torch.Generator().manual_seed(0)
    law, memory, v, before = Momentum(beta), (), None, None
    levels = [3.0 - 0.01 * k for k in range(200)]
    for sigma, target in pairwise(levels):
        slope = torch.randn(5, generator=generator, dtype=torch.float64)
        v = slope if v is None else (1 - beta) * v + beta * slope
        at = Point(torch.zeros(5).double(), sigma, slope, -sigma * slope)
        moved, memory = law(at, target, silence, memory)
        if before is not None:
            published = ((2 + beta) * v - (2 - beta) * before) / (2 * beta)
        before = v
    assert torch.allclose(moved, (target - sigma) * published)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_integrals_of_lagranges_polynomials_are_exact(count):
    nodes, end = [2.0, 2.7, 3.9, 6.0][:count], 1.2
    for j, found in enumerate(integrated_lagrange(nodes, end)):
        fitted = np.polynomial.Polynomial.fit(nodes, np.eye(count)[j], count - 1).integ()
        assert found == pytest.approx(fitted(end) - fitted(nodes[0]), rel=1e-9)


@pytest.mark.parametrize("schedule", ["dpm-solver++", "deis", "momentum"])
def test_the_flow_carries_noise_into_the_exact_posterior(schedule):
    # the flow is affine: from the basis and from zero its mean and covariance are known exactly
    A, y, weights = repeated(13)
    denoiser = white(A, -0.2, VARIANCE)
    sampler = settings(
        sigma_start=80.0, sigma_end=0.02, steps=60, schedule=schedule,
        cg={"max_iterations": 200, "tolerance": 1e-9},
    )  # fmt: skip
    basis = torch.cat([torch.eye(12), torch.zeros(1, 12)]).double().view(13, 4, 3)
    run = assembled(A, y, weights, denoiser, sampler)
    method = replace(run.method, start=NoisyStart(torch.zeros_like(basis)))
    ends = list(sample(method, run.sigmas, lambda: basis))[-1].estimate.flatten(1)
    mean, covariance = ends[-1], (ends[:-1] - ends[-1]).mT @ (ends[:-1] - ends[-1])
    exact_mean, exact = posterior(A, y, weights, denoiser.mean, VARIANCE * torch.eye(12).double())
    assert float((mean - exact_mean[0].flatten()).norm() / exact_mean[0].norm()) < 0.02
    assert float((covariance - exact[0]).norm() / exact[0].norm()) < 0.03
