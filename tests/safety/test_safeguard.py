"""Whole runs on images that the prior has never seen the like of."""

import json
from functools import cache

import pytest
import torch
from typer.testing import CliRunner

from medrecon.cli.app import app
from medrecon.grid import Grid
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import run
from medrecon.safety.last_line import last_lines
from medrecon.simulate import simulate, write_study
from medrecon.volume import Unit, Volume

SIZE, PIXEL = 96, 2.0
FAN = [
    f"grid.shape=[1, {SIZE}, {SIZE}]",
    f"grid.spacing_mm=[2.5, {PIXEL}, {PIXEL}]",
    "mu_water_per_mm=0.0193",
    "acquisition.arc_deg=360.0",
    "acquisition.views=24",
    "acquisition.columns=144",
    "acquisition.column_spacing_mm=3.0",
    "acquisition.source_to_axis_mm=1000.0",
    "acquisition.source_to_detector_mm=1500.0",
    "acquisition.photons=1.0e+5",
    "baselines=[{method: tv, iterations: 50, weight: 15.0}]",
    "sampler.steps=6",
]
ALWAYS = "sampler.safety={held_out: always, steps: 6}"


def _axes():
    half = (SIZE - 1) / 2 * PIXEL
    return torch.meshgrid(*[torch.linspace(-half, half, SIZE)] * 2, indexing="ij")


def _body():
    y, x = _axes()
    body = torch.where((x / 85) ** 2 + (y / 65) ** 2 < 1, 30.0, -1000.0)
    for a, b, r, hu in (
        (-40, -5, 25, -800),
        (40, -5, 25, -800),
        (0, 45, 11, 700),
        (5, -20, 14, 60),
    ):
        body[(x - a) ** 2 + (y - b) ** 2 < r**2] = hu
    return body


def _lesion():
    y, x = _axes()
    return (x - 2) ** 2 + (y - 10) ** 2 < 6.5**2


def _checkerboard():
    y, x = _axes()
    board = torch.where(((x // 12) + (y // 12)) % 2 == 0, 300.0, -300.0)
    return torch.where(_body() > -999, board, -1000.0)


def _metal():
    y, x = _axes()
    image = _body()
    for a, b in ((20, 35), (-15, -30)):
        image[(x - a) ** 2 + (y - b) ** 2 < 5**2] = 1600.0
    return image


def _discs():
    y, x = _axes()
    image = torch.where(x**2 + y**2 < 80**2, 0.0, -1000.0)
    for a, b, r, hu in ((40, 0, 15, 300), (-40, 20, 12, 900), (0, -40, 18, -200)):
        image[(x - a) ** 2 + (y - b) ** 2 < r**2] = hu
    return image


def _with_lesion():
    return torch.where(_lesion(), 130.0, _body())


IMAGES = {
    "body": _body,
    "checkerboard": _checkerboard,
    "metal": _metal,
    "discs": _discs,
    "lesion": _with_lesion,
}


@cache
def _study(name):
    image = IMAGES[name]()[None]
    grid = Grid.centred(image.shape, (2.5, PIXEL, PIXEL))
    protocol = load_protocol("ct_fan_limited_angle", FAN)
    return simulate(Volume(image, grid, Unit.HU), protocol, seed=1)


@cache
def _run(name, *settings):
    return run(_study(name), load_protocol("ct_fan_limited_angle", [*FAN, *settings]), seed=0)


@pytest.mark.parametrize("name", list(IMAGES))
def test_no_image_is_lost_by_more_than_a_fifth_of_a_decibel_without_a_word(name):
    report = _run(name, ALWAYS).report
    psnr = {method: values["psnr"] for method, values in report["metrics"].items()}
    safety = report["safety"]
    assert psnr["dds"] > psnr["tv"] - 0.2 or not safety["fits"]
    assert safety["held_out"]["groups"] == 3
    assert safety["verdict"].startswith("on 3 held-out views of 24 the prior is")


def test_what_is_reported_only_stays_as_the_sampler_made_it():
    plain = _run("checkerboard", "sampler.safety={held_out: never}")
    told = _run("checkerboard", "sampler.safety={held_out: always, action: report, steps: 6}")
    leaning = _run("checkerboard", ALWAYS)
    assert torch.equal(plain.volume.data, told.volume.data)
    assert told.report["safety"]["share"] == 1
    share = leaning.report["safety"]["share"]
    tv = leaning.volumes["tv"].data
    blend = tv + share * (plain.volume.data - tv)
    assert torch.allclose(leaning.volume.data, blend, atol=0.1)


def test_without_settings_nothing_is_changed_and_a_line_is_said_all_the_same():
    without = _run("body", "sampler.safety=null")
    looked = _run("body", "sampler.safety={held_out: never}")
    assert torch.equal(without.volume.data, looked.volume.data)
    assert without.report["safety"]["held_out"] is None
    assert "not compared with total variation" in without.report["safety"]["verdict"]


def _contrast(volume):
    """Of the lesion's place against the ring around it, HU."""
    y, x = _axes()
    ring = (x - 2) ** 2 + (y - 10) ** 2
    inner = _lesion() & (ring < 4.5**2)
    around = (ring > 8.5**2) & (ring < 12.5**2) & (_body() == 30.0)
    return float(volume.data[0][inner].mean() - volume.data[0][around].mean())


def test_a_lesion_is_kept_and_none_is_invented():
    with_, without = (_run(name, ALWAYS) for name in ("lesion", "body"))
    assert 0.75 < _contrast(with_.volumes["dds"]) / 100 < 1.25
    assert abs(_contrast(without.volumes["dds"])) < 15


def test_a_prior_that_learns_from_the_scan_does_not_lose_to_total_variation():
    learning = "adaptation: {levels: 2, iterations: 2}"
    learning = f"sampler.safety={{held_out: always, action: adapt, steps: 6, {learning}}}"
    report = _run("discs", learning).report
    metrics = report["metrics"]
    assert metrics["dds"]["psnr"] > metrics["tv"]["psnr"] - 0.2 or not report["safety"]["fits"]
    assert isinstance(report["safety"]["held_out"]["adapted"], bool)


def test_the_last_line_of_a_run_is_the_verdict(tmp_path):
    write_study(tmp_path / "scan.h5", _study("body"))
    arguments = ["run", "ct_fan_limited_angle", str(tmp_path / "scan.h5"), "-o", "out", "--quiet"]
    settings = [word for each in [*FAN, "sampler.steps=1"] for word in ("--set", each)]
    arguments[arguments.index("out")] = str(tmp_path / "out")
    done = CliRunner().invoke(app, [*arguments, *settings, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    verdict = json.loads((tmp_path / "out" / "run.json").read_text())["safety"]["verdict"]
    assert done.output.rstrip().splitlines()[-1] == f"safety: {verdict}"
    assert last_lines(tmp_path / "out") == [f"safety: {verdict}"]


def test_a_run_without_a_prior_has_no_verdict(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"safety": None}))
    assert last_lines(tmp_path) == []
