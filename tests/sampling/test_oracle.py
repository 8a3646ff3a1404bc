"""Prior, consistency and sampler against the exact posterior of a Gaussian prior."""

from functools import partial

import pytest
import torch

from medrecon.data_term import DataTerm
from medrecon.priors.gaussian import Gaussian
from medrecon.sampling.consistency import CGSettings, Consistency
from medrecon.sampling.data_step import ErrorVariance, ProximalStep
from medrecon.sampling.denoise import Tweedie
from medrecon.sampling.loop import Method, sample
from medrecon.sampling.noise import SliceNoise
from medrecon.sampling.renoise import DDIM, DDS, Extrapolated, Fresh
from medrecon.sampling.schedule import karras_sigmas
from medrecon.sampling.start import NoisyStart
from tests.sampling.dense import random_problem
from tests.sampling.problems import posterior

SETTINGS = CGSettings(max_iterations=200, tolerance=1e-9)


class _Silence(SliceNoise):
    """No noise at all: the sampler then follows the mean of its samples."""

    def __call__(self, like, generator):
        return torch.zeros_like(like)


def _exact(A, y, weights, mean, covariance):
    return posterior(A, y, weights, mean, covariance)[0]


def _run(A, y, weights, prior, *, sigmas, law, noise, seed=0, start=None):
    start = torch.zeros(A.domain.shape, dtype=y.dtype) if start is None else start
    method = Method(
        NoisyStart(start),
        Tweedie(prior),
        ProximalStep(Consistency(DataTerm(A, y, weights), SETTINGS), ErrorVariance(prior)),
        law,
    )
    generator = torch.Generator().manual_seed(seed)
    steps = list(sample(method, sigmas, partial(noise, start, generator)))
    assert [s.index for s in steps] == list(range(len(sigmas)))
    return steps[-1].estimate


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("variance", [0.2, 1.0])
def test_the_mean_path_ends_at_the_posterior_mean_of_a_white_gaussian_prior(is_complex, variance):
    A, y, weights = random_problem(is_complex=is_complex)
    mean = torch.full(A.domain.shape, 0.3, dtype=y.dtype)
    prior = Gaussian(mean, torch.tensor(variance, dtype=torch.float64))
    found = _run(
        A, y, weights, prior,
        sigmas=karras_sigmas(10, 20.0, 0.05), law=Fresh(), noise=_Silence(spacing=1.0),
    )  # fmt: skip
    exact = _exact(A, y, weights, mean, variance * torch.eye(12, dtype=torch.float64))
    assert torch.allclose(found, exact, atol=1e-5)


def _bias(law):
    """Largest deviation of the average sample from the posterior mean, in standard errors."""
    A, y, weights = random_problem(slices=1)
    many = 600
    A = type(A)(A.matrix, many, A.size)
    y, weights = y.expand(many, -1).clone(), weights.expand(many, -1).clone()
    mean = torch.full(A.domain.shape, -0.2, dtype=torch.float64)
    prior = Gaussian(mean, torch.tensor(0.5, dtype=torch.float64))
    samples = _run(
        A, y, weights, prior,
        sigmas=karras_sigmas(12, 20.0, 0.05), law=law, noise=SliceNoise(spacing=1.0),
    )  # fmt: skip
    exact = _exact(A, y, weights, mean, 0.5 * torch.eye(12, dtype=torch.float64))[0]
    standard_error = samples.std(0) / many**0.5 + 1e-6
    return float(((samples.mean(0) - exact) / standard_error).abs().max())


def test_the_average_of_samples_with_fresh_noise_is_the_posterior_mean():
    assert _bias(Fresh()) < 4.5


@pytest.mark.parametrize("law", [DDIM(0.5), DDS(0.85)])
def test_laws_that_reuse_the_predicted_noise_are_biased_as_documented(law):
    # the network's noise belongs to its own estimate, not to the consistent one
    assert _bias(law) > 4.5


def test_a_coloured_prior_is_followed_closely_with_one_number_for_its_error():
    A, y, weights = random_problem(rows=9, slices=1)
    q = torch.linalg.qr(
        torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    )[0]
    v = torch.logspace(-2, 0, 12, dtype=torch.float64)
    mean = torch.zeros(A.domain.shape, dtype=torch.float64)
    found = _run(
        A, y, weights, Gaussian(mean, v, q),
        sigmas=karras_sigmas(200, 5.0, 0.02), law=Fresh(), noise=_Silence(spacing=1.0),
    )  # fmt: skip
    exact = _exact(A, y, weights, mean, q @ torch.diag(v) @ q.T)
    assert float((found - exact).norm() / exact.norm()) < 0.2


def test_extrapolation_halves_the_error_of_few_steps_where_data_are_few():
    A, y, weights = random_problem(rows=6, slices=1)
    q = torch.linalg.qr(
        torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    )[0]
    v = torch.logspace(-2, 0, 12, dtype=torch.float64)
    mean = torch.zeros(A.domain.shape, dtype=torch.float64)
    exact = _exact(A, y, weights, mean, q @ torch.diag(v) @ q.T)

    def error(law, steps):
        found = _run(
            A, y, weights, Gaussian(mean, v, q),
            sigmas=karras_sigmas(steps, 0.5, 0.03), law=law, noise=_Silence(spacing=1.0),
        )  # fmt: skip
        return float((found - exact).norm() / exact.norm())

    plain, carried_on = DDS(0.8), Extrapolated(DDS(0.8), 0.7)
    assert error(carried_on, 10) < 0.5 * error(plain, 10)
    assert error(carried_on, 20) < 0.5 * error(plain, 20)
    assert error(carried_on, 200) < 0.12  # and there is no price in the limit


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    A, y, weights = random_problem()
    prior = Gaussian(torch.zeros(A.domain.shape, dtype=torch.float64), torch.tensor(1.0))

    def sample(seed):
        return _run(
            A, y, weights, prior,
            sigmas=karras_sigmas(4, 1.0, 0.1), law=Fresh(), noise=SliceNoise(spacing=1.0),
            seed=seed,
        )  # fmt: skip

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


def test_flipping_the_volume_along_z_flips_the_result_of_the_mean_path():
    A, y, weights = random_problem(slices=3)
    prior = Gaussian(torch.zeros(A.domain.shape, dtype=torch.float64), torch.tensor(1.0))
    kwargs = {"sigmas": karras_sigmas(4, 1.0, 0.1), "law": Fresh(), "noise": _Silence(spacing=1.0)}
    straight = _run(A, y, weights, prior, **kwargs)
    flipped = _run(A, y.flip(0), weights.flip(0), prior, **kwargs)
    assert torch.allclose(straight, flipped.flip(0))
