"""Checkpoints of score_sde: every arrangement of modules, told by the weights alone."""

import math
import random

import pytest
import torch

from medrecon.errors import WeightsError
from medrecon.importing.importer import Request, import_prior
from medrecon.importing.ncsnpp import recognise
from medrecon.importing.phantom import phantom
from medrecon.priors.card import Intensity
from medrecon.priors.diffusion import Schedule
from medrecon.priors.weights import load_prior
from tests.importing.score_sde_reference import Reference, Settings

ARRANGEMENTS = {
    "plain": {},
    "complex and centred": {"num_channels": 2, "centered": True},
    "other sums": {"skip_rescale": False, "nonlinearity": "elu"},
    "2x2 blocks": {"fir": False},
    "image skips": {"progressive": "output_skip", "progressive_input": "input_skip"},
    "image beside": {"progressive_input": "input_skip", "progressive_combine": "cat"},
    "image within": {"progressive_input": "residual"},
    "image within 2x2": {"progressive_input": "residual", "fir": False},
    "DDPM++": {"resblock_type": "ddpm", "fir": False},
    "DDPM++ unlearned": {"resblock_type": "ddpm", "resamp_with_conv": False},
    "DDPM++ unlearned 2x2": {"resblock_type": "ddpm", "resamp_with_conv": False, "fir": False},
    "numbered levels": {"embedding_type": "positional", "continuous": False},
    "unconditional": {"conditional": False},
    "one level": {"ch_mult": (1,)},
    "deep": {"ch_mult": (1, 2, 2), "num_res_blocks": 2, "attn_resolutions": (16, 4)},
    "unscaled": {"scale_by_sigma": False},
}


def flat(tree, start=""):
    """Tensors by path, sorted by name, so that nothing is left of their order."""
    found = {}
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, torch.Tensor):
            found[f"{start}{key}"] = value
        elif isinstance(value, dict | list):
            found |= flat(value, f"{start}{key}/")
    return dict(sorted(found.items()))


def labels(settings):
    return torch.tensor([0.3, 7.0] if settings.embedding_type == "fourier" else [3.0, 15.0])


@pytest.mark.parametrize("given", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_the_averaged_network_says_what_the_reference_says(given):
    settings = Settings(**given)
    reference = Reference(settings)
    found = recognise(flat(reference.checkpoint()), settings.as_config())
    x = torch.randn(2, settings.num_channels, 16, 16, generator=torch.Generator().manual_seed(2))
    expected = reference(x, labels(settings))
    difference = found.network()(x, labels(settings)) - expected
    assert found.channels == settings.num_channels
    assert float(difference.abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("given", ARRANGEMENTS.values(), ids=ARRANGEMENTS.keys())
def test_without_settings_the_weights_tell_all_but_what_leaves_no_trace(given):
    settings = Settings(**given)
    state = flat(Reference(settings).checkpoint())
    told, guessed = recognise(state, settings.as_config()), recognise(state)
    free = {"centred", "taps", "skip_rescale", "activation", "scale_by_sigma", "sigmas"}
    differing = {k for k, v in told.settings.items() if guessed.settings.get(k) != v}
    assert differing <= free
    choices = [guessed.settings | other for other in ({}, *guessed.alternatives)]
    right = {key: told.settings[key] for key in ("taps", "skip_rescale")}
    assert any(right.items() <= choice.items() for choice in choices)
    assert len({repr(sorted(choice.items(), key=str)) for choice in choices}) == len(choices)


def test_the_network_of_diffusion_mbir_is_recognised_by_shape_without_memory():
    published = Settings(
        nf=128, ch_mult=(1, 2, 2, 2), num_res_blocks=4, attn_resolutions=(16,), image_size=256,
        progressive_input="residual", sigma_max=378.0, num_scales=2000,
    )  # fmt: skip
    state = flat(Reference(published, device="meta").checkpoint())
    found = recognise(state, {"model": {"sigma_min": 0.01, "sigma_max": 378, "num_scales": 2000}})
    # The public configuration attends at 16 pixels, which its four levels of 256 never reach.
    assert found.settings["attention"] == ()
    assert found.settings["taps"] == (1.0, 3.0, 3.0, 1.0)
    assert found.settings["image_in"] == "residual"
    assert found.schedule == Schedule(kind="ve", start=0.01, end=378, steps=2000)
    names = [key for key in state if key.startswith("model/") and not key.endswith("sigmas")]
    total = sum(state[key].numel() for key in names)
    assert sum(value.numel() for value in found.state.values()) == total > 60e6
    assert all(value.is_meta for value in found.state.values())


def test_the_process_is_read_from_the_settings():
    def read(**given):
        settings = Settings(**given)
        return recognise(flat(Reference(settings).checkpoint()), settings.as_config())

    exploding = read()
    assert (exploding.parametrisation, exploding.time) == ("score", "sigma")
    assert exploding.schedule == Schedule(kind="ve", start=0.01, end=50.0, steps=50)
    assert exploding.range == (0.0, 1.0)
    assert read(centered=True).range == (-1.0, 1.0)

    numbered = read(embedding_type="positional", continuous=False)
    assert numbered.parametrisation == "score"
    assert numbered.schedule.label(50.0, numbered.time) == 0
    assert numbered.schedule.label(0.01, numbered.time) == pytest.approx(49)

    kept = {"embedding_type": "positional", "sde": "vpsde", "scale_by_sigma": False}
    preserving = read(**kept)
    assert (preserving.parametrisation, preserving.time) == ("eps", "index")
    assert preserving.schedule == Schedule(kind="vp", start=0.1, end=20.0, steps=1000)
    # Song 2021, eq. 33: at t = 1 the image is kept to exp(-(20 + 0.1) / 4).
    strongest = math.sqrt(math.exp(20.1 / 2) - 1)
    assert preserving.schedule.label(strongest, "index") == pytest.approx(999)
    levels = read(**kept, continuous=False, num_scales=1000).schedule
    assert levels == Schedule(kind="linear", start=1e-4, end=0.02, steps=1000)

    unknown = Reference(Settings(embedding_type="positional", continuous=False)).checkpoint()
    silent = recognise(flat(unknown))
    assert silent.parametrisation is None
    assert silent.schedule is None
    assert any("training.sde" in note for note in silent.notes)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop("ema/shadow_params/3"), "averaged weights .* do not fit"),
        (lambda s: s.pop("model/module.all_modules.5.Conv_1.bias"), "do not fit"),
        (lambda s: [s.pop(k) for k in list(s) if ".all_modules.6." in k], "arranged|missing"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("model/")], "full checkpoint"),
        (lambda s: s.update({"model/module.all_modules.4.Odd_0.weight": torch.ones(2)}), "within"),
        (lambda s: s.update({"model/module.all_modules.99999.W": torch.ones(2)}), "more than any"),
    ],
    ids=["average", "weight", "module", "names", "part", "number"],
)
def test_a_damaged_checkpoint_is_refused_in_a_sentence(spoil, words):
    state = flat(Reference(Settings()).checkpoint())
    spoil(state)
    with pytest.raises(WeightsError, match=words) as caught:
        recognise(state).network()
    assert "\n" not in str(caught.value)


def test_mangled_weights_are_refused_or_used_but_never_crash():
    whole = flat(Reference(Settings(progressive_input="input_skip")).checkpoint())
    chance = random.Random(0)
    outcomes = set()
    for _ in range(150):
        state = dict(whole)
        for key in chance.sample(sorted(state), chance.choice((1, 1, 3))):
            match chance.randrange(5):
                case 0:
                    del state[key]
                case 1:
                    state[key] = torch.ones(chance.choice([(), (1,), (3, 4), (2, 3, 4), (0,)]))
                case 2:
                    state[f"{key}.more"] = state[key]
                case 3:
                    state[key.replace("modules.", "modules.-")] = state.pop(key)
                case 4:
                    state[key] = torch.cat([state[key], state[key]])
        try:
            found = recognise(state)
            outcomes.add(found and found.network().channels)
        except WeightsError as error:
            outcomes.add("rambles" if "\n" in str(error) else "refused")
    assert outcomes <= {"refused", 1, None}
    assert "refused" in outcomes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"training": {"sde": "subvpsde"}}, "subvpsde"),
        ({"sde": "vpsde", "scale_by_sigma": True}, "vpsde"),
        ({"training": {"continuous": False}}, "continuous"),
        ({"model": {"fir_kernel": "soft"}}, "fir_kernel"),
        ({"model": {"fir_kernel": [1, 2]}}, "not symmetric"),
        ({"model": {"nonlinearity": "tanh"}}, "tanh"),
        ({"model": {"sigma_min": 9, "sigma_max": 1}}, "noise levels"),
        ({"model": {"num_scales": "many"}}, "num_scales"),
        ({"data": {"centered": "no"}}, "centered"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused_in_a_sentence(settings, words):
    state = flat(Reference(Settings()).checkpoint())
    with pytest.raises(WeightsError, match=words) as caught:
        recognise(state, settings)
    assert "\n" not in str(caught.value)


def test_colour_images_are_refused():
    state = flat(Reference(Settings(num_channels=3)).checkpoint())
    with pytest.raises(WeightsError, match="3 channels"):
        recognise(state)


def test_other_layouts_are_none_of_ours():
    assert recognise({"input_blocks.0.0.weight": torch.ones(1)}) is None


def trained(settings, images, steps):
    """A network that has learned to tell noise from anatomy, a little."""
    reference = Reference(settings)
    generator = torch.Generator().manual_seed(3)
    weights = [w.requires_grad_() for k, w in reference.weights.items() if not k.endswith("0.W")]
    optimiser = torch.optim.Adam(weights, 1e-2)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-2 * math.cos(math.pi / 2 * step / steps)
        x0 = images[torch.randint(len(images), (16,), generator=generator)]
        sigma = torch.exp(torch.empty(16).uniform_(-4, 2.3, generator=generator))
        s, n = sigma.view(-1, 1, 1, 1), torch.randn(x0.shape, generator=generator)
        loss = (s * reference(x0 + s * n, sigma) + n).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for weight in weights:
        weight.requires_grad_(False)
    return reference


def test_a_trained_checkpoint_becomes_a_prior(tmp_path):
    unit = phantom(Intensity(window_hu=(-1000, 1600)), 24, 16)[:, None]
    settings = Settings(attn_resolutions=(), sigma_max=10.0, num_scales=100)
    reference = trained(settings, (unit + 1) / 2, 50)
    torch.save(reference.checkpoint(apart=0.0), tmp_path / "checkpoint.pth")
    request = Request(
        "CT", "mine", window_hu=(-1000, 1600), allow_pickle=True, config=settings.as_config()
    )
    steps = import_prior(tmp_path / "checkpoint.pth", tmp_path / "mine", request)
    for _ in steps:
        pass
    prior = load_prior(str(tmp_path / "mine"))
    assert prior.card.diffusion.parametrisation == "score"
    assert prior.card.diffusion.range == (0.0, 1.0)

    sigma = 0.4
    noise = torch.randn(unit[:2].shape, generator=torch.Generator().manual_seed(4))
    x = unit[:2] + sigma * noise
    w, s = (x + 1) / 2, sigma / 2
    expected = 2 * (w + s**2 * reference(w, torch.full((2,), s))) - 1
    denoised = prior.denoiser(x[:, 0], sigma)
    torch.testing.assert_close(denoised, expected[:, 0], atol=2e-3, rtol=0)
    assert (denoised - unit[:2, 0]).square().mean() < 0.5 * sigma**2
