"""Memory is stated before a run and kept to."""

import math
from types import SimpleNamespace

import pytest
import torch

from medrecon import sizing
from medrecon.arrays import Space
from medrecon.errors import ResourceError
from medrecon.priors.network import EDM, UNet
from medrecon.priors.slicewise import Slicewise
from medrecon.priors.weights import Prior
from medrecon.sizing import VOLUMES, size

CARD = SimpleNamespace(name="tiny")


def _prior():
    model = EDM(UNet(1, (16, 24), 1, 32).eval(), 0.5)
    return Prior(Slicewise(model, ((0.5, 1e-2),), precision=torch.bfloat16), CARD)


def _problem(*, is_complex=False):
    operator = SimpleNamespace(domain=Space((8, 64, 64), is_complex))
    return SimpleNamespace(data=SimpleNamespace(operator=operator))


def test_what_is_said_is_what_is_planned(monkeypatch):
    monkeypatch.setattr(sizing, "available_memory", lambda device: 2.0**30)
    sized = size(_prior(), _problem(), "cpu")
    plan = sized.plan
    assert plan.volumes == VOLUMES * 4 * 8 * 64 * 64
    assert sized.prior.denoiser.batch == plan.batch == 4
    taken = math.ceil((plan.weights + plan.activations) / 2**20)
    assert sized.note == (
        f"the prior takes {taken} MiB for 4 slices at once in bfloat16, volumes up to 3 MiB; "
        "1024 MiB are free"
    )


def test_a_batch_asked_for_is_the_most_there_will_be(monkeypatch):
    monkeypatch.setattr(sizing, "available_memory", lambda device: math.inf)
    assert size(_prior(), _problem(), "cpu", at_most=3).plan.batch == 3
    assert "free" not in size(_prior(), _problem(), "cpu").note


def test_complex_volumes_take_twice_the_memory(monkeypatch):
    monkeypatch.setattr(sizing, "available_memory", lambda device: math.inf)
    real = size(_prior(), _problem(), "cpu").plan.volumes
    assert size(_prior(), _problem(is_complex=True), "cpu").plan.volumes == 2 * real


def test_a_run_that_cannot_fit_ends_before_it_begins(monkeypatch):
    monkeypatch.setattr(sizing, "available_memory", lambda device: 2.0**21)
    with pytest.raises(ResourceError, match="8x64x64"):
        size(_prior(), _problem(), "cpu")
