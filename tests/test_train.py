"""A prior trained through the command line is a folder that can be used at once."""

import json

import h5py
import numpy as np
import pytest
import torch

from medrecon import cli
from medrecon.priors.weights import load_prior


@pytest.fixture
def train(tmp_path, capsys):
    def run(*more, modality="ct", slices="slices.h5", output="tiny"):
        code = cli.invoke(
            [
                *("train", str(tmp_path / slices), "--validation", str(tmp_path / "slices.h5")),
                *("--output", str(tmp_path / output), "--modality", modality),
                *("--minutes", "0.02", "--widths", "8,16", "--blocks", "1"),
                *("--pixels-per-step", "4096", "--device", "cpu", *map(str, more)),
            ]
        )
        return code, capsys.readouterr()

    return run


@pytest.fixture
def slices(tmp_path):
    """Discs of water in air, and the same as a magnitude, 64 x 64 pixels of 1 to 2 mm."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    discs = np.stack([x**2 + y**2 < r**2 for r in np.linspace(0.3, 0.9, 12)])
    with h5py.File(tmp_path / "slices.h5", "w") as file:
        file["hu"] = (1000 * discs - 1000).astype(np.int16)
        file["magnitude"] = (1000 * discs).astype(np.int16)
        file["spacing_mm"] = np.linspace(1, 2, 12, dtype=np.float32)
    return tmp_path


@pytest.mark.parametrize(("modality", "sigma_data"), [("ct", 0.45), ("mr", 0.25)])
def test_a_trained_prior_loads_and_says_what_it_is(slices, train, modality, sigma_data):
    code, said = train(modality=modality)
    assert (code, said.err) == (0, "")
    assert "PSNR in dB at sigma 0.05:" in said.out
    prior = load_prior(str(slices / "tiny"))
    card = prior.card
    assert (card.name, card.title, card.modality) == ("tiny", "tiny", modality.upper())
    assert card.pixel_mm == (1.0, 2.0)
    assert card.sigma_data == sigma_data
    assert [(source.name, source.licence) for source in card.data] == [("slices.h5", "not stated")]
    noisy = torch.zeros(2, 30, 26, dtype=torch.complex64 if modality == "mr" else torch.float32)
    assert prior.denoiser(noisy, 0.5).shape == noisy.shape


def test_it_goes_on_from_its_checkpoint_and_takes_names_and_sources(slices, train):
    def steps():
        return int(load_prior(str(slices / "tiny")).card.training.split()[0])

    sources = slices / "sources.json"
    sources.write_text(json.dumps([{"name": "Discs", "licence": "CC0-1.0", "citation": "none"}]))
    assert train()[0] == 0
    before = steps()
    assert train("--name", "discs", "--title", "Round", "--sources", sources)[0] == 0
    card = load_prior(str(slices / "tiny")).card
    assert steps() > before
    assert (card.name, card.title) == ("discs", "Round")
    assert card.data[0].licence == "CC0-1.0"
    code, said = train("--blocks", "2")
    assert code == 10
    assert "another network" in said.err


def _without_hu(folder):
    with h5py.File(folder / "bad.h5", "w") as file:
        file["magnitude"] = np.zeros((2, 64, 64), np.int16)


def _flat(folder):
    with h5py.File(folder / "bad.h5", "w") as file:
        file["hu"] = np.zeros((64, 64), np.int16)


def _nan(folder):
    with h5py.File(folder / "bad.h5", "w") as file:
        file["hu"] = np.full((2, 64, 64), np.nan, np.float32)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "bad.h5").write_text("text"), "not an HDF5 file"),
        (_without_hu, "no dataset 'hu'"),
        (_flat, "(slices, y, x)"),
        (_nan, "NaN"),
    ],
)
def test_slices_that_cannot_be_read_are_four_and_leave_nothing(slices, train, damage, says):
    damage(slices)
    code, said = train(slices="bad.h5")
    assert code == 4
    assert says in said.err
    assert said.err.count("\n") == 1
    assert not (slices / "tiny").exists()


def test_a_folder_that_is_no_training_is_left_alone(slices, train):
    (slices / "mine").mkdir()
    (slices / "mine" / "card.json").write_text("precious")
    code, said = train(output="mine")
    assert code == 6
    assert "checkpoint.safetensors" in said.err
    assert (slices / "mine" / "card.json").read_text() == "precious"


@pytest.mark.parametrize("widths", ["12,16", "8,,16", "4", "8,8,8,8,8,8,8", "wide"])
def test_widths_that_no_network_has_are_two(slices, train, widths):
    code, said = train("--widths", widths)
    assert code == 2
    assert "multiples of 8" in said.err


def test_sources_that_are_no_list_are_four(slices, train):
    (slices / "sources.json").write_text('{"name": "x"}')
    code, said = train("--sources", slices / "sources.json")
    assert code == 4
    assert "list of sources" in said.err
