"""The cheap look, and what is said of it."""

import pytest
import torch

from medrecon.priors.gaussian import Gaussian
from medrecon.safety.comparison import Comparison
from medrecon.safety.leaning import lean
from medrecon.safety.self_consistency import SelfConsistency, self_consistency
from medrecon.safety.verdict import Look, Test, Verdict

V = 0.3


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("variance", [V, 1.5, 0.0])
def test_a_gaussian_prior_finds_the_variance_that_an_image_has(variance, is_complex):
    generator = torch.Generator().manual_seed(0)
    shape = (4, 64, 64, 2) if is_complex else (4, 64, 64)
    image = variance**0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    image = torch.view_as_complex(image) if is_complex else image
    prior = Gaussian(torch.zeros((), dtype=torch.float64), torch.tensor(V, dtype=torch.float64))
    look = self_consistency(prior, image, generator, (0.2, 0.6))
    # D - u = (v sigma n - sigma^2 u) / (v + sigma^2), over the prior's v sigma^2 / (v + sigma^2)
    expected = [(V**2 * s**2 + s**4 * variance) / (V * s**2 * (V + s**2)) for s in (0.2, 0.6)]
    assert look.ratios == pytest.approx(expected, rel=0.03)
    assert look.calls == 2
    if variance == V:
        assert look.ratio == pytest.approx(1, rel=0.03)


def _look(ratio=0.7, misfit=1.0, tv=1.7):
    return Look(SelfConsistency((0.1,), (ratio,), 1), misfit, tv)


def _test(weight, gain_sign=1):
    comparison = Comparison(1.0, weight * 0.5, 0.5, 0.05)
    return Test(comparison, 4, 32, "views", lean(comparison))


def test_nothing_to_say_against_a_prior_is_said_as_that():
    look = _look()
    assert not look.doubts
    assert not look.is_worth_a_test
    verdict = Verdict(look)
    assert verdict.fits
    assert verdict.expected_db is None
    assert verdict.sentence.startswith("nothing speaks against the prior on this scan")
    assert "not compared" in verdict.sentence


@pytest.mark.parametrize(
    ("look", "word"), [(_look(ratio=2.5), "2.5 times"), (_look(misfit=3.0), "3.0 times the noise")]
)
def test_doubts_that_nobody_tested_are_told(look, word):
    verdict = Verdict(look)
    assert look.is_worth_a_test
    assert not verdict.fits
    assert word in verdict.sentence
    assert "more than 0.2 dB worse than total variation" in verdict.sentence


def test_total_variation_at_the_noise_is_worth_a_test_without_being_a_doubt():
    look = _look(tv=0.9)
    assert look.is_worth_a_test
    assert not look.doubts


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (1.2, "better than total variation; the result is the prior's."),
        (0.5, "the result leans on total variation, 34% prior, expected +0.5 dB against it."),
        (0.1, "worse than total variation; the result is total variation's."),
    ],
)
def test_the_last_line_says_what_the_result_is(weight, words):
    verdict = Verdict(_look(), _test(weight))
    assert verdict.sentence.endswith(words)
    assert verdict.sentence.startswith("on 4 held-out views of 32 the prior is")
    assert verdict.fits
    record = verdict.as_json()
    assert record["verdict"] == verdict.sentence
    assert record["held_out"]["best_share"] == pytest.approx(weight)


def test_a_loss_that_is_only_reported_is_called_one():
    verdict = Verdict(_look(), _test(0.1), is_applied=False)
    assert not verdict.fits
    assert verdict.expected_db < -0.2
    assert "use total variation's image instead" in verdict.sentence
    assert verdict.as_json()["share"] == 1.0
