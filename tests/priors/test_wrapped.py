"""Whatever a network predicts, at whatever levels and in whatever unit: D is the posterior mean."""

import math

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler
from torch import nn

from medrecon.errors import WeightsError
from medrecon.priors.diffusion import Diffusion, Schedule, make_schedule
from medrecon.priors.gaussian import Gaussian
from medrecon.priors.slicewise import Slicewise
from medrecon.priors.wrapped import Wrapped

SCHEDULES = [
    Schedule(kind="linear"),
    Schedule(kind="linear", zero_snr=True),
    Schedule(kind="scaled-linear", start=0.0015, end=0.0195),
    Schedule(kind="cosine"),
    Schedule(kind="vp", start=0.1, end=20.0),
    Schedule(kind="ve", start=0.01, end=348.0),
    Schedule(kind="ve", start=0.01, end=348.0, descending=True),
]


class Exact(nn.Module):
    """What a perfect network says of white Gaussian images, mean m and variance v of its unit.

    It knows only its input and the label, like a real one; the formulas are those of the papers.
    """

    stride = 1

    def __init__(self, diffusion, mean, variance, channels=1, extra=0):
        super().__init__()
        self.diffusion, self.mean, self.variance = diffusion, mean, variance
        self.channels, self.extra = channels, extra

    def level(self, label):
        """Invert the label by bisection."""
        schedule, time = self.diffusion.schedule, self.diffusion.time
        low, high = schedule.range
        rising = schedule.label(high, time) > schedule.label(low, time)
        for _ in range(80):
            middle = math.sqrt(low * high)
            if (schedule.label(middle, time) < label) == rising:
                low = middle
            else:
                high = middle
        return low

    def forward(self, x, label):
        s = torch.tensor([self.level(float(k)) for k in label]).view(-1, 1, 1, 1)
        d = self.diffusion
        alpha = torch.ones_like(s) if d.schedule.kind == "ve" else (1 / (1 + s**2)).sqrt()
        if d.parametrisation == "edm":
            alpha = 1 / (s**2 + d.sigma_data**2).sqrt()
        w = x / alpha
        clean = self.mean + self.variance / (self.variance + s**2) * (w - self.mean)
        noise = (w - clean) / s
        out = {
            "eps": lambda: noise,
            "x0": lambda: clean,
            "v": lambda: alpha * noise - alpha * s * clean,
            "score": lambda: -noise / (alpha * s),
            "edm": lambda: (clean - (d.sigma_data * alpha) ** 2 * w) / (s * d.sigma_data * alpha),
        }[d.parametrisation]()
        return torch.cat([out, *[torch.full_like(out, 7.0)] * self.extra], dim=1)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: f"{s.kind}{s.descending}{s.zero_snr}")
@pytest.mark.parametrize("parametrisation", ["eps", "v", "x0", "score", "edm"])
@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 1.0)])
def test_every_reading_of_an_exact_network_is_the_posterior_mean(schedule, parametrisation, span):
    if parametrisation == "v" and schedule.kind == "ve":
        pytest.skip("v is defined where the variance is preserved")
    time = "log-sigma" if parametrisation == "edm" else "index"
    diffusion = Diffusion(
        parametrisation=parametrisation, schedule=schedule, time=time, range=span, sigma_data=0.3
    )
    prior = Gaussian(torch.tensor(-0.2), torch.tensor(0.09))
    low, high = span
    scale, offset = (high - low) / 2, (high + low) / 2
    network = Exact(diffusion, offset - 0.2 * scale, 0.09 * scale**2, extra=1)
    wrapped = Slicewise(Wrapped(network, diffusion, complex_images=False), ())
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    for sigma in (0.1, 0.7, 5.0):
        assert torch.allclose(wrapped(x, sigma), prior(x, sigma), atol=2e-3 * max(1, sigma))


@pytest.mark.parametrize("channels", [1, 2])
def test_complex_volumes_are_one_image_of_two_channels_or_two_of_one(channels):
    diffusion = Diffusion(parametrisation="eps", schedule=SCHEDULES[0], range=(0.0, 0.5))
    network = Exact(diffusion, 0.0, 0.04 * 0.5**2, channels)
    wrapped = Slicewise(Wrapped(network, diffusion, complex_images=True), ())
    x = torch.randn(3, 4, 4, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    prior = Gaussian(torch.tensor(0.0), torch.tensor(0.04))
    assert torch.allclose(wrapped(x, 0.3), prior(x, 0.3), atol=1e-3)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            Schedule(kind="linear"),
            {"schedule": "linear_beta", "beta_start": 1e-4, "beta_end": 0.02},
        ),
        (
            Schedule(kind="scaled-linear", start=0.0015, end=0.0195),
            {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0195},
        ),
        (Schedule(kind="cosine", steps=50), {"schedule": "cosine", "num_train_timesteps": 50}),
    ],
)
def test_levels_are_those_of_monai(ours, theirs):
    kept = DDPMScheduler(**theirs).alphas_cumprod.double()
    last = len(kept) - 1 if theirs["schedule"] == "cosine" else len(kept)  # MONAI's is capped
    for k in range(last):
        sigma = float(((1 - kept[k]) / kept[k]).sqrt())
        assert ours.index(sigma) == pytest.approx(k, abs=0.05)


def test_levels_beyond_training_are_told_as_the_last():
    schedule = make_schedule("linear")
    assert schedule.index(1e-6) == 0
    assert schedule.index(1e6) == 999
    assert schedule.range == pytest.approx((0.01, 157.4), rel=0.01)


@pytest.mark.parametrize("span", [(0.02, 0.0001), (0.1, 1.5), (-1.0, 0.02)])
def test_a_schedule_that_does_not_rise_is_refused(span):
    with pytest.raises(WeightsError, match="linear"):
        make_schedule("linear", span)
