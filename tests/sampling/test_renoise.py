"""The three laws of noising an estimate again."""

import math
from itertools import pairwise

import pytest
import torch

from medrecon.sampling.renoise import DDIM, DDS, Fresh
from medrecon.sampling.schedule import karras_sigmas

ESTIMATE = torch.zeros(40000)
PREDICTED = torch.randn(40000, generator=torch.Generator().manual_seed(0))
FRESH = torch.randn(40000, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("law", [DDIM(0.0), DDIM(0.6), DDIM(1.0), DDS(0.0), DDS(0.85), Fresh()])
def test_every_law_leaves_noise_of_the_target_level(law):
    x = law(ESTIMATE, PREDICTED, FRESH, 1.0, 0.4)
    assert abs(float(x.std()) - 0.4) < 0.005


def test_ddim_at_eta_zero_keeps_the_predicted_noise():
    assert torch.allclose(DDIM(0.0)(ESTIMATE, PREDICTED, FRESH, 1.0, 0.4), 0.4 * PREDICTED)


def test_ddim_at_eta_one_is_the_ancestral_law():
    # DDPM's posterior q(x_s | x_t, x0) in sigma: mean x0 + (s'/s)^2 (x_t - x0),
    # variance s'^2 (1 - s'^2/s^2)
    s, t = 1.0, 0.4
    x = DDIM(1.0)(ESTIMATE, PREDICTED, torch.zeros_like(FRESH), s, t)
    assert torch.allclose(x, (t / s) ** 2 * s * PREDICTED, atol=1e-6)
    z = DDIM(1.0)(ESTIMATE, torch.zeros_like(PREDICTED), FRESH, s, t)
    assert torch.allclose(z, t * math.sqrt(1 - (t / s) ** 2) * FRESH, atol=1e-6)


def test_ddim_is_the_vp_law_of_the_paper_in_other_variables():
    eta, s, t = 0.7, 2.0, 0.5
    a_s, a_t = 1 / (1 + s**2), 1 / (1 + t**2)  # abar at the two levels
    c = eta * math.sqrt((1 - a_t) / (1 - a_s)) * math.sqrt(1 - a_s / a_t)
    expected = (math.sqrt(1 - a_t - c**2) * PREDICTED + c * FRESH) / math.sqrt(a_t)
    assert torch.allclose(DDIM(eta)(ESTIMATE, PREDICTED, FRESH, s, t), expected, atol=1e-5)


def test_the_two_etas_are_different_laws():
    a = DDIM(0.85)(ESTIMATE, PREDICTED, FRESH, 1.0, 0.9)
    b = DDS(0.85)(ESTIMATE, PREDICTED, FRESH, 1.0, 0.9)
    assert float((a - b).norm() / b.norm()) > 0.3


def test_dds_at_eta_one_is_all_fresh():
    a = DDS(1.0)(ESTIMATE, PREDICTED, FRESH, 1.0, 0.4)
    assert torch.equal(a, Fresh()(ESTIMATE, PREDICTED, FRESH, 1.0, 0.4))


def test_levels_fall_from_start_to_end_in_the_steps_asked_for():
    sigmas = karras_sigmas(7, 2.0, 0.01)
    assert len(sigmas) == 7
    assert sigmas[0] == pytest.approx(2.0)
    assert sigmas[-1] == pytest.approx(0.01)
    assert all(a > b for a, b in pairwise(sigmas))
