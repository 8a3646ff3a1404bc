"""A checkpoint that somebody else's program saved becomes a prior, or one sentence."""

import json
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet
from safetensors.torch import load_file

from medrecon import cli
from medrecon.importing.phantom import phantom
from medrecon.priors.card import Intensity
from medrecon.priors.weights import load_prior

TRAINED = Path(__file__).parent / "layouts" / "monai_denoiser.safetensors"
"""400 steps of MONAI's network under MONAI's DDPMScheduler (linear betas, epsilon) on procedural
chests of 64 x 64 pixels, -1000 to 1600 HU as 0 to 1."""
CT = ("--modality", "ct", "--window", "-1000", "1600", "--size", "32")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    network = DiffusionModelUNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        num_res_blocks=1,
        channels=(16, 32),
        attention_levels=(False, False),
        num_head_channels=8,
        norm_num_groups=8,
    )
    network.load_state_dict({key: value.float() for key, value in load_file(TRAINED).items()})
    folder = tmp_path_factory.mktemp("monai")
    path = folder / "model.pt"
    torch.save({"epoch": 3, "unet_state_dict": network.state_dict()}, path)
    (folder / "inference.yaml").write_text(
        "network_def:\n  num_head_channels: 8\n  norm_num_groups: 8\n"
        "scheduler:\n  schedule: linear_beta\n  prediction_type: epsilon\n"
    )
    return path


@pytest.fixture
def medrecon_(capsys):
    def run(*arguments):
        code = cli.invoke([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


def test_a_network_of_monai_becomes_a_prior(checkpoint, tmp_path, medrecon_):
    folder = tmp_path / "mine"
    config = ("--config", checkpoint.parent / "inference.yaml")
    code, out, err = medrecon_(
        "priors", "import", checkpoint, "-o", folder, *CT, *config, "--allow-pickle"
    )
    assert (code, err) == (0, [])
    assert "prior.name=" in out
    prior = load_prior(str(folder))
    card = prior.card
    assert (card.name, card.parametrisation, card.modality) == ("mine", "eps", "CT")
    assert card.diffusion.range == (0.0, 1.0)  # found by trial
    assert card.diffusion.schedule.kind == "linear"
    assert card.architecture.settings["groups"] == 8
    assert card.architecture.settings["heads"] == [1, 4]
    assert card.parameters == sum(value.numel() for value in load_file(TRAINED).values())
    assert card.sigma_range == pytest.approx((0.02, 314.9), rel=0.01)
    clean = phantom(Intensity(window_hu=(-1000, 1600)), 3, 32)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for sigma in (0.1, 1.0):
        error = float((prior.denoiser(clean + sigma * noise, sigma) - clean).square().mean())
        assert error < 0.6 * sigma**2
        assert 0.3 < error / prior.denoiser.error_variance(sigma) < 3
    code, out, _ = medrecon_("priors", "show", folder, "--json")
    assert code == 0
    assert json.loads(out)["diffusion"]["time"] == "index"
    code, out, _ = medrecon_("priors", "show", folder)
    assert code == 0
    assert "Not by medrecon" in out


@pytest.mark.parametrize(
    ("options", "exit_code", "says"),
    [
        ((*CT, "--allow-pickle", "--range", "-1", "1"), 10, "Read as told"),
        ((*CT, "--allow-pickle", "--predicts", "x0"), 10, "read as eps"),
        ((*CT, "--allow-pickle", "--schedule", "linear", "--span", "0.1", "0.01"), 10, "rises"),
        ((*CT, "--allow-pickle", "--span", "0.1", "0.01"), 2, "--schedule"),
        (CT, 2, "--allow-pickle"),
        (("--modality", "ct", "--allow-pickle"), 2, "--window"),
        (("--modality", "ct", "--window", "100", "-100", "--allow-pickle"), 2, "smaller HU"),
    ],
)
def test_wrong_guesses_leave_nothing_but_one_sentence(
    checkpoint, tmp_path, medrecon_, options, exit_code, says
):
    folder = tmp_path / "mine"
    code, _, err = medrecon_("priors", "import", checkpoint, "-o", folder, *options)
    assert code == exit_code
    assert len(err) == 1
    assert says in err[0]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_file_and_a_taken_folder_are_refused(checkpoint, tmp_path, medrecon_):
    code, _, err = medrecon_("priors", "import", tmp_path / "no.pt", "-o", tmp_path / "m", *CT)
    assert (code, len(err)) == (4, 1)
    code, _, err = medrecon_("priors", "import", checkpoint, "-o", tmp_path, *CT)
    assert (code, len(err)) == (6, 1)
