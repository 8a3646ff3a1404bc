"""Weights: shipped ones denoise; damaged ones are refused in one sentence."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from medrecon.errors import WeightsError
from medrecon.io.read import read_image
from medrecon.priors.weights import SHIPPED, load_prior, sha256, shipped_priors


@pytest.fixture
def copied(tmp_path):
    folder = tmp_path / "ct-axial-256"
    shutil.copytree(SHIPPED / "ct-axial-256", folder)
    return folder


def _refresh(folder):
    card = json.loads((folder / "card.json").read_text())
    card["sha256"] = sha256(folder / "weights.safetensors")
    (folder / "card.json").write_text(json.dumps(card))


def test_every_shipped_prior_loads_and_has_a_full_card():
    names = [card.name for card in shipped_priors()]
    assert names == ["ct-axial-256", "mr-axial-256"]
    for name in names:
        card = load_prior(name).card
        assert card.data
        assert all(source.licence for source in card.data)
        assert (SHIPPED / name / "weights.safetensors").stat().st_size < 10.5e6


def test_the_shipped_ct_prior_denoises_a_patient_it_has_never_seen(pytestconfig):
    image, _ = read_image(pytestconfig.rootpath / "data" / "chest_ct.nii.gz")
    clean = (image.data[10:12].clamp(-1000, 1600) + 1000) / 1300 - 1
    prior = load_prior("ct-axial-256").denoiser
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    for sigma in (0.1, 0.5):
        error = float((prior(clean + sigma * noise, sigma) - clean).square().mean())
        assert error < 0.1 * sigma**2
        assert 0.3 < error / prior.error_variance(sigma) < 3  # the card tells the truth


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda f: (f / "weights.safetensors").write_bytes(b"\0" * 50), "not those of its card"),
        (lambda f: (f / "weights.safetensors").unlink(), "no weights.safetensors"),
        (lambda f: (f / "card.json").write_text("{}"), "not valid"),
        (lambda f: (f / "card.json").unlink(), "no prior"),
    ],
)
def test_damaged_priors_are_refused(copied, damage, says):
    damage(copied)
    with pytest.raises(WeightsError, match=says):
        load_prior(str(copied))


def test_truncated_weights_with_a_matching_hash_are_refused(copied):
    path = copied / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    _refresh(copied)
    with pytest.raises(WeightsError, match="do not fit"):
        load_prior(str(copied))


def test_weights_with_nan_or_missing_keys_are_refused(copied):
    path = copied / "weights.safetensors"
    state = load_file(path)
    key = next(iter(state))
    save_file({**state, key: torch.full_like(state[key], float("nan"))}, path)
    _refresh(copied)
    with pytest.raises(WeightsError, match="NaN"):
        load_prior(str(copied))
    del state[key]
    save_file(state, path)
    _refresh(copied)
    with pytest.raises(WeightsError, match="do not fit"):
        load_prior(str(copied))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(WeightsError, match="ct-axial-256"):
        load_prior("nobody")
