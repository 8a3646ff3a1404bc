"""Networks of four other projects, imported and run by a protocol: the command line to its end."""

import json
import math

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet
from safetensors.torch import load_file

from medrecon import cli
from medrecon.grid import Grid
from medrecon.importing.phantom import phantom
from medrecon.io.nifti import write_nifti
from medrecon.priors.card import Intensity
from medrecon.priors.networks.adm import ADM
from medrecon.volume import Unit, Volume
from tests.importing.score_sde_reference import Settings
from tests.importing.test_diffusers import TINY, diffusers  # noqa: F401 - a fixture
from tests.importing.test_import import TRAINED
from tests.importing.test_ncsnpp import trained

WINDOW = ("--modality", "ct", "--window", "-1000", "1600")
PROTOCOL = """\
schema_version: 1
name: tiny
title: A tiny cone beam
modality: CT
acquisition:
  kind: cone
  views: 24
  source_to_axis_mm: 600
  source_to_detector_mm: 900
  columns: 48
  column_spacing_mm: 9
  rows: 8
  row_spacing_mm: 6
  photons: 1e5
grid:
  shape: [2, 30, 30]
  spacing_mm: [4, 6, 6]
prior:
  name: ct-axial-256
baselines:
  - method: fdk
sampler:
  steps: 4
  start: fdk
output:
  dicom: false
"""


@pytest.fixture(scope="module")
def images():
    """Chests of 16 x 16 pixels, -1000 to 1600 HU as -1 to 1."""
    return phantom(Intensity(window_hu=(-1000, 1600)), 24, 16)[:, None]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scan")
    (folder / "p.yaml").write_text(PROTOCOL)
    shape, spacing = (2, 30, 30), (4.0, 6.0, 6.0)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, 30)] * 2, indexing="ij")
    data = torch.where(x**2 + y**2 / 0.8 < 0.6, 0.0, -1000.0)
    data = data + 300.0 * ((x - 0.3) ** 2 + (y + 0.2) ** 2 < 0.04)
    body = Volume(data.expand(shape).clone(), Grid.centred(shape, spacing), Unit.HU)
    write_nifti(body, folder / "body.nii.gz")
    words = ["simulate", folder / "p.yaml", folder / "body.nii.gz", "-o", folder / "scan.h5"]
    assert cli.invoke([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def call(capsys):
    def call(*arguments):
        code = cli.invoke([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call


def learned(network, outputs, images, steps=30):
    """Train a network to tell the noise of linear betas, a little."""
    torch.manual_seed(5)
    kept = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).float()
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-2 * math.cos(math.pi / 2 * step / steps)
        x0 = images[torch.randint(len(images), (16,))]
        noise, t = torch.randn_like(x0), torch.randint(1000, (16,))
        a = kept[t].view(-1, 1, 1, 1)
        loss = (outputs(a.sqrt() * x0 + (1 - a).sqrt() * noise, t)[:, :1] - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def guided(folder, images, request):
    """A guided-diffusion state dict: variance learned, scale and shift, blocks that resample."""
    network = ADM(
        channels=1,
        outputs=2,
        base=32,
        widths=[32, 32],
        blocks=[1, 1],
        attention=[False, True],
        heads=[1, 1],
        scale_shift=True,
        resblock_updown=True,
    )
    learned(network, lambda x, t: network(x, t.float()), images)
    torch.save(network.state_dict(), folder / "ema_0.9999.pt")
    return folder / "ema_0.9999.pt", ["--allow-pickle", "--size", "16"]


def score_sde(folder, images, request):
    """A checkpoint whose averaged weights denoise and whose last ones do nothing."""
    settings = Settings(attn_resolutions=(), sigma_max=10.0, num_scales=100)
    reference = trained(settings, (images + 1) / 2, 50)
    saved = reference.checkpoint(apart=0.0)
    for key, value in saved["model"].items():
        if not key.endswith((".0.W", "sigmas")):
            saved["model"][key] = torch.zeros_like(value)
    torch.save(saved, folder / "checkpoint.pth")
    (folder / "config.json").write_text(json.dumps(settings.as_config()))
    return folder / "checkpoint.pth", ["--allow-pickle", "--config", folder / "config.json"]


def of_diffusers(folder, images, request):
    theirs = request.getfixturevalue("diffusers")
    network = theirs.UNet2DModel(**TINY)
    learned(network, lambda x, t: network(x, t).sample, images)
    network.save_pretrained(folder / "model" / "unet")
    theirs.DDPMScheduler().save_pretrained(folder / "model" / "scheduler")
    return folder / "model", []


def of_monai(folder, images, request):
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
    torch.save({"epoch": 3, "unet_state_dict": network.state_dict()}, folder / "model.pt")
    (folder / "bundle.yaml").write_text(
        "network_def:\n  num_head_channels: 8\n  norm_num_groups: 8\n"
        "scheduler:\n  schedule: linear_beta\n  prediction_type: epsilon\n"
    )
    more = ["--allow-pickle", "--config", folder / "bundle.yaml", "--size", "32"]
    return folder / "model.pt", more


@pytest.mark.parametrize("make", [guided, score_sde, of_diffusers, of_monai])
def test_an_imported_network_runs_a_protocol_to_its_end(
    call, images, scan, tmp_path, request, make
):
    file, options = make(tmp_path, images, request)
    code, said, err = call("priors", "import", file, "-o", tmp_path / "theirs", *WINDOW, *options)
    assert (code, err) == (0, [])
    use = f"prior.name={tmp_path / 'theirs'}"
    assert f"--set {use}" in said

    # 30 pixels a side: no multiple of the strides of these networks, nor the size of training
    run = ("run", scan / "p.yaml", scan / "scan.h5", "--device", "cpu", "--set", use)
    code, said, err = call(*run, "-o", tmp_path / "out")
    assert (code, err) == (0, [])
    assert "safety: " in said
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["prior"]["name"] == "theirs"
    psnr = {name: found["psnr"] for name, found in record["metrics"].items()}
    # So little training need not win, but what is read wrongly ends far below.
    assert psnr["dds"] > psnr["fdk"] - 3

    code, _, err = call(*run, "-o", tmp_path / "coarse", "--set", "grid.shape=[2,21,27]")
    assert (code, err) == (0, [])
    assert "metrics" not in json.loads((tmp_path / "coarse" / "run.json").read_text())


def test_slices_of_a_single_stride_are_denoised(call, scan, tmp_path, request):
    """Groups of one channel have no deviation in one pixel, where the network is coarsest."""
    theirs = request.getfixturevalue("diffusers")
    deep = {
        "block_out_channels": (8, 8, 8),
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D",) * 3,
        "up_block_types": ("UpBlock2D",) * 3,
        "add_attention": False,
    }
    small = phantom(Intensity(window_hu=(-1000, 1600)), 24, 16)[:, None]
    network = theirs.UNet2DModel(**TINY | deep)
    learned(network, lambda x, t: network(x, t).sample, small)
    network.save_pretrained(tmp_path / "unet")
    code, _, err = call("priors", "import", tmp_path, "-o", tmp_path / "theirs", *WINDOW)
    assert (code, err) == (0, [])
    grid = ("--set", "grid.shape=[2,4,4]", "--set", "grid.spacing_mm=[4,40,40]")
    code, _, err = call(
        *("run", scan / "p.yaml", scan / "scan.h5", "-o", tmp_path / "out", "--device", "cpu"),
        *("--set", f"prior.name={tmp_path / 'theirs'}", *grid),
    )
    assert (code, err) == (0, [])


def test_the_range_says_whether_a_score_network_centres_its_images(call, images, tmp_path):
    settings = Settings(attn_resolutions=(), sigma_max=10.0, num_scales=100, centered=True)
    torch.save(trained(settings, images, 50).checkpoint(apart=0.0), tmp_path / "c.pth")
    arguments = ("priors", "import", tmp_path / "c.pth", *WINDOW, "--allow-pickle", "--size", "16")
    code, said, err = call(*arguments, "-o", tmp_path / "told", "--range", "-1", "1")
    assert (code, err) == (0, [])
    assert "images in [-1.0, 1.0]" in said.split("read as")[-1]
    assert "were assumed" not in said
    card = json.loads((tmp_path / "told" / "card.json").read_text())
    assert card["architecture"]["settings"]["centred"]

    code, said, err = call(*arguments, "-o", tmp_path / "guessed")
    assert (code, err) == (0, [])
    assert "assumed" in said
    assert "--range -1 1" in said
