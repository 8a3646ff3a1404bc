"""guided-diffusion and MONAI: settings from shapes, outputs as theirs, wrong kinds refused."""

from pathlib import Path

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet

from medrecon.errors import WeightsError
from medrecon.importing import guided, monai
from medrecon.importing.importer import recognise
from medrecon.importing.layout import check_fit
from medrecon.priors.diffusion import Schedule
from medrecon.priors.networks.adm import ADM
from medrecon.priors.networks.registry import build_network
from tests.importing.guided_reference import outputs

LAYOUTS = Path(__file__).parent / "layouts"
SHAPE = {
    "channels": 1,
    "outputs": 2,
    "base": 32,
    "widths": [32, 64, 64],
    "blocks": [2, 1, 2],
    "attention": [False, True, False],
    "heads": [1, 4, 4],
}
KINDS = [
    {"scale_shift": True, "resblock_updown": True},
    {"scale_shift": True, "resblock_updown": False, "new_order": True},
    {"scale_shift": False, "resblock_updown": True, "channels": 2, "outputs": 2},
    {"scale_shift": False, "resblock_updown": False, "attention": [True, False, True]},
    {"scale_shift": True, "blocks": [1, 1, 1], "resblock_updown": True, "outputs": 1},
]


def shuffled(network):
    """Weights at random, large enough that every part counts."""
    generator = torch.Generator().manual_seed(0)
    for p in network.parameters():
        scale = 1.5 / max(1, p[0].numel()) ** 0.5 if p.ndim > 1 else 0.5
        p.data = scale * torch.randn(p.shape, generator=generator) + 0.5 * (p.ndim == 1)
    return network.eval()


def noisy(channels):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, 16, 16, generator=generator), torch.tensor([3.0, 700.5])


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_settings_are_read_off_the_shapes_and_outputs_are_the_formulas(kind):
    settings = {**SHAPE, "heads": [1, 4, 4], **kind}
    if settings["attention"][0]:
        settings["heads"] = [4, 1, 4]
    state = shuffled(ADM(**settings)).state_dict()
    config = {"num_heads": 4, "use_new_attention_order": settings.get("new_order", False)}
    found = guided.recognise(state, {"model": config})
    expected = {"new_order": False, "middle_attention": True, **settings}
    assert found.settings == expected
    assert found.alternatives == ()
    x, label = noisy(settings["channels"])
    with torch.no_grad():
        ours = found.network()(x, label)
        theirs = outputs(state, x, label, lambda width: 4, expected["new_order"])
    assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    ("name", "millions", "channels"),
    [("guided_diffusion_256", 374.0, 1), ("guided_diffusion_320", 361.4, 2)],
)
def test_large_public_layouts_are_recognised_without_memory(name, millions, channels):
    lines = (LAYOUTS / f"{name}.txt").read_text().splitlines()
    shapes = {k: tuple(map(int, v.split("x"))) for k, v in (line.split() for line in lines)}
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert sum(value.numel() for value in state.values()) / 1e6 == pytest.approx(millions, abs=0.1)
    found = recognise(state, None)
    assert found.layout == "guided-diffusion"
    assert found.channels == channels
    assert found.settings["widths"] == [256, 256, 512, 512, 1024, 1024]
    assert found.settings["blocks"] == [1] * 6
    assert found.settings["outputs"] == 2 * channels
    assert found.settings["scale_shift"]
    assert found.settings["resblock_updown"]
    assert found.settings["heads"][-1] == 16
    with torch.device("meta"):
        check_fit(build_network(found.kind, found.settings), found.state, "it")


def test_heads_that_the_file_does_not_hold_are_alternatives_and_matter():
    state = shuffled(ADM(**SHAPE)).state_dict()
    found = guided.recognise(state, None)
    heads = [found.settings["heads"], *(a["heads"] for a in found.alternatives)]
    assert [1, 4, 4] in heads
    x, label = noisy(1)
    with torch.no_grad():
        theirs = outputs(state, x, label, lambda width: 4, new_order=False)
        errors = {
            (tuple(o["heads"]), o["new_order"]): relative(found.network(o)(x, label), theirs)
            for o in found.alternatives
        }
    assert errors[(1, 4, 4), False] < 1e-5
    assert min(e for key, e in errors.items() if key != ((1, 4, 4), False)) > 1e-3


def test_the_schedule_and_output_of_a_configuration_are_taken():
    state = shuffled(ADM(**SHAPE)).state_dict()
    config = {"diffusion": {"noise_schedule": "linear", "steps": 1000, "predict_xstart": False}}
    found = guided.recognise(state, config)
    assert found.parametrisation == "eps"
    assert found.schedule == Schedule(kind="linear", start=1e-4, end=0.02, steps=1000)
    shorter = guided.recognise(state, {"noise_schedule": "linear", "diffusion_steps": 250})
    assert shorter.schedule == Schedule(kind="linear", start=4e-4, end=0.08, steps=250)


@pytest.mark.parametrize(
    "config",
    [
        {"num_heads": 0},
        {"num_head_channels": "many"},
        {"num_heads": 5},
        {"noise_schedule": "linear", "diffusion_steps": 1},
        {"noise_schedule": "cosine", "diffusion_steps": [3]},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused_in_one_sentence(config):
    state = shuffled(ADM(**SHAPE)).state_dict()
    with pytest.raises(WeightsError) as error:
        guided.recognise(state, config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.update({"label_emb.weight": torch.zeros(10, 128)}), "conditional"),
        (lambda s: s.update({"input_blocks.0.0.weight": torch.zeros(32, 3, 3, 3)}), "3 channels"),
        (lambda s: s.update({"input_blocks.0.0.weight": torch.zeros(32, 1, 3, 3, 3)}), "two-dim"),
        (lambda s: s.pop("output_blocks.0.0.emb_layers.1.weight"), "not complete"),
        (lambda s: s.pop("output_blocks.7.0.out_layers.3.weight"), "do not fit|not complete"),
        (lambda s: s.pop("input_blocks.1.0.in_layers.2.bias"), "is missing"),
        (lambda s: s.update({"extra": torch.zeros(1)}), "extra is not known"),
        (lambda s: s.update({"out.0.weight": torch.zeros(7)}), "shape"),
        (lambda s: s.update({"out.2.weight": torch.zeros(5, 32, 3, 3)}), "makes 5 channels"),
    ],
)
def test_weights_of_another_kind_are_refused_in_one_sentence(change, says):
    state = dict(shuffled(ADM(**SHAPE)).state_dict())
    change(state)
    with pytest.raises(WeightsError, match=says) as error:
        guided.recognise(state, None).network()
    assert "\n" not in str(error.value)


def test_what_nobody_knows_is_said_to_be_so():
    with pytest.raises(WeightsError, match=r"no known layout .* first\.weight"):
        recognise({"first.weight": torch.zeros(2)}, None)


@pytest.mark.parametrize(
    "change",
    [
        {"resblock_updown": True, "num_head_channels": (8, 16, 32)},
        {"in_channels": 2, "out_channels": 2, "num_res_blocks": (1, 2, 1)},
        {"attention_levels": (True, False, False), "include_fc": False},
        {"use_combined_linear": True, "num_res_blocks": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_networks_of_monai_give_what_monai_gives(change, wrapped):
    settings = {
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 1,
        "num_res_blocks": 2,
        "channels": (32, 64, 64),
        "attention_levels": (False, True, True),
        "num_head_channels": 16,
        "norm_num_groups": 16,
        **change,
    }
    network = shuffled(DiffusionModelUNet(**settings))
    state = network.state_dict()
    if wrapped:  # as a training loop saves it
        state = {f"unet_state_dict/module.{key}": value for key, value in state.items()}
    bundle = {"network_def": {**settings, "in_channels": "@channels"}}
    found = monai.recognise(state, bundle)
    x, label = noisy(settings["in_channels"])
    with torch.no_grad():
        assert relative(found.network()(x, label), network(x, label)) < 1e-5


def test_what_a_bundle_says_of_its_scheduler_is_taken():
    network = shuffled(
        DiffusionModelUNet(
            2, 1, 1, num_res_blocks=1, channels=(32, 32), attention_levels=(False, False)
        )
    )
    scheduler = {
        "_target_": "DDPMScheduler",
        "schedule": "scaled_linear_beta",
        "beta_start": 0.0015,
        "beta_end": 0.0195,
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
    }
    found = monai.recognise(network.state_dict(), {"scheduler": scheduler})
    assert found.parametrisation == "v"
    assert found.schedule == Schedule(kind="scaled-linear", start=0.0015, end=0.0195)
    assert found.settings["heads"] == [1, 4]  # MONAI's 8 channels in each


def test_conditional_and_volumetric_networks_of_monai_are_refused():
    small = {"channels": (32, 32), "attention_levels": (False, False), "num_res_blocks": 1}
    with pytest.raises(WeightsError, match="not two-dimensional"):
        monai.recognise(DiffusionModelUNet(3, 1, 1, **small).state_dict(), None)
    conditional = DiffusionModelUNet(2, 1, 1, num_class_embeds=3, **small)
    with pytest.raises(WeightsError, match="conditional"):
        monai.recognise(conditional.state_dict(), None)
