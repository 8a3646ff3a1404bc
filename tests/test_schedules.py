"""Schedules are found on images, kept in a copy of the prior, and run by name."""

import numpy as np
import pytest
from typer.testing import CliRunner

from medrecon.cli.app import app
from medrecon.errors import ProtocolError, UsageError
from medrecon.io.nifti import write_nifti
from medrecon.priors.weights import load_prior
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import run
from medrecon.schedules import find_schedules
from medrecon.simulate import simulate
from tests.test_reconstruct import CT, _ct_image


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("schedules")
    image = folder / "image.nii.gz"
    write_nifti(_ct_image(), image)
    arguments = [
        "priors", "schedule", "ct-axial-256", "ct_cone_sparse", str(image),
        "--task", "tiny", "--steps", "2,3", "--levels", "3", "--output", str(folder / "prior"),
    ]  # fmt: skip
    for setting in CT:
        arguments += ["--set", setting]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return folder / "prior", result.output


def test_schedules_are_said_and_kept_with_the_prior(made):
    folder, said = made
    prior = load_prior(str(folder))
    assert set(prior.card.schedules["tiny"]) == {2, 3}
    protocol = load_protocol("ct_cone_sparse", CT)
    grid = prior.card.schedules["tiny"][3]  # as many steps as levels: all of them
    ends = [protocol.sampler.sigma_start, protocol.sampler.sigma_end]
    assert np.allclose(grid[::2], ends, rtol=1e-3)
    assert "3 steps: " in said
    assert "sampler.schedule=stored" in said


def test_a_run_takes_the_stored_levels(made):
    folder, _ = made
    settings = [*CT, f"prior.name={folder}", "sampler.schedule=stored"]
    protocol = load_protocol("ct_cone_sparse", settings)
    report = run(simulate(_ct_image(), protocol, seed=1), protocol).report
    steps = report["stages"]["dds"]["steps"]
    assert [s["sigma"] for s in steps] == list(load_prior(str(folder)).card.schedules["tiny"][2])


@pytest.mark.parametrize("steps", ["two", "0", "4", "1,,2", "-1"])
def test_steps_that_are_none_are_refused(made, steps, tmp_path):
    image = made[0].parent / "image.nii.gz"
    arguments = [
        "priors", "schedule", "ct-axial-256", "ct_cone_sparse", str(image),
        "--task", "tiny", "--steps", steps, "--levels", "3", "--output", str(tmp_path / "x"),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, UsageError)
    assert "--steps" in str(result.exception)


def test_a_protocol_without_one_call_per_step_has_no_schedule_to_find():
    protocol = load_protocol("ct_cone_sparse", [*CT, "sampler.denoise=predictor_corrector"])
    with pytest.raises(ProtocolError, match="no schedule to find"):
        next(find_schedules([_ct_image()], protocol, [2]))
