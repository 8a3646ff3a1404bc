"""Whole walks through the command line, small: image to measurements to files and back."""

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
import torch

from medrecon import cli
from medrecon.grid import Grid
from medrecon.io.nifti import write_nifti
from medrecon.volume import Unit, Volume
from medrecon.write import percentile

SHAPE, SPACING, CENTER = (6, 32, 32), (4.0, 6.0, 6.0), (11.0, -7.0, 120.0)
CT = """\
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
  rows: 12
  row_spacing_mm: 6
  photons: 1e5
grid:
  shape: [6, 32, 32]
  spacing_mm: [4, 6, 6]
baselines:
  - method: fdk
  - method: cgls
    iterations: 8
output:
  preview:
    low: -1000
    high: 400
"""
MR = """\
schema_version: 1
name: tiny
title: A tiny brain
modality: MR
acquisition:
  kind: cartesian
  pattern: uniform
  acceleration: 2.0
  calibration_lines: 16
  coils: 4
  noise_std: 0.001
baselines:
  - method: zero_filled
  - method: cg_sense
    iterations: 10
output:
  preview:
    low: 0.0
    high: 1.0
"""


@pytest.fixture
def call(capsys):
    def call(*arguments):
        code = cli.invoke([str(a) for a in arguments])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return call


@pytest.fixture
def ellipsoid(tmp_path):
    """A head-like image, off the isocentre and unlike its mirror images."""

    def make(inside, outside):
        grid = Grid.centred(SHAPE, SPACING, CENTER)
        z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
        data = torch.where(x**2 + y**2 / 0.8 + z**2 / 4 < 0.7, inside, outside)
        data = data + torch.where(
            (x - 0.3) ** 2 + (y + 0.2) ** 2 < 0.04, 0.4 * abs(inside) + 50, 0.0
        )
        write_nifti(Volume(data.float(), grid, Unit.HU), tmp_path / "image.nii.gz")
        return tmp_path / "image.nii.gz"

    return make


def hashes(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "run.json"
    }


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_an_image_becomes_measurements_and_a_volume_at_its_place(
    call, ellipsoid, tmp_path, modality
):
    image = ellipsoid(0.0, -1000.0) if modality == "CT" else ellipsoid(800.0, 0.0)
    (tmp_path / "p.yaml").write_text(CT if modality == "CT" else MR)
    scan, out = tmp_path / "scan.h5", tmp_path / "out"

    call("simulate", tmp_path / "p.yaml", image, "-o", scan, "--seed", 3)
    assert "fits tiny" in call("validate", tmp_path / "p.yaml", scan)
    assert json.loads(call("info", scan, "--json"))["type"] == f"{modality} measurements"
    shown = call("run", tmp_path / "p.yaml", scan, "-o", out, "--device", "cpu")

    result = "cgls" if modality == "CT" else "cg_sense"
    assert f"{result}.nii.gz" in shown
    written = nib.load(out / f"{result}.nii.gz")
    given = nib.load(image)
    np.testing.assert_allclose(written.affine, given.affine, atol=2e-3)
    a, b = (np.asarray(v.dataobj, dtype=float).ravel() for v in (written, given))
    assert np.corrcoef(a, b)[0, 1] > 0.9  # mirrored in x or y it is below 0.9
    assert len(list((out / "dicom").glob("*.dcm"))) == SHAPE[0]
    assert (out / "preview.png").read_bytes().startswith(b"\x89PNG")
    same = json.loads(
        call("compare", out / "dicom", out / f"{result}.nii.gz", "--json", "--data-range", "2000")
    )
    assert same["nrmse"] < 1e-2


def test_a_run_records_what_made_it_and_repeats_itself(call, ellipsoid, tmp_path):
    (tmp_path / "p.yaml").write_text(CT)
    scan = tmp_path / "scan.h5"
    call("simulate", tmp_path / "p.yaml", ellipsoid(0.0, -1000.0), "-o", scan)
    for name in ("one", "two"):
        call("run", tmp_path / "p.yaml", scan, "-o", tmp_path / name, "--device", "cpu", "-q")
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")

    record = json.loads((tmp_path / "one" / "run.json").read_text())
    assert record["seed"] == 0
    assert record["protocol"]["name"] == "tiny"
    assert record["input"]["sha256"] == hashlib.sha256(scan.read_bytes()).hexdigest()
    assert record["outputs"]["fdk.nii.gz"] == hashes(tmp_path / "one")["fdk.nii.gz"]
    assert set(record["outputs"]) | {".medrecon-output"} == set(hashes(tmp_path / "one"))


def test_an_earlier_output_is_kept_unless_it_is_said_otherwise(call, ellipsoid, tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(CT)
    scan, out = tmp_path / "scan.h5", tmp_path / "out"
    call("simulate", tmp_path / "p.yaml", ellipsoid(0.0, -1000.0), "-o", scan)
    arguments = ["run", tmp_path / "p.yaml", scan, "-o", out, "-q", "--device", "cpu"]
    call(*arguments)
    before = hashes(out)

    assert cli.invoke([str(a) for a in arguments]) == 6
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert hashes(out) == before
    call(*arguments, "--overwrite", "--set", "output.dicom=false")
    assert not (out / "dicom").exists()


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ("grid.shape=[4,24,24]", "4 x 24 x 24 voxels of 4 x 6 x 6 mm"),
        ("grid.spacing_mm=[4,5,5]", "6 x 32 x 32 voxels of 4 x 5 x 5 mm"),
        ("grid.center_mm=[0,0,3]", "3 mm apart"),
    ],
)
def test_a_result_on_a_grid_of_its_own_is_not_compared_and_says_so(
    call, ellipsoid, tmp_path, grid, says
):
    (tmp_path / "p.yaml").write_text(CT)
    scan, out = tmp_path / "scan.h5", tmp_path / "out"
    call("simulate", tmp_path / "p.yaml", ellipsoid(0.0, -1000.0), "-o", scan)
    arguments = ("run", tmp_path / "p.yaml", scan, "-o", out, "--device", "cpu")
    shown = call(*arguments, "--set", grid)
    assert "cgls.nii.gz" in shown
    record = json.loads((out / "run.json").read_text())
    assert "metrics" not in record
    assert says in record["not_compared"]
    assert f"reference: {record['not_compared']}" in shown

    call(*arguments, "--overwrite", "--set", "grid.shape=[6,32,32]")
    record = json.loads((out / "run.json").read_text())
    assert "not_compared" not in record
    assert set(record["metrics"]) == {"fdk", "cgls"}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (MR, "is for MR"),
        (CT.replace("kind: cone", "kind: fan").replace("  rows: 12\n  row_spacing_mm: 6\n", "")
         .replace("fdk", "fbp"), "is for fan data"),
        (CT.replace("spacing_mm: [4, 6, 6]", "spacing_mm: [4, 60, 60]"),
         "source passes through the volume"),
    ],
)  # fmt: skip
def test_measurements_that_do_not_fit_are_five(call, ellipsoid, tmp_path, capsys, other, reason):
    (tmp_path / "p.yaml").write_text(CT)
    (tmp_path / "other.yaml").write_text(other)
    scan = tmp_path / "scan.h5"
    call("simulate", tmp_path / "p.yaml", ellipsoid(0.0, -1000.0), "-o", scan)
    for command in (["validate"], ["run", "-o", tmp_path / "out", "--device", "cpu"]):
        words = [command[0], tmp_path / "other.yaml", scan, *command[1:]]
        assert cli.invoke([str(w) for w in words]) == 5
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert reason in lines[0]
    assert not (tmp_path / "out").exists()


def test_progress_is_plain_lines_where_there_is_no_terminal(call, ellipsoid, tmp_path):
    (tmp_path / "p.yaml").write_text(CT)
    scan = tmp_path / "scan.h5"
    call("simulate", tmp_path / "p.yaml", ellipsoid(0.0, -1000.0), "-o", scan)
    shown = call("run", tmp_path / "p.yaml", scan, "-o", tmp_path / "out", "--device", "cpu")
    assert "fdk 1/1" in shown
    assert "cgls 8/8" in shown
    assert "\x1b" not in shown
    assert "\r" not in shown


def test_percentile_is_numpys_nearest():
    values = torch.randn(501, generator=torch.Generator().manual_seed(0))
    expected = np.percentile(values.numpy(), 99.5, method="nearest")
    assert percentile(values, 99.5) == pytest.approx(float(expected))
