"""Magnitude, phase and complex images, and files with several images, from end to end."""

import json
import shutil
import subprocess
from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch

from medrecon import cli
from medrecon.errors import InconsistentError
from medrecon.grid import Grid
from medrecon.io.dicom import DerivedSeries, write_dicom_series
from medrecon.io.ismrmrd import write_ismrmrd
from medrecon.io.nifti import read_nifti, write_complex_nifti, write_nifti
from medrecon.io.read import read_image, read_studies
from medrecon.measurements import choose
from medrecon.protocol_files import load_protocol
from medrecon.simulate import simulate
from medrecon.study import Identity
from medrecon.volume import Unit, Volume

GRID = Grid.centred((2, 40, 36), (5.0, 4.0, 4.0), (10.0, -20.0, 30.0))
SETTINGS = [
    "acquisition.pattern=uniform",
    "acquisition.acceleration=2.0",
    "acquisition.calibration_lines=16",
    "acquisition.coils=4",
    "prior=null",
    "sampler=null",
    "baselines=[{method: rss}, {method: cg_sense, iterations: 12}]",
]


def head(brightness: float = 800.0) -> Volume:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 40), torch.linspace(-1, 1, 36), indexing="ij")
    image = torch.where(x**2 + (1.2 * y) ** 2 < 0.7, brightness, 0.0)
    image[(x - 0.2) ** 2 + y**2 < 0.05] = 0.4 * brightness
    return Volume(image.expand(2, 40, 36).clone(), GRID, Unit.ARBITRARY)


@pytest.fixture(scope="module")
def protocol():
    return load_protocol("mr_cartesian_r4", SETTINGS)


@pytest.fixture
def scan(tmp_path, protocol):
    write_ismrmrd(tmp_path / "scan.h5", simulate(head(), protocol, seed=1))
    return tmp_path / "scan.h5"


@pytest.fixture
def series(tmp_path, protocol):
    """Two contrasts of one object, in one file."""
    studies = [
        replace(simulate(head(b), protocol, seed=1), label=f"contrast-{i}", reference=None)
        for i, b in ((1, 800.0), (2, 500.0))
    ]
    write_ismrmrd(tmp_path / "series.h5", studies)
    return tmp_path / "series.h5"


@pytest.fixture
def run(capsys):
    def call(scan, out, *more):
        words = ["run", "mr_cartesian_r4", scan, "-o", out, "--device", "cpu", "-q", *more]
        for setting in SETTINGS:
            words += ["--set", setting]
        code = cli.invoke([str(w) for w in words])
        return code, capsys.readouterr()

    return call


# --- the parts of a complex image ---------------------------------------------------------------


def test_a_complex_image_is_its_magnitude_and_its_phase():
    image = torch.randn(2, 3, 4, dtype=torch.complex64)
    grid = Grid.centred((2, 3, 4), (1.0, 1.0, 1.0))
    volume = Volume.of(image, grid, Unit.ARBITRARY)
    assert torch.allclose(volume.complex, image, atol=1e-6)
    assert Volume.of(image.real, grid, Unit.ARBITRARY).phase is None
    with pytest.raises(InconsistentError, match="phase has shape"):
        Volume(image.abs(), grid, Unit.ARBITRARY, image.angle()[:1])


def test_complex_nifti_holds_what_was_given(tmp_path):
    image = torch.randn(*GRID.shape, dtype=torch.complex64)
    write_complex_nifti(Volume.of(image, GRID, Unit.ARBITRARY), tmp_path / "c.nii.gz")
    write_nifti(Volume.of(image, GRID, Unit.ARBITRARY), tmp_path / "m.nii.gz")
    stored = nib.load(tmp_path / "c.nii.gz")
    assert stored.get_data_dtype() == np.complex64
    np.testing.assert_allclose(
        np.asarray(stored.dataobj).transpose(2, 1, 0), image.numpy(), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(stored.affine, nib.load(tmp_path / "m.nii.gz").affine)
    assert torch.allclose(read_nifti(tmp_path / "m.nii.gz").data, image.abs())


def test_all_parts_are_written_and_say_their_unit(run, scan, tmp_path):
    out = tmp_path / "out"
    code, said = run(scan, out, "--set", "output.parts=[magnitude, phase, complex]")
    assert code == 0, said.err
    names = {p.name for p in out.glob("*.nii.gz")}
    assert names == {
        "rss.nii.gz",  # real: it has no phase
        "cg_sense.nii.gz",
        "cg_sense_phase.nii.gz",
        "cg_sense_complex.nii.gz",
    }
    record = json.loads((out / "run.json").read_text())
    assert record["parts"] == {
        "rss": {"magnitude": "arbitrary"},
        "cg_sense": {"magnitude": "arbitrary", "phase": "rad", "complex": "arbitrary"},
    }
    magnitude, phase, both = (
        np.asarray(nib.load(out / f"cg_sense{end}.nii.gz").dataobj)
        for end in ("", "_phase", "_complex")
    )
    np.testing.assert_allclose(magnitude * np.exp(1j * phase), both, atol=1e-3 * magnitude.max())
    assert record["metrics"]["cg_sense"]["complex_nrmse"] < 0.2
    assert "complex_nrmse" not in record["metrics"]["rss"]


def test_a_phase_series_holds_radians_for_every_reader(run, scan, tmp_path):
    out = tmp_path / "out"
    assert run(scan, out, "--set", "output.parts=[magnitude, phase]")[0] == 0
    phase = np.asarray(nib.load(out / "cg_sense_phase.nii.gz").dataobj).transpose(2, 1, 0)
    magnitude, p = (
        [pydicom.dcmread(f) for f in sorted((out / home).glob("*.dcm"))]
        for home in ("dicom", "dicom_phase")
    )
    assert [ds.ImageType[2] for ds in (magnitude[0], p[0])] == ["M", "P"]
    for z, ds in enumerate(p):
        stored = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        np.testing.assert_allclose(stored, phase[z], atol=1e-4)
        mapping = ds.RealWorldValueMappingSequence[0]
        assert mapping.RealWorldValueSlope == pytest.approx(float(ds.RescaleSlope), rel=1e-6)
        assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "rad"
    assert magnitude[0].StudyInstanceUID == p[0].StudyInstanceUID
    assert magnitude[0].FrameOfReferenceUID == p[0].FrameOfReferenceUID
    assert magnitude[0].SeriesInstanceUID != p[0].SeriesInstanceUID
    assert magnitude[0].SeriesNumber != p[0].SeriesNumber
    with pytest.warns(UserWarning, match="derived"):
        again = read_image(out / "dicom_phase")[0]
    assert float((again.data - torch.from_numpy(phase.copy())).abs().max()) < 1e-4


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_dcm2niix_reads_the_phase_in_radians(tmp_path):
    phase = torch.linspace(-3.1, 3.1, 2 * 40 * 36).reshape(GRID.shape)
    volume = Volume(phase, GRID, Unit.RADIAN)
    series = DerivedSeries(modality="MR", description="phase", uses_prior=False)
    write_dicom_series(volume, tmp_path / "d", series=series, identity=Identity())
    (tmp_path / "o").mkdir()
    command = ["dcm2niix", "-o", str(tmp_path / "o"), "-f", "x", "-b", "n", str(tmp_path / "d")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    image = nib.load(next((tmp_path / "o").glob("*.nii")))
    write_nifti(volume, tmp_path / "ours.nii")
    ours = nib.load(tmp_path / "ours.nii")
    # the converter turns rows round: look at world positions
    index = np.indices(ours.shape).reshape(3, -1)
    world = ours.affine @ np.vstack([index, np.ones(index.shape[1])])
    found = np.rint((np.linalg.inv(image.affine) @ world)[:3]).astype(int)
    there = np.asarray(image.dataobj)[tuple(found)]
    np.testing.assert_allclose(there, np.asarray(ours.dataobj)[tuple(index)], atol=1e-4)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_a_phase_series_is_to_the_letter_of_dicom(tmp_path):
    volume = Volume(torch.zeros(GRID.shape), GRID, Unit.RADIAN)
    series = DerivedSeries(modality="MR", description="phase", uses_prior=False)
    path = write_dicom_series(volume, tmp_path / "d", series=series, identity=Identity())[0]
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error")]
    assert not errors, errors


def test_a_ct_protocol_cannot_ask_for_a_phase():
    with pytest.raises(ValueError, match=r"output.parts: CT images are real"):
        load_protocol("ct_cone_sparse", ["output.parts=[phase]"])


# --- files with several images ------------------------------------------------------------------


def test_every_image_gets_its_folder_and_its_series(run, series, tmp_path):
    out = tmp_path / "out"
    code, said = run(series, out)
    assert code == 0, said.err
    assert {p.name for p in out.iterdir()} == {".medrecon-output", "contrast-1", "contrast-2"}
    first, second = (
        pydicom.dcmread(next((out / f"contrast-{i}" / "dicom").glob("*.dcm"))) for i in (1, 2)
    )
    for shared in ("StudyInstanceUID", "FrameOfReferenceUID"):
        assert first[shared].value == second[shared].value
    for own in ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription"):
        assert first[own].value != second[own].value
    assert second.SeriesDescription.startswith("contrast-2")
    records = [json.loads((out / f"contrast-{i}" / "run.json").read_text()) for i in (1, 2)]
    assert [r["input"]["image"] for r in records] == ["contrast-1", "contrast-2"]
    means = [
        float(np.asarray(nib.load(out / f"contrast-{i}" / "cg_sense.nii.gz").dataobj).mean())
        for i in (1, 2)
    ]
    assert means[1] / means[0] == pytest.approx(500 / 800, rel=0.02)


def test_one_image_may_be_chosen_and_is_the_same_as_among_all(run, series, tmp_path):
    assert run(series, tmp_path / "all")[0] == 0
    assert run(series, tmp_path / "one", "--image", "contrast-2")[0] == 0
    one, among = (
        tmp_path / "one" / "cg_sense.nii.gz",
        tmp_path / "all" / "contrast-2" / "cg_sense.nii.gz",
    )
    assert one.read_bytes() == among.read_bytes()
    dicom = [next((p / "dicom").glob("*.dcm")).read_bytes() for p in (one.parent, among.parent)]
    assert dicom[0] == dicom[1]


def test_a_label_that_is_not_there_names_those_that_are(run, series, tmp_path):
    code, said = run(series, tmp_path / "out", "--image", "contrast-3")
    assert code == 5
    assert "contrast-1, contrast-2" in said.err
    assert not (tmp_path / "out").exists()


def test_choosing_keeps_the_numbers_of_the_file(series):
    studies = read_studies(series)
    assert list(choose(studies, ["contrast-2"], series)) == [1]
    assert list(choose(studies, [], series)) == [0, 1]
