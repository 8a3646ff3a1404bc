"""A network is read as it denoises best; what contradicts that is refused in one sentence."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from medrecon.errors import WeightsError
from medrecon.importing.layout import Recognised
from medrecon.importing.phantom import channels_of, phantom
from medrecon.importing.probe import Told, probe
from medrecon.priors.card import Intensity
from medrecon.priors.diffusion import Diffusion, Schedule

LINEAR, COSINE = Schedule(kind="linear"), Schedule(kind="cosine")
IMAGE = channels_of(phantom(Intensity(window_hu=(-1000, 1600)), 1, 64))


class Wiener(nn.Module):
    """The best linear denoiser of images with the phantom's spectrum, as a trained network."""

    stride, channels = 1, 1

    def __init__(self, diffusion, wrong_head=False):
        super().__init__()
        self.diffusion, self.wrong_head = diffusion, wrong_head
        low, high = diffusion.range
        self.clean = (high + low) / 2 + (high - low) / 2 * IMAGE
        spectrum = torch.fft.rfft2(self.clean - self.clean.mean(), norm="ortho").abs().square()
        # Smoothed, so that it is the phantom's only on average.
        self.power = nn.functional.avg_pool2d(spectrum, 5, 1, 2, count_include_pad=False)

    def level(self, label):
        low, high = self.diffusion.schedule.range
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (
                (middle, high) if self.diffusion.schedule.index(middle) < label else (low, middle)
            )
        return low

    def forward(self, x, label):
        s = torch.tensor([self.level(float(k)) for k in label]).view(-1, 1, 1, 1)
        alpha = (1 / (1 + s**2)).sqrt()
        w = x / alpha
        mean = self.clean.mean()
        share = self.power / (self.power + s**2)
        clean = mean + torch.fft.irfft2(share * torch.fft.rfft2(w - mean), s=w.shape[-2:])
        noise = (w - clean) / s * (0.9 if self.wrong_head else 1.0)
        return {
            "eps": noise,
            "x0": clean,
            "v": alpha * noise - alpha * s * clean,
            "score": -noise / (alpha * s),
        }[self.diffusion.parametrisation]


@dataclass(frozen=True, eq=False)
class Known(Recognised):
    """A network that was trained one way, whatever its file says."""

    truth: Any = None

    def network(self, overrides=None):
        return Wiener(self.truth, wrong_head=bool(self.alternatives) and not overrides)


def known(truth, **says):
    return Known("test", "none", {}, {}, 1, truth=truth, **says)


def outcome(trials):
    while True:
        try:
            next(trials)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize("parametrisation", ["eps", "v", "x0", "score"])
@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_how_a_network_was_trained_is_found_by_trial(parametrisation, span, schedule):
    truth = Diffusion(parametrisation=parametrisation, schedule=schedule, range=span)
    verdict = outcome(probe(known(truth), Told(), IMAGE))
    assert verdict.trial.diffusion == truth
    assert verdict.trial.rises
    assert abs(verdict.noise_mean) < 0.1
    assert abs(verdict.noise_deviation - 1) < 0.1
    assert verdict.calls == 4 * 2 * 3 + 1


@pytest.mark.parametrize(
    "guess",
    [
        Told(parametrisation="v"),
        Told(parametrisation="x0"),
        Told(parametrisation="score"),
        Told(range=(-1.0, 1.0)),
        Told(schedule=COSINE),
        Told(parametrisation="v", schedule=COSINE, range=(-1.0, 1.0)),
    ],
    ids=str,
)
def test_wrong_guesses_are_refused_with_what_holds(guess):
    truth = Diffusion(parametrisation="eps", schedule=LINEAR, range=(0.0, 1.0))
    with pytest.raises(WeightsError, match=r"Read as told .* read as eps, linear") as error:
        outcome(probe(known(truth), guess, IMAGE))
    assert "\n" not in str(error.value)


def test_right_guesses_are_kept():
    truth = Diffusion(parametrisation="v", schedule=COSINE, range=(0.0, 1.0))
    told = Told("v", COSINE, None, (0.0, 1.0))
    assert outcome(probe(known(truth), told, IMAGE)).trial.diffusion == truth


def test_what_the_file_says_gives_way_to_the_user_and_neither_to_nothing():
    truth = Diffusion(parametrisation="v", schedule=LINEAR, range=(0.0, 1.0))
    says = {"parametrisation": "eps", "schedule": LINEAR, "range": (0.0, 1.0)}
    with pytest.raises(WeightsError, match="Read as told"):
        outcome(probe(known(truth, **says), Told(), IMAGE))
    found = outcome(probe(known(truth, **says), Told(parametrisation="v"), IMAGE))
    assert found.trial.diffusion == truth


def test_settings_that_the_file_does_not_hold_are_chosen_by_what_denoises_better():
    truth = Diffusion(parametrisation="eps", schedule=LINEAR)
    verdict = outcome(probe(known(truth, alternatives=({"heads": [4]},)), Told(), IMAGE))
    assert verdict.trial.overrides == {"heads": [4]}


def test_a_network_that_denoises_nothing_is_refused():
    class Noise(Known):
        def network(self, overrides=None):
            torch.manual_seed(0)
            network = nn.Conv2d(1, 1, 3, padding=1)
            network.stride, network.channels = 1, 1
            network.forward = lambda x, label, f=network.forward: 5 * f(x)
            return network.requires_grad_(False)

    with pytest.raises(WeightsError, match="denoises no phantom, however"):
        outcome(probe(Noise("test", "none", {}, {}, 1), Told(), IMAGE))


def test_a_network_that_loses_the_noise_when_there_is_much_is_refused():
    class Deaf(Wiener):
        def forward(self, x, label):
            return super().forward(x, label) * (0.5 if float(label[0]) > 600 else 1.0)

    class KnownDeaf(Known):
        def network(self, overrides=None):
            return Deaf(self.truth)

    truth = Diffusion(parametrisation="eps", schedule=LINEAR)
    found = KnownDeaf("test", "none", {}, {}, 1, truth=truth)
    with pytest.raises(WeightsError, match=r"deviation 0\.5"):
        outcome(probe(found, Told(), IMAGE))
