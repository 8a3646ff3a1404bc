"""Scores: the denoising against formulas, the reconstruction, the card, and the recipes."""

import math

import pytest
import torch

from medrecon.errors import InconsistentError, ProtocolError
from medrecon.priors.network import EDM, UNet
from medrecon.priors.weights import load_prior
from medrecon.training.command import run_recipe
from medrecon.training.denoising import CleanSet, anatomy_set, errors, patients_set, psnr, table
from medrecon.training.downstream import Reconstruction
from medrecon.training.export import ALONE
from medrecon.training.judge import Judge
from medrecon.training.randomness import Stream, seed_of
from medrecon.training.recipe_files import load_recipe, shipped_recipes
from medrecon.training.settings import Downstream
from medrecon.training.slices import Series, Slices
from medrecon.training.sources import anatomy_of
from medrecon.training.state import network_of

RECIPES = ["ct-axial-256", "ct-axial-256-large", "ct-synthetic"]
RECIPES += ["mr-axial-256", "mr-axial-256-large", "mr-synthetic", "tiny"]


def untrained(channels=1, neighbours=True):
    return EDM(UNet(channels, (8, 16), 1, 16, neighbours), 0.5)


@pytest.mark.parametrize("channels", [1, 2])
def test_errors_are_those_of_the_linear_denoiser_that_an_untrained_network_is(channels):
    clean = 0.3 * torch.randn(6, 3, channels, 64, 64, generator=torch.Generator().manual_seed(0))
    images = CleanSet(clean, torch.ones(6, 2, dtype=torch.bool))
    for neighbours in (False, True):
        found = errors(untrained(channels), images, (0.1, 1.0), neighbours=neighbours)
        for sigma, error in found.items():
            keeps = 0.25 / (0.25 + sigma**2)  # of the noisy image: Wiener's share for white images
            expected = (1 - keeps) ** 2 * 0.09 + keeps**2 * sigma**2
            assert error == pytest.approx(expected, rel=0.03)


def test_neighbours_are_seen_where_they_are_there_and_asked_for():
    model = untrained()
    torch.nn.init.normal_(model.network.tail.weight, generator=torch.Generator().manual_seed(0))
    clean = torch.randn(4, 3, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    nobody = CleanSet(clean, torch.zeros(4, 2, dtype=torch.bool))
    both = CleanSet(clean, torch.ones(4, 2, dtype=torch.bool))
    alone = errors(model, both, (0.5,), neighbours=False)
    assert errors(model, nobody, (0.5,), neighbours=True) == pytest.approx(alone)
    assert errors(model, both, (0.5,), neighbours=True) != pytest.approx(alone, rel=1e-3)


def test_a_table_is_what_the_sampler_interpolates(small, blobs):
    clean = patients_set(blobs(), 3, small())
    rows = table(untrained(), clean, neighbours=True)
    assert [row.sigma for row in rows][0::9] == [0.005, 5.0]
    assert all(row.psnr_db == psnr(row.mse) for row in rows)
    assert psnr(0.04) == 20.0


def test_validation_slices_are_always_the_same_and_detailed_phases_are_others(small, blobs):
    recipe, slices = small("MR"), blobs("MR", slices=9)
    one, again = (patients_set(slices, 4, recipe) for _ in range(2))
    assert torch.equal(one.slices, again.slices)
    detailed = patients_set(slices, 4, recipe, detailed=True)
    assert not torch.equal(one.slices, detailed.slices)
    magnitudes = [s.slices.square().sum(2).sqrt() for s in (one, detailed)]
    assert torch.allclose(*magnitudes, atol=1e-5)


def test_seeds_of_steps_and_streams_differ():
    seeds = {seed_of(s, stream, step) for s in (0, 1) for stream in Stream for step in range(50)}
    assert len(seeds) == 2 * len(Stream) * 50
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_anatomy_is_in_the_unit_of_the_prior_and_validation_is_never_drawn(small, modality):
    anatomy = anatomy_of(small(modality, data={"synthetic": 1.0}), 1.0)
    body = anatomy.body(3)
    assert body.is_complex() == (modality == "MR")
    assert torch.equal(body, anatomy.body(3))
    if modality == "CT":
        assert float(body.min()) >= -1
        assert float(body.max()) <= 1
    clean = anatomy_set(anatomy, 2)
    assert clean.slices.shape == (2, 3, 2 if modality == "MR" else 1, 32, 32)
    drawn = [anatomy.body(number) for number in range(4)]
    middles = torch.stack([b[len(b) // 2] for b in drawn])
    shown = clean.slices[:, 1]
    seen = (
        torch.view_as_complex(shown.movedim(1, -1).contiguous())
        if modality == "MR"
        else shown[:, 0]
    )
    assert not any(torch.equal(a, b) for a in middles for b in seen)


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_are_valid_and_of_the_size_they_say(name):
    assert sorted(RECIPES) == sorted(shipped_recipes())
    recipe = load_recipe(name)
    assert recipe.name == name
    with torch.device("meta"):
        parameters = sum(p.numel() for p in network_of(recipe).parameters())
    if name.endswith("large"):
        assert 10e6 <= parameters <= 15e6
        assert 2 * parameters <= 30e6  # bytes in half precision
    else:
        assert parameters <= 4e6


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ProtocolError, match="did you mean ct-axial-256"):
        load_recipe("ct-axial")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("patches.stages.0.until=0.5", r"--set patches\.stages: 'until' has to grow"),
        ("augment.flip.x=1", r"--set augment\.flip: expected a number, got a block"),
        ("steps=3", r"--set steps: unknown key, did you mean budget\.steps\?"),
        ("schema_version=2", r"--set schema_version: "),
    ],
)
def test_a_wrong_override_of_a_recipe_is_named_instead_of_the_file(override, message):
    with pytest.raises(ProtocolError, match=message):
        load_recipe("tiny", [override])


def test_digits_are_text_where_a_recipe_wants_text():
    assert load_recipe("tiny", ["name=7"]).name == "7"


@pytest.fixture
def discs():
    """Build eight slices of a round phantom with two inserts, 32 x 32 pixels of 8 mm."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    hu = torch.where(x**2 + y**2 < 0.7, 40.0, -1000.0)
    hu = torch.where((x - 0.3) ** 2 + y**2 < 0.05, 500.0, hu)
    hu = torch.where((x + 0.3) ** 2 + y**2 < 0.05, -700.0, hu)
    slices = ((hu + 1000) / 1300 - 1).expand(8, 32, 32).contiguous()
    return Slices([Series("a", slices, 8.0)], correlation=0.9, reach=1)


def test_a_reconstruction_scores_a_prior_beside_total_variation(tmp_path, small, discs):
    settings = Downstream(
        protocol="ct_fan_32",
        slices=2,
        settings=(
            *("acquisition.columns=64", "acquisition.column_spacing_mm=9"),
            "sampler.steps=2",
        ),
    )
    recipe = small()
    judge = Judge(
        recipe, patients_set(discs, 2, recipe), Reconstruction(settings, discs, recipe, "cpu")
    )
    first, again = (judge(EDM(network_of(recipe), 0.45), tmp_path) for _ in range(2))
    assert first == again
    assert first.downstream.tv > 20
    assert math.isfinite(first.downstream.prior)
    assert first.value == first.downstream.prior
    assert first.as_json()["downstream"] == {
        "prior": first.downstream.prior,
        "tv": first.downstream.tv,
    }


def test_a_protocol_without_total_variation_is_refused(small, discs):
    settings = Downstream(
        protocol="ct_fan_32", slices=1, settings=("baselines=[{method: fbp}]", "sampler.start=fbp")
    )
    with pytest.raises(InconsistentError, match="a baseline tv beside it"):
        Reconstruction(settings, discs, small(), "cpu")


def test_a_prior_of_procedural_anatomy_says_so_and_needs_no_file(tmp_path):
    recipe = load_recipe("tiny", ["budget.steps=2", "validation.every_steps=2", "data.size=32"])
    assert [r.step for r in run_recipe(recipe, tmp_path / "prior")] == [1, 2]
    card = load_prior(str(tmp_path / "prior")).card
    assert [source.name for source in card.data] == ["Procedural anatomy of medrecon"]
    assert card.pixel_mm is None
    assert set(card.validation_ood) == {ALONE}
    assert "2 steps of 4096 pixels" in card.training
