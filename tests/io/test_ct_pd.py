"""DICOM-CT-PD: every ray is where the format's frame says, whoever lies how on the table."""

import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from medrecon.analytic import analytic
from medrecon.errors import InconsistentError, ResourceError, UnreadableError
from medrecon.geometry import ConeBeam
from medrecon.grid import Grid
from medrecon.info import describe, look
from medrecon.io.ct_pd import is_ct_pd, read_ct_pd
from medrecon.io.read import read_image, read_study
from medrecon.measurements import read_measurements
from medrecon.protocol_files import load_protocol
from medrecon.study import Study
from tests.io.ct_pd_files import FFS_XYZ, PATIENT, PdScan, density, private, through, write_scan
from tests.io.test_damaged import damaged_often

SMALL = PdScan(views=12, rows=2, columns=6, column_spacing=30.0, central=(3.4, 1.75))
HALF_UNIT = 6.1036087586e-5 / 2 + 2e-6


def rays_of(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Focal spots and cells ``(views, rows, columns, 3)`` by our geometry, LPS of the patient."""
    geometry = study.geometry
    assert isinstance(geometry, ConeBeam)
    rows, columns = np.mgrid[: geometry.rows, : geometry.columns]
    frames = geometry.frames()
    assert frames.source is not None
    cells = frames.cells(rows, columns)
    return np.broadcast_to(frames.source[:, None, None], cells.shape), cells


def assert_sees_the_object_where_it_is(study: Study) -> None:
    """Every measurement is the integral along the ray of our geometry, to the rounding."""
    starts, ends = rays_of(study)
    expected = through(starts, ends, shift=study.isocenter)
    np.testing.assert_allclose(study.measurements, expected, atol=HALF_UNIT)


@pytest.mark.parametrize("position", PATIENT)
def test_helix_is_read_to_the_rounding_however_the_patient_lies(tmp_path: Path, position: str):
    scan = PdScan(position=position)
    study = read_ct_pd(write_scan(tmp_path / "s", scan))
    assert study.measurements.shape == (60, 6, 40)
    assert_sees_the_object_where_it_is(study)
    assert float(study.measurements.std()) > 0.1, "the object is seen"


@pytest.mark.parametrize("shape", ["CYLINDRICAL", "FLAT"])
@pytest.mark.parametrize("turning", [1.0, -1.0])
def test_detectors_of_both_shapes_turn_both_ways(tmp_path: Path, shape: str, turning: float):
    scan = PdScan(shape=shape, turning=turning, feed=-20.0, z_start=60.0, position="HFS")
    study = read_ct_pd(write_scan(tmp_path / "s", scan))
    assert_sees_the_object_where_it_is(study)
    assert isinstance(study.geometry, ConeBeam)
    assert math.isfinite(study.geometry.detector_radius) == (shape == "CYLINDRICAL")


@pytest.mark.parametrize(
    ("mode", "shifts"),
    [
        ("FFSZ", [(0.0, 0.7, 0.2), (0.0, -0.7, -0.2)]),
        ("FFSXY", [(0.002, 0.0, 0.0), (-0.002, 0.0, 0.0)]),
        ("FFSXYZ", FFS_XYZ),
    ],
)
@pytest.mark.parametrize("position", ["HFS", "FFS"])
def test_flying_focal_spot_is_where_the_format_says(
    tmp_path: Path, mode: str, shifts: Any, position: str
):
    scan = PdScan(mode=mode, shifts=tuple(shifts), position=position)
    study = read_ct_pd(write_scan(tmp_path / "s", scan))
    assert_sees_the_object_where_it_is(study)
    starts, ends = rays_of(study)
    for v in (0, 1, 2, 3, 59):
        source, cells = scan.ends(v)
        np.testing.assert_allclose(
            starts[v, 0, 0] + np.array(study.isocenter), source, atol=1e-4, rtol=0
        )
        corners = np.sort(cells.reshape(-1, 3), axis=0)
        ours = np.sort((ends[v] + np.array(study.isocenter)).reshape(-1, 3), axis=0)
        np.testing.assert_allclose(ours, corners, atol=1e-4, rtol=0)


def test_the_deflection_is_felt(tmp_path: Path):
    scan = PdScan(mode="FFSXYZ", shifts=tuple(FFS_XYZ))
    study = read_ct_pd(write_scan(tmp_path / "s", scan))
    assert isinstance(study.geometry, ConeBeam)
    still = replace(study, geometry=replace(study.geometry, focal_shifts=()))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_sees_the_object_where_it_is(still)


def test_a_helix_with_flying_spot_is_reconstructed_where_the_object_is(tmp_path: Path):
    scan = PdScan(
        views=420,
        per_turn=120,
        rows=16,
        columns=64,
        row_spacing=5.0,
        column_spacing=7.0,
        central=(33.125, 8.25),
        z_start=-85.0,
        feed=32.0,
        mode="FFSXYZ",
        shifts=tuple(FFS_XYZ),
    )
    study = read_ct_pd(write_scan(tmp_path / "s", scan))
    place = np.array(study.isocenter)
    grid = Grid.centred((12, 40, 40), (4.0, 4.0, 4.0), (0.0, 0.0, 30.0 - place[2]))
    assert isinstance(study.geometry, ConeBeam)
    volume = analytic(study.measurements, study.geometry, grid).numpy()[2:-2]
    z, y, x = np.mgrid[2:10, :40, :40]
    points = 4.0 * np.stack([x, y, z], -1) + np.array(grid.origin) + place
    truth = density(points)
    assert np.abs(volume - truth).max() < 0.12 * truth.max()
    right = np.corrcoef(volume.ravel(), truth.ravel())[0, 1]
    assert right > 0.998
    for axis in range(3):
        assert np.corrcoef(np.flip(volume, axis).ravel(), truth.ravel())[0, 1] < 0.98


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("direct", [False, True])
def test_storage_does_not_matter(tmp_path: Path, explicit: bool, direct: bool):
    study = read_ct_pd(write_scan(tmp_path / "s", explicit=explicit, direct=direct))
    assert_sees_the_object_where_it_is(study)


def test_what_the_scanner_says_of_itself_is_kept(tmp_path: Path):
    study = read_ct_pd(write_scan(tmp_path / "s"))
    assert study.mu_water == 0.0192
    assert study.identity.attributes["PatientID"] == "7"
    assert study.identity.attributes["KVP"] == "100"
    assert study.identity.frame_of_reference_uid == "1.2.3.4"
    geometry = study.geometry
    assert isinstance(geometry, ConeBeam)
    assert geometry.source_to_axis == 595.0
    assert geometry.source_to_detector == geometry.detector_radius == np.float32(1085.6)
    assert geometry.column_spacing == 6.0
    # 20 mm a turn of 24 views, told from the middle of the scan; feet first, so it falls
    assert np.diff(geometry.heights) == pytest.approx(-20 / 24, abs=1e-5)
    assert geometry.heights[0] == pytest.approx(-geometry.heights[-1], abs=1e-6)
    assert study.isocenter[2] == pytest.approx(-(-12 + 20 * 59 / 24 / 2), abs=1e-5)
    assert np.diff(geometry.angles) == pytest.approx(2 * np.pi / 24, abs=1e-6)
    # the foot of the central ray is column 21.125 of the file, counted from 1 and from the left
    column = geometry.frames().c0[0]
    assert column == pytest.approx(39 - (21.125 - 1))


def test_weights_are_the_quanta_behind_the_object(tmp_path: Path):
    study = read_ct_pd(write_scan(tmp_path / "s", replace(SMALL, position="FFS")))
    assert study.weights is not None
    v = np.arange(12)[:, None, None]
    incident = 1000.0 * (v + 1) + np.arange(6)[::-1]  # feet first: columns are turned round
    np.testing.assert_allclose(
        study.weights, incident * np.exp(-study.measurements.numpy()), rtol=1e-5
    )


def test_older_files_say_water_elsewhere_and_may_lack_the_quanta(tmp_path: Path):
    def edit(ds: Any, v: int) -> None:
        del ds[0x70411001]
        del ds[0x70331065]
        ds.add_new(0x00180061, "DS", "0.0205")

    study = read_ct_pd(write_scan(tmp_path / "s", SMALL, edit))
    assert study.mu_water == 0.0205
    assert study.weights is None


def test_one_makers_z_runs_against_the_manual(tmp_path: Path):
    scan = PdScan(maker="GE MEDICAL SYSTEMS")
    study = read_ct_pd(write_scan(tmp_path / "s", scan))
    assert_sees_the_object_where_it_is(study)
    scan = replace(SMALL, maker="GE MEDICAL SYSTEMS", position="HFS")
    with pytest.warns(UserWarning, match="feet first supine only"):
        read_ct_pd(write_scan(tmp_path / "h", scan))


def test_an_unknown_pose_is_assumed_and_said_and_an_odd_one_refused(tmp_path: Path):
    path = write_scan(tmp_path / "s", replace(SMALL, position="HFS"), lambda ds, v: blank(ds))
    with pytest.warns(UserWarning, match="head first supine is assumed"):
        assert_sees_the_object_where_it_is(read_ct_pd(path))
    path = write_scan(tmp_path / "d", SMALL, lambda ds, v: setattr(ds, "PatientPosition", "HFDL"))
    with pytest.raises(InconsistentError, match="HFS, FFS, HFP, FFP"):
        read_ct_pd(path)


def blank(ds: Any) -> None:
    del ds.PatientPosition


def test_folders_and_files_are_recognised(tmp_path: Path):
    path = write_scan(tmp_path / "s", SMALL)
    assert is_ct_pd(path)
    assert is_ct_pd(path / "00000.dcm")
    assert read_study(path).measurements.shape == (12, 2, 6)
    facts = describe(look(path))
    assert facts["shape"] == [12, 2, 6]
    assert "Canary" not in repr(facts)
    broken = write_scan(tmp_path / "b", SMALL, set_bytes(0x70311003, b""))
    with pytest.raises(UnreadableError, match=r"\(7031,1003\)"):
        look(broken)
    with pytest.raises(UnreadableError, match="not an image"):
        read_image(path)
    with pytest.raises(UnreadableError, match="give the folder"):
        read_study(path / "00000.dcm")
    (tmp_path / "empty").mkdir()
    assert not is_ct_pd(tmp_path / "empty")


def in_view(number: int, change: Any) -> Any:
    return lambda ds, v: change(ds) if v == number else None


def set_bytes(tag: int, content: bytes) -> Any:
    def edit(ds: Any, v: int) -> None:
        del ds[tag]
        ds.add_new(tag, "UN", content)

    return edit


UNREADABLE = {
    "missing": (lambda ds, v: ds.__delitem__(0x70311001), r"\(7031,1001\) is missing"),
    "wrong length": (set_bytes(0x70311002, b"123456"), r"\(7031,1002\) holds 6 bytes"),
    "two for one": (set_bytes(0x70311003, bytes(8)), r"\(7031,1003\) holds 8 bytes"),
    "one for two": (set_bytes(0x70311033, bytes(4)), r"\(7031,1033\) holds 4 bytes"),
    "quanta per column": (set_bytes(0x70331065, bytes(20)), r"\(7033,1065\) holds 20 bytes"),
    "big-endian length": (
        set_bytes(0x70311031, struct.pack(">f", 1085.6)),
        r"\(7031,1031\) is no plausible .* big-endian",
    ),
    "big-endian count": (set_bytes(0x70291010, struct.pack(">H", 64)), r"\(7029,1010\) is no"),
    "not a number": (set_bytes(0x70311001, struct.pack("<f", math.nan)), r"\(7031,1001\) is no"),
    "no instance": (lambda ds, v: delattr(ds, "InstanceNumber"), "InstanceNumber"),
    "several frames": (lambda ds, v: setattr(ds, "NumberOfFrames", "2"), "several views"),
    "8 bits": (lambda ds, v: setattr(ds, "BitsAllocated", 8), "16 bits"),
    "truncated": (lambda ds, v: setattr(ds, "PixelData", ds.PixelData[:-4]), "is truncated"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_damaged_attributes_are_named(tmp_path: Path, name: str):
    edit, words = UNREADABLE[name]
    path = write_scan(tmp_path / "s", SMALL, edit)
    with pytest.raises(UnreadableError, match=words) as caught:
        read_ct_pd(path)
    assert "Canary" not in str(caught.value)


INCONSISTENT = {
    "spherical": (lambda ds, v: private(ds, 0x7029100B, "CS", "SPHERICAL"), "CYLINDRICAL or FLAT"),
    "two spectra": (lambda ds, v: private(ds, 0x70331061, "US", 2), "several spectra"),
    "odd spot": (lambda ds, v: private(ds, 0x7033100E, "CS", "FFSQ"), "FFSNONE, FFSZ"),
    "counts": (lambda ds, v: private(ds, 0x70391009, "CS", "NO"), "take their logarithm"),
    "not third generation": (lambda ds, v: private(ds, 0x7037100A, "CS", "PARALLEL"), "FANBEAM"),
    "water in 1/cm": (lambda ds, v: private(ds, 0x70411001, "DS", "0.192"), "1/mm"),
    "no slope": (lambda ds, v: delattr(ds, "RescaleSlope"), "RescaleSlope"),
    "another detector": (in_view(3, lambda ds: private(ds, 0x70291002, "FL", 2.0)), "1 of 12"),
    "pixels of another shape": (lambda ds, v: setattr(ds, "Rows", 7), "do not fit a detector"),
    "another radius": (in_view(3, lambda ds: private(ds, 0x70311003, "FL", 596.0)), "varies by 1"),
    "repeated number": (
        in_view(3, lambda ds: setattr(ds, "InstanceNumber", "3")),
        "1 views repeat",
    ),
    "repeated angle": (
        in_view(3, lambda ds: private(ds, 0x70311001, "FL", SMALL.view(2)[0])),
        "repeat an angle",
    ),
    "table turns back": (in_view(3, lambda ds: private(ds, 0x70311002, "FL", -50.0)), "turns back"),
    "two series": (
        in_view(3, lambda ds: setattr(ds, "SeriesInstanceUID", "1.2.3")),
        "2 series of 1, 11 views",
    ),
    "values in HU": (lambda ds, v: setattr(ds, "RescaleIntercept", "-1000"), "line integral"),
}


@pytest.mark.parametrize("name", INCONSISTENT)
def test_scans_that_contradict_themselves_or_are_not_supported_are_refused(
    tmp_path: Path, name: str
):
    edit, words = INCONSISTENT[name]
    path = write_scan(tmp_path / "s", SMALL, edit)
    with pytest.raises(InconsistentError, match=words) as caught:
        read_ct_pd(path)
    assert "Canary" not in str(caught.value)


def test_missing_views_are_counted_and_may_be_allowed(tmp_path: Path):
    scan = PdScan()
    path = write_scan(tmp_path / "s", scan)
    for file in path.iterdir():
        if int(pydicom.dcmread(file).InstanceNumber) in (10, 11, 30):
            file.unlink()
    with pytest.raises(InconsistentError, match="3 of 60 views are missing"):
        read_ct_pd(path)
    with pytest.raises(InconsistentError, match="allow 3"):
        read_ct_pd(path, missing_views=2)
    protocol = load_protocol("ct_helical", ["counts.missing_views=3"])
    (study,) = read_measurements(path, protocol)
    assert study.geometry.views == 57  # type: ignore[union-attr]
    assert_sees_the_object_where_it_is(study)


def test_every_second_view_is_a_scan_of_fewer_views(tmp_path: Path):
    path = write_scan(tmp_path / "s")
    for file in path.iterdir():
        if int(pydicom.dcmread(file).InstanceNumber) % 2:
            file.unlink()
    assert_sees_the_object_where_it_is(read_ct_pd(path))


def test_big_endian_compressed_and_too_large_series_are_refused(tmp_path: Path):
    path = write_scan(tmp_path / "s", SMALL)
    with pytest.raises(ResourceError, match="GiB"):
        read_ct_pd(path, max_bytes=100)
    kept = pydicom.dcmread(path / "00000.dcm")
    big = pydicom.Dataset()
    big.file_meta = pydicom.dataset.FileMetaDataset()
    big.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    big.SOPClassUID, big.SOPInstanceUID = kept.SOPClassUID, kept.SOPInstanceUID
    big.add_new(0x70311001, "FL", 0.5)
    big.add_new(0x70291010, "US", 2)
    big.save_as(path / "00000.dcm", enforce_file_format=True)
    with pytest.raises(UnreadableError, match="big-endian"):
        read_ct_pd(path)


def test_damage_is_answered_by_one_known_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path = write_scan(tmp_path / "s", replace(SMALL, views=3))
    damaged_often(path / "00001.dcm", lambda file: read_ct_pd(file.parent), capfd, 150)
