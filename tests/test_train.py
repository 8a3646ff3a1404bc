"""A prior trained through the command line is a folder that can be used at once."""

import json

import h5py
import numpy as np
import pytest
import torch

from medrecon import cli
from medrecon.priors.weights import load_prior

RECIPE = """
schema_version: 1
name: discs
title: Discs
modality: {modality}
data:
  train: [slices.h5]
  validation: [others.h5]
  size: 64
  sources: [{{name: Discs, licence: CC0-1.0}}]
network: {{widths: [8, 16], blocks: 1}}
patches:
  pixels: 4096
  stages: [{{until: 1.0, sizes: [32, 64]}}]
optimiser: {{learning_rate: 2.0e-3, warmup: 2}}
budget: {{steps: 6}}
validation: {{every_steps: 3, slices: 2}}
"""


def discs(path, patients):
    """Write discs of water in air, and the same as a magnitude, 64 x 64 pixels of 1 to 2 mm."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    count = 4 * len(patients)
    images = np.stack([x**2 + y**2 < r**2 for r in np.linspace(0.3, 0.9, count)])
    with h5py.File(path, "w") as file:
        file["hu"] = (1000 * images - 1000).astype(np.int16)
        file["magnitude"] = (1000 * images).astype(np.int16)
        file["spacing_mm"] = np.linspace(1, 2, count, dtype=np.float32)
        file["subject"] = [patient for patient in patients for _ in range(4)]


@pytest.fixture
def folder(tmp_path):
    discs(tmp_path / "slices.h5", ["a", "b"])
    discs(tmp_path / "others.h5", ["c"])
    return tmp_path


@pytest.fixture
def train(folder, capsys):
    def run(*more, modality="CT", output="mine", recipe=RECIPE):
        (folder / "recipe.yaml").write_text(recipe.format(modality=modality))
        sets = [part for text in more for part in ("--set", text)]
        name = str(folder / "recipe.yaml")
        target = str(folder / output)
        code = cli.invoke(["train", name, "--output", target, "--device", "cpu", *sets])
        return code, capsys.readouterr()

    return run


@pytest.mark.parametrize(("modality", "sigma_data"), [("CT", 0.45), ("MR", 0.25)])
def test_a_trained_prior_loads_and_says_what_it_is(folder, train, modality, sigma_data):
    code, said = train(
        "data.ood.again=[others.h5]".replace("others", str(folder / "others")), modality=modality
    )
    assert (code, said.err) == (0, "")
    assert "step 6/6" in said.out
    assert "PSNR in dB at sigma 0.05:" in said.out
    prior = load_prior(str(folder / "mine"))
    card = prior.card
    assert (card.name, card.title, card.modality) == ("discs", "Discs", modality)
    assert card.pixel_mm == (1.214, 1.786)  # means of the two patients
    assert card.sigma_data == sigma_data
    assert [(source.name, source.licence) for source in card.data] == [("Discs", "CC0-1.0")]
    assert card.parameters == sum(p.numel() for p in prior.denoiser.model.parameters())
    assert card.seconds_per_slice > 0
    assert {"again", "procedural anatomy"} <= set(card.validation_ood)
    noisy = torch.zeros(2, 30, 26, dtype=torch.complex64 if modality == "MR" else torch.float32)
    assert prior.denoiser(noisy, 0.5).shape == noisy.shape
    rows = json.loads((folder / "mine" / "history.json").read_text())["rows"]
    assert [row["step"] for row in rows] == [3, 6]
    assert (folder / "mine" / "progress.png").stat().st_size > 1000


def test_a_finished_run_is_not_trained_again_and_another_network_is_refused(folder, train):
    assert train()[0] == 0
    weights = (folder / "mine" / "weights.safetensors").read_bytes()
    code, said = train()
    assert (code, said.err) == (0, "")
    assert (folder / "mine" / "weights.safetensors").read_bytes() == weights
    code, said = train("network.blocks=2")
    assert code == 10
    assert "another network" in said.err


def _text(path):
    path.write_text("text")


def _without_hu(path):
    with h5py.File(path, "w") as file:
        file["magnitude"] = np.zeros((2, 64, 64), np.int16)


def _flat(path):
    with h5py.File(path, "w") as file:
        file["hu"] = np.zeros((64, 64), np.int16)


def _nan(path):
    with h5py.File(path, "w") as file:
        file["hu"] = np.full((2, 64, 64), np.nan, np.float32)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_text, "holds no DICOM series, NIfTI volume or HDF5 slices"),
        (_without_hu, "no dataset 'hu'"),
        (_flat, "(slices, y, x)"),
        (_nan, "NaN"),
    ],
)
def test_slices_that_cannot_be_read_are_four_and_leave_nothing(folder, train, damage, says):
    damage(folder / "slices.h5")
    code, said = train()
    assert code == 4
    assert says in said.err
    assert said.err.count("\n") == 1
    assert not (folder / "mine").exists()


def test_a_patient_in_both_sets_is_five(folder, train):
    discs(folder / "others.h5", ["b"])
    code, said = train()
    assert code == 5
    assert "1 patient is in data.train and in data.validation" in said.err
    assert not (folder / "mine").exists()


def test_a_folder_that_is_no_training_is_left_alone(folder, train):
    (folder / "mine").mkdir()
    (folder / "mine" / "card.json").write_text("precious")
    code, said = train()
    assert code == 6
    assert "checkpoint.safetensors" in said.err
    assert (folder / "mine" / "card.json").read_text() == "precious"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("network.widths=[12, 16]", "network.widths.0: expected a multiple of 8"),
        ("network.width=[8]", "did you mean widths?"),
        ("budget.steps=null", "one of steps and minutes"),
        ("augment.bias=0.5", "augment.bias: is for MR"),
        ("data.size=30", "no multiple of 4"),
        ("modality=PET", "expected 'CT' or 'MR'"),
        ("data.train=[]", "data.train"),
    ],
)
def test_settings_that_cannot_be_are_three_and_name_the_key(train, setting, says):
    code, said = train(setting)
    assert code == 3
    assert says in said.err
    assert said.err.startswith("medrecon: error: --set ")
    assert said.err.count("\n") == 1


def test_an_error_in_the_file_names_its_line(train):
    code, said = train(recipe=RECIPE.replace("pixels: 4096", "pixels: many"))
    assert code == 3
    assert "recipe.yaml line 13:3: patches.pixels: expected a whole number, got 'many'" in said.err
