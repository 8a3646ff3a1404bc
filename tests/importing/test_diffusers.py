"""Folders written by diffusers itself, read without it."""

import math
import warnings

import pytest
import torch

from medrecon.errors import WeightsError
from medrecon.importing.checkpoint import read_checkpoint
from medrecon.importing.diffusers import recognise
from medrecon.importing.importer import Request, import_prior
from medrecon.importing.phantom import phantom
from medrecon.priors.card import Intensity
from medrecon.priors.diffusion import Schedule
from medrecon.priors.weights import load_prior

TINY = {
    "sample_size": 16,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
NETWORKS = {
    "plain": {},
    "scaled, resampled in blocks, learned variance, complex": {
        "in_channels": 2,
        "out_channels": 4,
        "resnet_time_scale_shift": "scale_shift",
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
    },
    "noise deviations": {"time_embedding_type": "fourier"},
    "learned levels": {"time_embedding_type": "learned", "num_train_timesteps": 100},
    "other habits": {
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "attention_head_dim": None,
        "act_fn": "mish",
        "norm_eps": 1e-6,
        "mid_block_scale_factor": 1.4,
        "center_input_sample": True,
    },
    "attention above": {
        "add_attention": False,
        "layers_per_block": 2,
        "block_out_channels": (16, 24, 32),
        "down_block_types": ("AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "UpBlock2D"),
    },
    "no middle": {"mid_block_type": None, "attention_head_dim": 16},
    "odd heads": {
        "attn_norm_num_groups": 4,
        "attention_head_dim": 12,
        "resnet_time_scale_shift": "scale_shift",
    },
    "one level": {
        "block_out_channels": (16,),
        "down_block_types": ("AttnDownBlock2D",),
        "up_block_types": ("AttnUpBlock2D",),
        "time_embedding_dim": 20,
    },
}
GUESSED = {
    "groups", "middle_groups", "head_size", "eps", "middle_scale", "cosine_first", "shift",
    "symmetric", "activation", "centre",
}  # fmt: skip


@pytest.fixture(scope="module")
def diffusers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        return pytest.importorskip("diffusers")


def saved(folder, network, scheduler=None):
    network.save_pretrained(folder / "unet")
    if scheduler is not None:
        scheduler.save_pretrained(folder / "scheduler")
    return read_checkpoint(folder)


@pytest.mark.parametrize("given", NETWORKS.values(), ids=NETWORKS.keys())
def test_the_network_says_what_diffusers_says(diffusers, tmp_path, given):
    torch.manual_seed(1)
    theirs = diffusers.UNet2DModel(**TINY | given).eval()
    state, config = saved(tmp_path, theirs)
    found = recognise(state, config)
    x = torch.randn(2, found.channels, 16, 16)
    label = torch.tensor([3.0, 50.0])
    learned = given.get("time_embedding_type") == "learned"
    with torch.no_grad():
        expected = theirs(x, label.long() if learned else label).sample
    difference = found.network()(x, label) - expected
    assert float(difference.abs().max()) < 1e-5 * float(expected.abs().max())

    guessed = recognise({key: value.to("meta") for key, value in state.items()})
    differing = {k for k, v in found.settings.items() if guessed.settings.get(k) != v}
    assert differing <= GUESSED


def test_names_of_attention_before_2023_are_known(diffusers, tmp_path):
    theirs = diffusers.UNet2DModel(**TINY).eval()
    state, config = saved(tmp_path, theirs)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    aged = {}
    for key, value in state.items():
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        aged[key] = value
    assert aged.keys() != state.keys()
    assert recognise(aged, config).state.keys() == state.keys()


@pytest.mark.parametrize("size", [8, 16, None])
def test_heads_that_nobody_told_are_among_the_alternatives(diffusers, size):
    state = diffusers.UNet2DModel(**TINY | {"attention_head_dim": size}).state_dict()
    found = recognise(state)
    sizes = {found.settings["head_size"], *(a["head_size"] for a in found.alternatives)}
    assert size in sizes


@pytest.mark.parametrize(
    ("scheduler", "options", "parametrisation"),
    [
        ("DDPMScheduler", {}, "eps"),
        ("DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2"}, "eps"),
        ("DDIMScheduler", {"prediction_type": "v_prediction"}, "v"),
        (
            "DDPMScheduler",
            {
                "beta_schedule": "scaled_linear",
                "rescale_betas_zero_snr": True,
                "prediction_type": "sample",
            },
            "x0",
        ),
        ("EulerDiscreteScheduler", {"num_train_timesteps": 200, "beta_end": 0.05}, "eps"),
        ("DPMSolverMultistepScheduler", {"beta_start": 0.001}, "eps"),
    ],
)
def test_noise_levels_are_those_of_the_scheduler(
    diffusers, tmp_path, scheduler, options, parametrisation
):
    theirs = getattr(diffusers, scheduler)(**options)
    state, config = saved(tmp_path, diffusers.UNet2DModel(**TINY), theirs)
    found = recognise(state, config)
    assert (found.parametrisation, found.time) == (parametrisation, "index")
    kept = theirs.alphas_cumprod.double()
    for index in (1, 10, len(kept) // 2, len(kept) - 2):
        sigma = math.sqrt((1 - kept[index]) / kept[index])
        assert found.schedule.index(sigma) == pytest.approx(index, abs=0.01)


def test_score_and_preconditioned_networks_know_sigma(diffusers, tmp_path):
    network = diffusers.UNet2DModel(**TINY, time_embedding_type="fourier")
    scheduler = diffusers.ScoreSdeVeScheduler(sigma_max=300.0)
    found = recognise(*saved(tmp_path / "ve", network, scheduler))
    assert (found.parametrisation, found.time) == ("score", "sigma")
    assert found.schedule == Schedule(kind="ve", start=0.01, end=300.0, steps=2000)

    network = diffusers.UNet2DModel(**TINY)
    found = recognise(*saved(tmp_path / "edm", network, diffusers.EDMEulerScheduler()))
    assert (found.parametrisation, found.time, found.sigma_data) == ("edm", "log-sigma", 0.5)


@pytest.mark.parametrize(
    ("given", "config", "words"),
    [
        ({}, {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel"),
        ({"num_class_embeds": 10}, {}, "classes"),
        ({"in_channels": 3, "out_channels": 3}, {}, "3 channels"),
        ({"out_channels": 3}, {}, "3 channels of 1"),
        ({}, {"down_block_types": ["SkipDownBlock2D"]}, "SkipDownBlock2D"),
        ({}, {"norm_num_groups": "all"}, "norm_num_groups"),
        ({}, {"act_fn": "tanh"}, "tanh"),
        ({}, {"scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler"}}, "FlowMatch"),
        ({}, {"scheduler": {"prediction_type": "flow"}}, "flow"),
        ({}, {"scheduler": {"trained_betas": [0.1]}}, "betas"),
        ({}, {"scheduler": {"beta_start": 0.5}}, "noise levels"),
    ],
    ids=str,
)
def test_what_cannot_be_a_prior_is_refused_in_a_sentence(diffusers, given, config, words):
    state = diffusers.UNet2DModel(**TINY | given).state_dict()
    with pytest.raises(WeightsError, match=words) as caught:
        recognise(state, {"norm_num_groups": 8, **config}).network()
    assert "\n" not in str(caught.value)


def test_weights_that_lack_some_are_refused(diffusers):
    state = dict(diffusers.UNet2DModel(**TINY).state_dict())
    del state["up_blocks.0.resnets.1.conv2.bias"]
    with pytest.raises(WeightsError, match=r"up_blocks\.0\.resnets\.1\.conv2\.bias is missing"):
        recognise(state, {"norm_num_groups": 8}).network()


def test_other_layouts_are_none_of_ours():
    assert recognise({"conv_in.conv.weight": torch.ones(1)}) is None


def test_a_trained_folder_becomes_a_prior(diffusers, tmp_path):
    torch.manual_seed(5)
    unit = phantom(Intensity(window_hu=(-1000, 1600)), 24, 16)[:, None]
    theirs = diffusers.UNet2DModel(**TINY)
    scheduler = diffusers.DDPMScheduler()
    optimiser = torch.optim.Adam(theirs.parameters(), 1e-2)
    for step in range(60):
        optimiser.param_groups[0]["lr"] = 1e-2 * math.cos(math.pi / 2 * step / 60)
        x0 = unit[torch.randint(len(unit), (16,))]
        noise, t = torch.randn_like(x0), torch.randint(1000, (16,))
        output = theirs(scheduler.add_noise(x0, noise, t), t).sample
        loss = (output - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    theirs.eval().save_pretrained(tmp_path / "unet")
    scheduler.save_pretrained(tmp_path / "scheduler")

    request = Request("CT", "mine", window_hu=(-1000, 1600))
    for _ in import_prior(tmp_path, tmp_path / "mine", request):
        pass
    prior = load_prior(str(tmp_path / "mine"))
    assert prior.card.diffusion.parametrisation == "eps"
    assert prior.card.diffusion.range == (-1.0, 1.0)

    kept = float(scheduler.alphas_cumprod[300])
    sigma = math.sqrt((1 - kept) / kept)
    x = unit[:2] + sigma * torch.randn(unit[:2].shape)
    with torch.no_grad():
        expected = x - sigma * theirs(math.sqrt(kept) * x, torch.tensor([300, 300])).sample
    denoised = prior.denoiser(x[:, 0], sigma)
    torch.testing.assert_close(denoised, expected[:, 0], atol=3e-3, rtol=0)
