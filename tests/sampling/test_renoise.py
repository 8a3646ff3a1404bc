"""The memoryless laws of noising an estimate again."""

import math

import pytest
import torch

from medrecon.sampling.loop import Point
from medrecon.sampling.renoise import DDIM, DDS, DiffPIR, Extrapolated, Fresh

ESTIMATE = torch.zeros(40000)
PREDICTED = torch.randn(40000, generator=torch.Generator().manual_seed(0))
FRESH = torch.randn(40000, generator=torch.Generator().manual_seed(1))


def noised(law, predicted, fresh, sigma, target, denoised=ESTIMATE, estimate=ESTIMATE):
    """What a law makes of an estimate when the prior predicts this noise."""
    at = Point(denoised + sigma * predicted, sigma, denoised, estimate)
    x, memory = law(at, target, lambda: fresh, ())
    assert memory == ()
    return x


@pytest.mark.parametrize(
    "law", [DDIM(0.0), DDIM(0.6), DDIM(1.0), DDS(0.0), DDS(0.85), DiffPIR(0.3), Fresh()]
)
def test_every_law_leaves_noise_of_the_target_level(law):
    x = noised(law, PREDICTED, FRESH, 1.0, 0.4)
    assert abs(float(x.std()) - 0.4) < 0.005


def test_ddim_at_eta_zero_keeps_the_predicted_noise():
    assert torch.allclose(noised(DDIM(0.0), PREDICTED, FRESH, 1.0, 0.4), 0.4 * PREDICTED)


def test_ddim_at_eta_one_is_the_ancestral_law():
    # DDPM's posterior q(x_s | x_t, x0) in sigma: mean x0 + (s'/s)^2 (x_t - x0),
    # variance s'^2 (1 - s'^2/s^2)
    s, t = 1.0, 0.4
    x = noised(DDIM(1.0), PREDICTED, torch.zeros_like(FRESH), s, t)
    assert torch.allclose(x, (t / s) ** 2 * s * PREDICTED, atol=1e-6)
    z = noised(DDIM(1.0), torch.zeros_like(PREDICTED), FRESH, s, t)
    assert torch.allclose(z, t * math.sqrt(1 - (t / s) ** 2) * FRESH, atol=1e-6)


def test_ddim_is_the_vp_law_of_the_paper_in_other_variables():
    eta, s, t = 0.7, 2.0, 0.5
    a_s, a_t = 1 / (1 + s**2), 1 / (1 + t**2)  # abar at the two levels
    c = eta * math.sqrt((1 - a_t) / (1 - a_s)) * math.sqrt(1 - a_s / a_t)
    expected = (math.sqrt(1 - a_t - c**2) * PREDICTED + c * FRESH) / math.sqrt(a_t)
    assert torch.allclose(noised(DDIM(eta), PREDICTED, FRESH, s, t), expected, atol=1e-5)


def test_the_two_etas_are_different_laws():
    a = noised(DDIM(0.85), PREDICTED, FRESH, 1.0, 0.9)
    b = noised(DDS(0.85), PREDICTED, FRESH, 1.0, 0.9)
    assert float((a - b).norm() / b.norm()) > 0.3


def test_dds_at_eta_one_is_all_fresh():
    a = noised(DDS(1.0), PREDICTED, FRESH, 1.0, 0.4)
    assert torch.equal(a, noised(Fresh(), PREDICTED, FRESH, 1.0, 0.4))


def test_diffpir_takes_the_noise_that_the_estimate_implies():
    estimate = ESTIMATE + 0.25
    x = noised(DiffPIR(0.0), PREDICTED, FRESH, 1.0, 0.4, estimate=estimate)
    assert torch.allclose(x, estimate + 0.4 * (PREDICTED - 0.25), atol=1e-6)
    assert torch.equal(
        noised(DiffPIR(1.0), PREDICTED, FRESH, 1.0, 0.4),
        noised(Fresh(), PREDICTED, FRESH, 1.0, 0.4),
    )


def test_an_estimate_is_carried_on_along_its_last_change():
    law = Extrapolated(Fresh(), 0.7)
    first, second = torch.tensor([1.0, -2.0]), torch.tensor([2.0, -2.5])
    memory = ()
    found = []
    for estimate, sigma, target in ((first, 1.0, 0.5), (second, 0.5, 0.2)):
        at = Point(estimate, sigma, estimate, estimate)
        x, memory = law(at, target, lambda: torch.zeros(2), memory)
        found.append(x)
    assert torch.equal(found[0], first)
    assert torch.allclose(found[1], second + 0.7 * (second - first))
