"""Low-rank changes of a prior's network."""

import pytest
import torch

from medrecon.priors.adaptation import Adapted, denoise_slices, kept_if_better
from medrecon.priors.network import EDM, UNet
from medrecon.priors.slicewise import Slicewise


def _prior(channels=1, neighbours=False):
    torch.manual_seed(0)
    network = UNet(channels, (16, 24), 1, 32, neighbours)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return Slicewise(EDM(network.eval().requires_grad_(False), 0.45), ((1.0, 0.1),))


def _volume(is_complex, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.complex64 if is_complex else torch.float32
    return torch.randn(5, 16, 20, generator=generator, dtype=dtype)


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_some_slices_are_denoised_as_the_whole_volume_is(channels, neighbours):
    prior, x = _prior(channels, neighbours), _volume(channels == 2)
    slices = torch.tensor([4, 0, 2])
    part = denoise_slices(prior, x, 0.4, slices)
    whole = prior(x, 0.4)[slices]
    expected = torch.view_as_real(whole).movedim(-1, 1) if channels == 2 else whole[:, None]
    assert torch.allclose(part, expected, atol=1e-5)


def test_before_a_lesson_nothing_is_changed_and_afterwards_only_the_copy_is():
    prior, x = _prior(), _volume(False)
    before = prior(x, 0.4)
    adapted = Adapted.of(prior, torch.Generator().manual_seed(0), rank=2, rate=0.01)
    assert torch.equal(adapted(x, 0.4), before)
    for _ in range(3):
        adapted.learn(x, 0.4, torch.zeros_like(x), torch.arange(5))
    assert not torch.allclose(adapted(x, 0.4), before, atol=1e-3)
    assert torch.equal(prior(x, 0.4), before)
    assert not any(p.requires_grad for p in prior.model.parameters())


@pytest.mark.parametrize("is_complex", [False, True])
def test_lessons_bring_the_network_to_its_target(is_complex):
    prior, x = _prior(2 if is_complex else 1), _volume(is_complex)
    target = 0.5 * x
    adapted = Adapted.of(prior, torch.Generator().manual_seed(0), rank=4, rate=0.01)
    losses = [adapted.learn(x, 0.4, target, torch.arange(5)) for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]


def test_only_low_rank_changes_are_learnt():
    adapted = Adapted.of(_prior(), torch.Generator().manual_seed(0), rank=1)
    names = [n for n, p in adapted.denoiser.model.named_parameters() if p.requires_grad]
    assert names
    assert all(name.endswith((".up", ".down")) for name in names)
    learnt = sum(p.numel() for p in adapted.parameters)
    assert learnt < 0.2 * sum(p.numel() for p in adapted.denoiser.model.parameters())


@pytest.mark.parametrize(("scores", "is_kept"), [((2.0, 1.0), True), ((1.0, 1.0), False)])
def test_a_lesson_that_does_not_help_is_forgotten(scores, is_kept):
    adapted = Adapted.of(_prior(), torch.Generator().manual_seed(0), rate=0.1)
    before, x = adapted.state(), _volume(False)
    with kept_if_better(adapted) as told:
        told.append(scores[0])
        adapted.learn(x, 0.4, torch.zeros_like(x), torch.arange(5))
        told.append(scores[1])
    changed = any(not torch.equal(a, b) for a, b in zip(before, adapted.state(), strict=True))
    assert changed is is_kept
