"""Scans come from another discretisation, and mean what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medrecon.benchmark.case import Case, change
from medrecon.benchmark.images import middle
from medrecon.benchmark.measured import measure
from medrecon.benchmark.phantoms import catphan, head
from medrecon.benchmark.scan import Scan
from medrecon.errors import UnreadableError
from medrecon.geometry.kspace import kspace_to_image
from medrecon.operators.ct import projector
from medrecon.units import hu_to_per_mm
from medrecon.volume import Unit
from tests.benchmark.small import blob, case


def classical(kind, slices=2, **scan):
    return case(kind, slices=slices, **scan).load(slices, ("prior=null", "sampler=null"))


@pytest.mark.parametrize("kind", ["fan", "cone"])
def test_exact_rays_are_close_to_the_operator_that_reconstructs_but_are_not_its_own(kind):
    protocol = classical(kind, slices=4, photons=None)
    study = measure(blob(), protocol, slices=4, seed=0)
    mu = hu_to_per_mm(study.reference, protocol.mu_water_per_mm)
    modelled = projector(study.grid, study.geometry)(mu)
    error = (study.measurements - modelled).norm() / study.measurements.norm()
    assert 1e-4 < float(error) < 0.02


@pytest.mark.parametrize("kind", ["fan", "cone"])
def test_the_truth_explains_the_counts_to_their_noise(kind):
    protocol = classical(kind, slices=4, photons=300.0)
    study = measure(blob(), protocol, slices=4, seed=1)
    problem = Scan(study, protocol, "cpu").problem()
    low, high = -1000.0, 1600.0
    truth = (study.reference - (high + low) / 2) / ((high - low) / 2)
    assert problem.data.misfit(truth) == pytest.approx(1.0, abs=0.1)


def brain(pattern="uniform", acceleration=1.0, noise=0.0, shape=(3, 40, 41)):
    made = Case(
        name="small",
        suite="mr-cartesian",
        subject="brain",
        protocol="mr_cartesian_r4",
        changes=(
            change("acquisition.pattern", pattern),
            change("acquisition.acceleration", acceleration),
            change("acquisition.calibration_lines", 8),
            change("acquisition.noise_std", noise),
        ),
    )
    image = blob(Unit.ARBITRARY, shape, (5.0, 1.0, 1.0))
    return image, made.load(shape[0], ("prior=null", "sampler=null"))


def centre_of_mass(data, grid):
    weights = data.double() / data.double().sum()
    axes = (torch.arange(n, dtype=torch.float64) for n in data.shape)
    index = [float((weights * i).sum()) for i in torch.meshgrid(*axes, indexing="ij")]
    return (grid.affine @ [*index, 1.0])[:3]


def test_coil_images_of_complete_data_are_the_truth_times_sensitivities_of_unit_length():
    image, protocol = brain()
    study = measure(image, protocol, slices=3, seed=0)
    images = kspace_to_image(study.measurements, (-2, -1))
    rss = images.abs().square().sum(1).sqrt()
    assert float((rss - study.reference).norm() / study.reference.norm()) < 0.02


def test_fewer_pixels_show_the_same_brain_at_the_same_place():
    image, protocol = brain()
    study = measure(image, protocol, slices=3, seed=0)
    assert study.reference.shape == (3, 36, 36)
    before = centre_of_mass(image.data, image.grid)
    after = centre_of_mass(study.reference, study.grid)
    assert np.abs(before - after).max() < 0.05
    assert float(study.reference.max()) == pytest.approx(float(image.data.max()), rel=0.02)


def test_noise_has_the_deviation_that_the_study_tells():
    image, protocol = brain(noise=0.05)
    _, silent = brain()
    noisy = measure(image, protocol, slices=3, seed=3)
    clean = measure(image, silent, slices=3, seed=3)
    noise = noisy.measurements - clean.measurements
    assert float(noise.abs().square().mean().sqrt()) == pytest.approx(noisy.noise_std, rel=0.05)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_is_a_scan(seed):
    image, protocol = brain("random", 3.0, 0.01)
    one, two = (measure(image, protocol, slices=2, seed=s) for s in (0, seed))
    assert torch.equal(one.measurements, two.measurements) == (seed == 0)


def test_middle_slices_stay_where_they_were():
    image = blob()
    part = middle(image, 2)
    assert torch.equal(part.data, image.data[2:4])
    assert part.grid.center == pytest.approx(image.grid.center)


def test_the_head_has_bone_around_brain_around_fluid():
    volume = head(5, (2.5, 2.0, 2.0))
    z, y, x = (n // 2 for n in volume.grid.shape)
    line = volume.data[z, y]
    assert float(line[0]) == -1000
    assert float(line.max()) > 700
    assert 0 < float(volume.data[z, y - 14, x - 20]) < 60


def test_a_catphan_that_is_not_installed_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnreadableError, match=r"pylinac 1\.1\.1.*--image"):
        catphan()


def test_radial_scans_take_the_middle_slices():
    protocol = Case(
        name="r", suite="mr-radial", subject="brain", protocol="mr_radial",
        changes=("acquisition.spokes=7", "acquisition.coils=2"),
    ).load(2, ("prior=null", "sampler=null"))  # fmt: skip
    image = replace(blob(Unit.ARBITRARY, (4, 16, 16), (5.0, 1.0, 1.0)))
    study = measure(image, protocol, slices=2, seed=0)
    assert study.geometry.shots == 7
    assert torch.equal(study.reference, image.data[1:3])
