"""CT through the command line: TIFF images, per-view matrices, projectors, and what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from medrecon import cli
from medrecon.errors import InconsistentError
from medrecon.geometry import ConeBeam, FanBeam
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.io.nifti import read_nifti, write_nifti
from medrecon.io.projections import write_projections
from medrecon.io.read import read_study
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import run
from medrecon.simulate import simulate
from medrecon.study import Study
from medrecon.volume import Unit, Volume

CONE = """\
schema_version: 1
name: tiny
title: A tiny C-arm
modality: CT
acquisition:
  kind: vectors
  matrices_file: arm/matrices.txt
  source_to_detector_mm: 900
  columns: 40
  rows: 16
grid:
  shape: [8, 32, 32]
  spacing_mm: [6, 6, 6]
mu_water_per_mm: 0.02
baselines:
  - method: fdk
  - method: sirt
    iterations: 12
output:
  preview: {low: -1000, high: 500}
"""
FAN = """\
schema_version: 1
name: tiny
title: A tiny fan
modality: CT
acquisition:
  kind: fan
  views: 72
  source_to_axis_mm: 600
  source_to_detector_mm: 900
  detector_radius_mm: 900
  columns: 64
  column_spacing_mm: 5
  photons: 1e4
grid:
  shape: [2, 32, 32]
  spacing_mm: [6, 6, 6]
mu_water_per_mm: 0.02
baselines:
  - method: fbp
  - method: cgls
    iterations: 6
"""
VIEWS = 40


@pytest.fixture
def call(capsys):
    """A command line: exit code, stdout, lines of stderr."""

    def call(*arguments):
        code = cli.invoke([str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return call


@pytest.fixture
def arm(tmp_path):
    """A protocol file, and below it the matrices of an orbit that is not quite a circle."""
    angles = equiangular(VIEWS, arc=math.radians(200))
    circle = ConeBeam(
        angles=angles, source_to_axis=600, source_to_detector=900,
        rows=16, columns=40, row_spacing=6.0, column_spacing=9.0,
    )  # fmt: skip
    bent = circle.vectors().translated([(0.0, 2 * math.sin(a), 1.5 * math.cos(a)) for a in angles])
    (tmp_path / "arm").mkdir()
    np.savetxt(tmp_path / "arm" / "matrices.txt", bent.matrices().reshape(-1, 12))
    (tmp_path / "p.yaml").write_text(CONE)
    return tmp_path / "p.yaml"


@pytest.fixture
def image(tmp_path):
    """A head with a dense spot on the left, in front and above; off the isocentre."""
    grid = Grid.centred((16, 64, 64), (3.0, 3.0, 3.0), (5.0, 10.0, 80.0))
    z, y, x = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in grid.shape], indexing="ij")
    data = torch.where(x**2 + y**2 / 0.7 < 0.6, 0.0, -1000.0)
    data[(x - 0.3) ** 2 + (y + 0.2) ** 2 + (z - 0.3) ** 2 < 0.05] = 900.0
    write_nifti(Volume(data, grid, Unit.HU), tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


def spot(path):
    volume = read_nifti(path, unit=Unit.HU)
    index = np.argwhere(volume.data.numpy() > 400).mean(0)
    return (volume.grid.affine @ [*index, 1.0])[:3]


def one_sentence(lines):
    return len(lines) == 1 and lines[0].startswith("medrecon: error: ") and len(lines[0]) < 400


# --- what works ---------------------------------------------------------------------------------


def test_a_c_arm_goes_from_its_matrices_to_the_volume_through_files(call, arm, image, tmp_path):
    scan, out = tmp_path / "scan.h5", tmp_path / "out"
    assert call("simulate", arm, image, "-o", scan)[0] == 0
    code, shown, _ = call("info", scan, "--json", "--plot", tmp_path / "scan.png")
    facts = json.loads(shown)["geometry"]
    assert code == 0
    assert facts["kind"] == "vectors"
    assert facts["views"] == VIEWS
    assert (tmp_path / "scan.png").read_bytes().startswith(b"\x89PNG")
    code, shown, err = call("validate", arm, scan, "--plot", tmp_path / "both.png")
    assert (code, err) == (0, [])
    assert "fits tiny" in shown
    code, _, err = call("run", arm, scan, "-o", out, "--device", "cpu", "-q")
    assert (code, err) == (0, [])
    for method in ("fdk", "sirt"):
        assert np.abs(spot(out / f"{method}.nii.gz") - spot(image)).max() < 3.0
    record = json.loads((out / "run.json").read_text())
    assert record["protocol"]["acquisition"]["matrices_file"] == "matrices.txt"
    assert record["geometry"]["field_of_view_radius_mm"] > 100
    assert record["truncation"]["is_truncated"] is False
    assert str(tmp_path) not in (out / "run.json").read_text()


def test_a_protocols_own_scanner_can_be_drawn(call, arm, tmp_path):
    assert call("validate", arm, "--plot", tmp_path / "p.png")[0] == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = call("validate", arm, "--plot", tmp_path / "p.png")
    assert code == 6
    assert one_sentence(err)
    code, _, err = call("validate", "mr_poisson", "--plot", tmp_path / "q.png")
    assert code == 2
    assert one_sentence(err)


def test_tiff_images_give_the_volume_of_the_scan_they_were_made_of(call, image, tmp_path):
    (tmp_path / "p.yaml").write_text(FAN)
    protocol = load_protocol(tmp_path / "p.yaml")
    scan = tmp_path / "scan.h5"
    assert call("simulate", tmp_path / "p.yaml", image, "-o", scan)[0] == 0
    lines = read_study(scan).measurements.movedim(1, 0)  # (views, rows, columns)
    for name, pages in (
        ("views", 100 + 5e4 * torch.exp(-lines)),
        ("flats", torch.full((3, *lines.shape[1:]), 50100.0)),
        ("darks", torch.full((3, *lines.shape[1:]), 100.0)),
    ):
        (tmp_path / "tiff" / name).mkdir(parents=True)
        for k, page in enumerate(pages):
            tifffile.imwrite(
                tmp_path / "tiff" / name / f"{k}.tif",
                page.numpy().astype(np.float32),
                photometric="minisblack",
            )
    block = "file: {images: views, flats: flats, darks: darks}\n"
    (tmp_path / "tiff.yaml").write_text(FAN + block)
    code, _, err = call(
        "run", tmp_path / "tiff.yaml", tmp_path / "tiff", "-o", tmp_path / "out", "-q",
        "--device", "cpu",
    )  # fmt: skip
    assert (code, err) == (0, [])
    direct = run(read_study(scan), protocol)
    written = read_nifti(tmp_path / "out" / "fbp.nii.gz", unit=Unit.HU)
    assert float((written.data - direct.volumes["fbp"].data).abs().max()) < 3.0

    code, _, err = call(
        "run", tmp_path / "tiff.yaml", tmp_path / "tiff", "-o", tmp_path / "no", "-q",
        "--set", "acquisition.views=70",
    )  # fmt: skip
    assert code == 5
    assert one_sentence(err)
    assert "72" in err[0]
    code, _, err = call(
        "validate", tmp_path / "tiff.yaml", tmp_path / "tiff", "--set", "file.flats=light"
    )
    assert code == 4
    assert "holds no light" in err[0]
    code, _, err = call("validate", tmp_path / "p.yaml", tmp_path / "tiff" / "views")
    assert code == 4
    assert "TIFF" in err[0]


def test_every_iterative_method_finds_the_spot(image, tmp_path):
    (tmp_path / "p.yaml").write_text(FAN)
    methods = "[{method: sirt, iterations: 30}, {method: os_sart, iterations: 4, subsets: 9}, "
    methods += "{method: transmission_ml, iterations: 4, subsets: 9}]"
    protocol = load_protocol(tmp_path / "p.yaml", [f"baselines={methods}"])
    volume = read_nifti(image, unit=Unit.HU)
    study = simulate(volume, protocol, seed=0)
    result = run(study, protocol)
    assert list(result.volumes) == ["sirt", "os_sart", "transmission_ml"]
    truth = np.argwhere(study.reference.numpy() > 200).mean(0)
    for name, each in result.volumes.items():
        found = np.argwhere(each.data.numpy() > 200).mean(0)
        assert np.abs(found - truth).max() < 0.7, name
        assert float((each.data - study.reference).square().mean().sqrt()) < 60, name
    with pytest.raises(InconsistentError, match="needs counts"):
        run(replace(study, weights=None), protocol)


def test_the_projector_can_be_chosen_and_the_report_names_it(call, image, tmp_path):
    pytest.importorskip("astra")
    (tmp_path / "p.yaml").write_text(FAN.replace("  detector_radius_mm: 900\n", ""))
    scan = tmp_path / "scan.h5"
    assert call("simulate", tmp_path / "p.yaml", image, "-o", scan)[0] == 0
    volumes = {}
    for backend in ("native", "matrix", "astra"):
        out = tmp_path / backend
        code, _, err = call(
            "run", tmp_path / "p.yaml", scan, "-o", out, "-q", "--backend", backend,
            "--device", "cpu",
        )  # fmt: skip
        assert (code, err) == (0, [])
        assert json.loads((out / "run.json").read_text())["backend"] == backend
        volumes[backend] = read_nifti(out / "cgls.nii.gz", unit=Unit.HU).data
    assert float((volumes["matrix"] - volumes["native"]).abs().max()) < 1.0
    assert float((volumes["astra"] - volumes["native"]).square().mean().sqrt()) < 40.0
    code, _, err = call("run", tmp_path / "p.yaml", scan, "-o", tmp_path / "x", "--backend", "leap")
    assert code == 2
    assert one_sentence(err)


def test_one_series_of_a_folder_with_several_is_chosen_by_its_number(call, image, tmp_path):
    from medrecon.io.dicom import DerivedSeries, write_dicom_series
    from medrecon.study import Identity

    volume = read_nifti(image, unit=Unit.HU)
    (tmp_path / "both").mkdir()
    for k, description in enumerate(("one", "two")):
        moved = Volume(volume.data[: 4 + k], volume.grid.slab(0, 4 + k), volume.unit)
        series = DerivedSeries(
            modality="CT", description=description, uses_prior=False, derivation="x",
            number=5 + k,
        )  # fmt: skip
        write_dicom_series(
            moved, tmp_path / "both" / description, series=series, identity=Identity()
        )
    code, _, err = call("info", tmp_path / "both")
    assert code == 5
    assert one_sentence(err)
    assert "5" in err[0]
    code, out, err = call("info", tmp_path / "both", "--series", "6", "--json")
    assert code == 0
    assert json.loads(out)["shape"][0] == 5
    assert len(err) == 1  # it is derived: said once
    assert "derived" in err[0]


# --- what is refused ----------------------------------------------------------------------------


def fan_study(**changes):
    """Line integrals of a disc of water, 150 mm wide."""
    fields = dict(
        angles=equiangular(72), source_to_axis=600.0, source_to_detector=900.0, columns=64,
        column_spacing=5.0, detector_radius=900.0,
    )  # fmt: skip
    geometry = FanBeam(**fields)
    angle = (torch.arange(64) - 31.5) * 5.0 / 900
    chord = 2 * (75.0**2 - (600 * torch.sin(angle)) ** 2).clamp_min(0).sqrt()
    lines = (0.02 * chord).expand(2, 72, 64).clone()
    study = Study(measurements=lines, geometry=geometry, grid=None)
    return replace(study, **changes)


def with_geometry(**changes):
    study = fan_study()
    return replace(study, geometry=replace(study.geometry, **changes))


BAD = {
    "counts (69)": (lambda: fan_study(measurements=3e4 * torch.ones(2, 72, 64)), "counts"),
    "HU (69)": (lambda: fan_study(measurements=-1000 * torch.ones(2, 72, 64)), "HU"),
    "lengths in cm (70)": (
        lambda: with_geometry(
            source_to_axis=60.0, source_to_detector=90.0, column_spacing=0.5, detector_radius=90.0
        ),
        "",
    ),
    "water per cm (70)": (lambda: fan_study(mu_water=0.2), "another unit"),
    "degrees (71)": (lambda: with_geometry(angles=tuple(range(0, 360, 5))), "degrees"),
    "detector beside the axis (72)": (lambda: with_geometry(column_offset=170.0), "does not see"),
    "shape (74)": (lambda: fan_study(measurements=torch.ones(2, 70, 64)), "shape"),
    "views (74)": (lambda: with_geometry(angles=equiangular(60)), "shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_scan_that_cannot_be_is_five_and_one_sentence(call, tmp_path, case):
    make, reason = BAD[case]
    (tmp_path / "p.yaml").write_text(FAN)
    write_projections(tmp_path / "scan.h5", make())
    for command in (["validate"], ["run", "-o", tmp_path / "out", "--device", "cpu", "-q"]):
        code, _, err = call(command[0], tmp_path / "p.yaml", tmp_path / "scan.h5", *command[1:])
        assert code == 5, (case, err)
        assert one_sentence(err), err
        assert reason in err[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("grid.center_mm=[400, 0, 0]", "outside the field of view"),
        ("grid.spacing_mm=[6, 60, 60]", "source passes through"),
    ],
)
def test_a_grid_that_is_not_seen_is_five_with_the_numbers(call, tmp_path, setting, reason):
    (tmp_path / "p.yaml").write_text(FAN)
    write_projections(tmp_path / "scan.h5", fan_study())
    code, _, err = call("validate", tmp_path / "p.yaml", tmp_path / "scan.h5", "--set", setting)
    assert code == 5
    assert one_sentence(err)
    assert reason in err[0]
    assert "mm" in err[0]


def test_truncated_projections_are_reconstructed_with_a_warning_and_a_flag(call, tmp_path):
    (tmp_path / "p.yaml").write_text(FAN)
    study = fan_study()
    narrow = replace(
        study,
        geometry=replace(study.geometry, columns=32),
        measurements=study.measurements[..., 16:48],
    )
    write_projections(tmp_path / "scan.h5", narrow)
    _, shown, _ = call("info", tmp_path / "scan.h5")
    assert "wider than the field of view" in shown
    code, _, err = call(
        "run", tmp_path / "p.yaml", tmp_path / "scan.h5", "-o", tmp_path / "out", "-q",
        "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    assert len(err) == 1
    assert err[0].startswith("medrecon: warning: The object is wider than the field of view")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["truncation"]["is_truncated"] is True


def test_an_mr_image_under_a_ct_protocol_is_five(call, tmp_path):
    from medrecon.io.dicom import DerivedSeries, write_dicom_series
    from medrecon.study import Identity

    (tmp_path / "p.yaml").write_text(FAN)
    grid = Grid.centred((4, 16, 16), (3.0, 3.0, 3.0))
    series = DerivedSeries(modality="MR", description="x", uses_prior=False, derivation="x")
    volume = Volume(torch.rand(4, 16, 16) * 500, grid, Unit.ARBITRARY)
    write_dicom_series(volume, tmp_path / "mr", series=series, identity=Identity())
    code, _, err = call("simulate", tmp_path / "p.yaml", tmp_path / "mr", "-o", tmp_path / "s.h5")
    assert code == 5
    assert "HU" in err[-1]
    code, _, err = call("run", tmp_path / "p.yaml", tmp_path / "mr", "-o", tmp_path / "out")
    assert code == 4
    assert one_sentence(err)


def test_matrices_that_are_not_there_or_no_matrices_are_four_and_name_the_file(call, arm):
    (arm.parent / "arm" / "matrices.txt").write_text("1 2 3\n")
    code, _, err = call("validate", arm, "--plot", arm.parent / "p.png")
    assert code == 4
    assert one_sentence(err)
    assert "matrices.txt" in err[0]
    (arm.parent / "arm" / "matrices.txt").unlink()
    code, _, err = call("validate", arm, "--plot", arm.parent / "p.png")
    assert code == 4
    assert one_sentence(err)
