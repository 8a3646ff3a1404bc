"""Every preset against the exact posterior of a white Gaussian prior, and what it promises.

``medrecon`` ends at the posterior mean, as an estimate or as the average of its samples. The
published ones are drawn off it by their laws; by how much is what their numbers give on this
problem, in posterior deviations.
"""

import math

import pytest
import torch

from medrecon.protocol.presets import PRESETS
from medrecon.sampling.counting import Counted
from tests.sampling.problems import assembled, posterior, repeated, result, settings, white

MANY, MEAN, VARIANCE = 800, -0.2, 0.5
EXACT_SOLVES = {"max_iterations": 200, "tolerance": 1e-9}


def unit_problem(deviation, many, seed=5):
    """24 measurements of 64 voxels by a matrix of norm 1, ``many`` times the same."""
    A, _, _ = repeated(many, size=(8, 8), rows=24)
    A = type(A)(A.matrix / torch.linalg.matrix_norm(A.matrix, 2), many, A.size)
    generator = torch.Generator().manual_seed(seed)
    truth = MEAN + math.sqrt(VARIANCE) * torch.randn(64, generator=generator, dtype=torch.float64)
    noise = deviation * torch.randn(24, generator=generator, dtype=torch.float64)
    y = (A.matrix @ truth + noise).expand(many, -1).clone()
    return A, y, torch.full_like(y, deviation**-2)


def exact(A, y, weights, variance=VARIANCE):
    one = type(A)(A.matrix, 1, A.size)
    mean = torch.full((1, *A.size), MEAN).double()
    covariance = variance * torch.eye(64).double()
    m, C = posterior(one, y[:1], weights[:1], mean, covariance)
    return m[0], C[0].diagonal().sqrt().view(A.size)


def bias(samples, mean):
    """Distance of the average of the samples from ``mean`` and what chance alone would make it."""
    standard_error = samples.std(0) / math.sqrt(MANY)
    return float(((samples.mean(0) - mean) / standard_error).square().mean().sqrt())


def run(deviation, modality="CT", start=None, many=MANY, **given):
    A, y, weights = unit_problem(deviation, many)
    sampler = settings(modality, **{"tv_z": None, **given})
    zeros = torch.zeros(A.domain.shape, dtype=torch.float64)
    start = zeros if start is None else zeros + start
    samples = result(A, y, weights, white(A, MEAN, VARIANCE), sampler, start=start, spacing=1e9)
    return samples, (A, y, weights)


# The preset's exponent is for its own short range of levels; this one is much longer.
MEDRECON = {
    "preset": "medrecon", "cg": EXACT_SOLVES,
    "sigma_start": 20.0, "sigma_end": 0.01, "schedule_exponent": 7.0,
}  # fmt: skip
SAMPLING = {
    **MEDRECON, "trust": 1.0, "noise": {"law": "fresh", "amount": 1.0}, "extrapolation": 0.0
}  # fmt: skip
PUT_BACK = 0.6
"""Share of the predicted noise that medrecon's law puts back."""


def off(found, mean, deviation):
    """Distance from the mean in posterior deviations, over all voxels."""
    return float(((found - mean) / deviation).square().mean().sqrt())


@pytest.mark.parametrize("deviation", [0.02, 0.1, 0.4])
def test_medrecons_estimate_is_the_posterior_mean_of_a_prior_as_wide_as_its_trust(deviation):
    # putting back a share a of the predicted noise divides the trust by 1 - a as sigma falls: the
    # fixed point of the steps solves  grad f + (1 - a) (u - m) / (trust v) = 0
    estimate, setting = run(deviation, many=2, **{**MEDRECON, "trust": 8.0, "steps": 100})
    assert torch.equal(estimate[0], estimate[-1])  # nothing random in it
    assert off(estimate[0], *exact(*setting, variance=8 / (1 - PUT_BACK) * VARIANCE)) < 0.01
    assert off(estimate[0], *exact(*setting)) > (0.002 if deviation < 0.1 else 0.05)


# carried on along its path, an estimate is ahead of the fixed point that moves with the level: by
# less, the more steps there are
@pytest.mark.parametrize(("steps", "close"), [(100, 0.035), (400, 0.008)])
@pytest.mark.parametrize("deviation", [0.02, 0.1, 0.4])
def test_medrecons_estimate_is_the_posterior_mean_where_trust_makes_up_for_it(
    deviation, steps, close
):
    given = {**MEDRECON, "trust": 1 - PUT_BACK, "steps": steps}
    estimate, setting = run(deviation, many=2, **given)
    assert off(estimate[0], *exact(*setting)) < close


@pytest.mark.parametrize("deviation", [0.02, 0.4])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_the_average_of_medrecons_samples_is_the_posterior_mean(modality, deviation):
    samples, setting = run(deviation, modality, **SAMPLING)
    assert bias(samples, exact(*setting)[0]) < 1.3


def test_the_average_is_off_by_no_more_than_the_tolerance_of_the_shipped_solver():
    samples, setting = run(0.02, **{k: v for k, v in SAMPLING.items() if k != "cg"})
    assert off(samples.mean(0), *exact(*setting)) < 0.1 + 1 / math.sqrt(MANY)


def test_more_trust_in_the_data_is_a_wider_prior():
    # the fixed point of the mean path solves  grad f + (u - m) / (trust v) = 0
    samples, setting = run(0.4, **{**SAMPLING, "trust": 8.0})
    assert bias(samples, exact(*setting, variance=8 * VARIANCE)[0]) < 1.3
    assert bias(samples, exact(*setting)[0]) > 3


def test_less_noise_is_nearer_to_the_mean_and_no_more_off_it():
    samples, setting = run(0.1, **{**SAMPLING, "noise": {"law": "fresh", "amount": 0.5}})
    full, _ = run(0.1, **SAMPLING)
    mean, _ = exact(*setting)
    assert bias(samples, mean) < 1.3
    assert float((samples - mean).std()) == pytest.approx(
        0.5 * float((full - mean).std()), rel=0.02
    )


WARM = {**SAMPLING, "sigma_start": 0.5}


def test_a_warm_start_stays_where_nothing_was_measured_as_far_as_the_levels_let_it():
    # there every step takes u - m to  v / (v + s^2) (u - m)
    samples, (A, y, weights) = run(0.1, start=3.0, many=2, **WARM)
    warm, _ = run(0.1, start=0.0, many=2, **WARM)
    unseen = torch.eye(64).double() - torch.linalg.pinv(A.matrix) @ A.matrix
    sigmas = assembled(
        A, y, weights, white(A, MEAN, VARIANCE), settings(**WARM),
        start=samples,
    ).sigmas  # fmt: skip
    left = math.prod(VARIANCE / (VARIANCE + s**2) for s in sigmas)
    moved = unseen @ (samples - warm)[0].flatten()  # the same seed: the noise is the same
    assert torch.allclose(moved, left * unseen @ torch.full((64,), 3.0).double(), atol=1e-6)
    assert 0.1 < left < 0.9


@pytest.mark.parametrize("schedule", ["dpm-solver++", "deis", "momentum"])
def test_multistep_schedules_keep_the_posterior_mean(schedule):
    samples, setting = run(0.1, **{**SAMPLING, "schedule": schedule, "steps": 20})
    assert bias(samples, exact(*setting)[0]) < 1.3


PUBLISHED = [
    # preset, modality, settings, deviation of a measurement, bias and spread / deviations
    ("dds", "CT", {}, 0.02, 0.03, 0.92),
    ("dds", "CT", {}, 0.4, 0.60, 0.81),
    ("dds", "MR", {}, 0.02, 0.08, 0.96),
    ("dds", "MR", {}, 0.4, 0.52, 0.84),
    ("dds-released", "CT", {}, 0.4, 0.60, 0.73),
    ("dds-released", "MR", {}, 0.4, 0.37, 0.74),
    ("diffusion-mbir", "CT", {"steps": 100}, 0.4, 0.53, 0.89),
]


@pytest.mark.parametrize(("preset", "modality", "given", "deviation", "off", "wide"), PUBLISHED)
def test_published_samplers_are_as_far_off_as_documented(
    preset, modality, given, deviation, off, wide
):
    samples, setting = run(deviation, modality, preset=preset, **given)
    mean, posterior_deviation = exact(*setting)
    found = ((samples.mean(0) - mean) / posterior_deviation).square().mean().sqrt()
    spread = (samples.var(0).mean() / posterior_deviation.square().mean()).sqrt()
    assert float(found) == pytest.approx(off, abs=0.04)
    assert float(spread) == pytest.approx(wide, abs=0.04)


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("steps", [1, 5, 8])
def test_calls_of_the_network_are_exactly_as_asked(preset, modality, steps):
    A, y, weights = repeated(2)
    sampler = settings(modality, preset=preset, steps=steps, tv_z=None)
    sampling = assembled(
        A, y, weights, white(A, 0.0, 0.5), sampler, start=torch.zeros(A.domain.shape).double()
    )
    assert isinstance(sampling.counted, Counted)
    assert len(list(sampling.steps())) == steps
    expected = 2 * steps - 1 if preset == "diffusion-mbir" else steps
    assert sampling.counted.calls == expected
    assert len(sampling.sigmas) == steps
