"""DICOM series: what is written comes back, and what is no regular stack is refused by name."""

import resource
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    generate_uid,
)

from medrecon.errors import InconsistentError, MedreconError, OutputError, UnreadableError
from medrecon.grid import Grid
from medrecon.io.dicom import (
    DerivedSeries,
    read_dicom_series,
    with_uids,
    write_dicom_series,
)
from medrecon.study import Identity
from medrecon.volume import Unit, Volume
from tests.io.volumes import random_volume, values_at, volumes

CANARY = "ZZPHI^CANARY"
SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "raw" / "dicom"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the scanners' series of ../shared/data are not here"
)
bounded = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CT = DerivedSeries(modality="CT", description="medrecon FDK", uses_prior=False)
MR = DerivedSeries(modality="MR", description="medrecon DDS", uses_prior=True)


def read(path: Path) -> Volume:
    with pytest.warns(UserWarning, match="derived or synthetic"):
        return read_dicom_series(path)[0]


# What is written.


@bounded
@given(volume=volumes)
def test_ct_round_trip_keeps_places_and_values_within_half_a_unit(tmp_path: Path, volume: Volume):
    folder = tmp_path / str(time.monotonic_ns())
    write_dicom_series(volume, folder, series=CT, identity=Identity())
    back = values_at(read(folder))
    ours = values_at(volume)
    here, there = np.array(sorted(ours)), np.array(sorted(back))
    np.testing.assert_allclose(there, here, atol=0.011)  # keys are rounded to 0.01 mm
    difference = np.array([back[k] - ours[k] for k in ours if k in back])
    assert len(difference) > 0.9 * len(ours)
    assert np.abs(difference).max() <= 0.5 + 1e-3


def test_mr_round_trip_keeps_values_by_the_real_world_mapping(tmp_path: Path):
    volume = random_volume(2, Unit.ARBITRARY, axial=True)
    write_dicom_series(volume, tmp_path / "d", series=MR, identity=Identity())
    back = read(tmp_path / "d")
    assert back.unit is Unit.ARBITRARY
    step = float(volume.data.max()) / 32767
    torch.testing.assert_close(back.data, volume.data, rtol=0, atol=0.51 * step)


def test_negative_and_zero_mr_volumes_are_written(tmp_path: Path):
    grid = Grid.centred((2, 3, 4), (1.0, 1.0, 1.0))
    for name, data in (("zero", torch.zeros(2, 3, 4)), ("signed", -torch.ones(2, 3, 4))):
        volume = Volume(data, grid, Unit.ARBITRARY)
        write_dicom_series(volume, tmp_path / name, series=MR, identity=Identity())
        assert torch.equal(read(tmp_path / name).data, data)


def test_the_header_says_what_the_image_is(tmp_path: Path):
    donor = Identity(
        attributes={
            "PatientName": "Doe^Jane",
            "Manufacturer": "SIEMENS",
            "StudyInstanceUID": "1.2",
        },
        frame_of_reference_uid="1.2.3",
        simulated=True,
    )
    volume = random_volume(4)
    series = DerivedSeries(
        modality="CT", description="x" * 80, uses_prior=True, derivation="seed 7", algorithm="DDS"
    )
    files = write_dicom_series(volume, tmp_path / "d", series=series, identity=donor)
    assert [f.name for f in files] == [f"{i + 1:06d}.dcm" for i in range(len(files))]
    ds = pydicom.dcmread(files[1])
    assert ds.preamble == bytes(128)
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
    assert ds.SeriesDescription.endswith(" (AI) NOT FOR DIAGNOSTIC USE")
    assert len(ds.SeriesDescription) <= 64
    assert (ds.ContentQualification, ds.SyntheticData) == ("RESEARCH", "YES")
    assert (ds.StudyInstanceUID, ds.FrameOfReferenceUID) == ("1.2", "1.2.3")
    assert (ds.PatientName, ds.DerivationDescription) == ("Doe^Jane", "seed 7")
    assert (ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType) == (1, 0, "HU")
    scanner, ours = ds.ContributingEquipmentSequence
    assert scanner.Manufacturer == "SIEMENS"
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert ours.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    taken = "SI GE HI ME PH TO CA CP UI BR MR HY".split()  # noqa: SIM905
    assert not ds.Manufacturer.upper().startswith(tuple(taken))
    np.testing.assert_allclose(
        np.array(ds.ImagePositionPatient, float), (volume.grid.affine @ [1, 0, 0, 1])[:3], atol=1e-6
    )
    _, dy, dx = volume.grid.spacing
    np.testing.assert_allclose(np.array(ds.PixelSpacing, float), (dy, dx))


def test_classical_and_measured_images_are_marked_as_such(tmp_path: Path):
    file, *_ = write_dicom_series(random_volume(4), tmp_path / "d", series=CT, identity=Identity())
    ds = pydicom.dcmread(file)
    assert ds.SeriesDescription == "medrecon FDK RESEARCH USE"
    assert "SyntheticData" not in ds


def test_same_content_same_bytes_and_other_content_other_uids(tmp_path: Path):
    volume = random_volume(4)
    changed = Volume(volume.data + 1, volume.grid, volume.unit)
    uids = []
    for name, content in (("a", volume), ("b", volume), ("c", changed)):
        file, *_ = write_dicom_series(
            content, tmp_path / name, series=CT, identity=with_uids(Identity(), "scan")
        )
        ds = pydicom.dcmread(file)
        uids.append((ds.SeriesInstanceUID, ds.SOPInstanceUID, ds.StudyInstanceUID))
    assert (tmp_path / "a" / "000001.dcm").read_bytes() == (
        tmp_path / "b" / "000001.dcm"
    ).read_bytes()
    assert uids[0] == uids[1]
    assert uids[2][0] != uids[0][0]
    assert uids[2][1] != uids[0][1]
    assert uids[2][2] == uids[0][2], "results of one scan belong to one study"


def test_impossible_donor_texts_are_made_legal(tmp_path: Path):
    donor = Identity(
        attributes={
            "PatientName": "Zoë^<script>\n" + "x" * 10**6,
            "PatientID": "../../etc\\passwd",
            "StudyDate": "not a date",
            "KVP": "much",
            "BodyPartExamined": "chest",
            "PatientWeight": "70.123456789012345678",
            "Rows": "17",
        }
    )
    files = write_dicom_series(random_volume(4), tmp_path / "d", series=CT, identity=donor)
    assert {f.parent for f in files} == {tmp_path / "d"}
    ds = pydicom.dcmread(files[0])
    assert len(str(ds.PatientName)) <= 64
    assert "Zoë" in str(ds.PatientName)
    assert "\n" not in str(ds.PatientName)
    assert ds.StudyDate == ""
    assert ds.KVP is None
    assert float(ds.PatientWeight) == pytest.approx(70.1234567890123)
    assert ds.BodyPartExamined == "CHEST"
    assert ds.Rows != 17


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    volume = random_volume(1)
    per_mm = Volume(volume.data, volume.grid, Unit.PER_MM)
    nan = Volume(volume.data * torch.nan, volume.grid, Unit.HU)
    for bad, words in ((per_mm, "1/mm"), (nan, "finite")):
        with pytest.raises(InconsistentError, match=words):
            write_dicom_series(bad, tmp_path / "d", series=CT, identity=Identity())
    with pytest.raises(InconsistentError, match="FrameOfReferenceUID"):
        write_dicom_series(
            volume, tmp_path / "d", series=CT, identity=Identity(frame_of_reference_uid="../x")
        )
    with pytest.raises(OutputError):
        write_dicom_series(volume, tmp_path / "a" / "b", series=CT, identity=Identity())
    data = volume.data.clone()
    data[0, 0, 0] = 1e6
    clipped = Volume(data, volume.grid, Unit.HU)
    with pytest.warns(UserWarning, match="1 voxels"):
        write_dicom_series(clipped, tmp_path / "d", series=CT, identity=Identity())


# What is read: a scanner's series, and one fault at a time.


def scanner_series(folder: Path, *, slices: int = 5) -> list[Path]:
    """Axial CT as a scanner writes it, 2.5 mm apart, full of canaries."""
    folder.mkdir()
    shared = (generate_uid(), generate_uid(), generate_uid())
    return [write_slice(folder / f"s{z}.dcm", z, shared) for z in range(slices)]


def write_slice(path: Path, z: int, uids: tuple[str, str, str]) -> Path:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = uids
    ds.PatientName, ds.PatientID, ds.SeriesDescription = CANARY, CANARY, CANARY
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "CT", 3, z + 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [-10, -20, 30 + 2.5 * z]
    ds.PixelSpacing, ds.SliceThickness = [0.7, 0.8], 5
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 4, 6, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 2, -1024, "HU"
    ds.PixelData = (np.arange(24, dtype="<u2") + 100 * z).tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return path


def change(path: Path, edit: Callable[[Any], object]) -> None:
    ds = pydicom.dcmread(path)
    edit(ds)
    ds.save_as(path)


def put(**values: Any) -> Callable[[Any], object]:
    return lambda ds: ds.update(values)


def drop(keyword: str) -> Callable[[Any], object]:
    return lambda ds: delattr(ds, keyword)


def refused(folder: Path, kind: type[MedreconError], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        read_dicom_series(folder)
    assert "CANARY" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_14_a_scanners_series_is_sorted_by_position_not_by_name(tmp_path: Path):
    files = scanner_series(tmp_path / "d")
    names = [files[i] for i in (3, 0, 4, 1, 2)]
    for z, file in enumerate(files):
        file.rename(file.with_suffix(f".{z}"))
    for z, name in enumerate(names):
        (tmp_path / "d" / f"s{z}.{z}").rename(name)
    (tmp_path / "d" / "notes.txt").write_text("not an image")
    (tmp_path / "d" / "empty.dcm").touch()
    volume, identity = read_dicom_series(tmp_path / "d")
    assert volume.grid == Grid(
        shape=(5, 4, 6), spacing=(2.5, 0.7, 0.8), origin=(-10.0, -20.0, 30.0)
    )
    expected = 2 * (np.arange(24).reshape(4, 6) + 100 * np.arange(5)[:, None, None]) - 1024.0
    np.testing.assert_array_equal(volume.data, expected)
    assert identity.attributes["PatientName"] == CANARY
    assert identity.frame_of_reference_uid
    assert not identity.simulated


def test_a_read_series_is_a_donor_whose_frame_and_study_are_kept(tmp_path: Path):
    scanner_series(tmp_path / "d")
    volume, identity = read_dicom_series(tmp_path / "d")
    file, *_ = write_dicom_series(volume, tmp_path / "out", series=CT, identity=identity)
    source, derived = pydicom.dcmread(tmp_path / "d" / "s0.dcm"), pydicom.dcmread(file)
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert derived[keyword].value == source[keyword].value
    assert derived.SeriesInstanceUID != source.SeriesInstanceUID
    assert np.array_equal(derived.pixel_array, 2.0 * source.pixel_array - 1024)


def test_padding_becomes_air(tmp_path: Path):
    for file in scanner_series(tmp_path / "d"):
        change(file, put(RescaleIntercept=-3000, RescaleSlope=1))
        change(file, lambda ds: ds.add_new("PixelPaddingValue", "US", 0))
    volume, _ = read_dicom_series(tmp_path / "d")
    assert volume.data[0, 0, 0] == -1000
    assert volume.data[0, 0, 1] == -2999


def test_1_2_other_files_are_not_dicom(tmp_path: Path):
    for content in (b"", b"text", bytes(200)):
        (tmp_path / "x.dcm").write_bytes(content)
        refused(tmp_path / "x.dcm", UnreadableError, "not a DICOM file")
    refused(tmp_path, UnreadableError, r"no DICOM image \(1 files, 0 of them DICOM\)")
    refused(tmp_path / "absent", UnreadableError, "does not exist")


@pytest.mark.parametrize("end", [140, 200, 400, -10])
def test_3_4_truncated_files_are_unreadable(tmp_path: Path, end: int):
    path = scanner_series(tmp_path / "d")[2]
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises((UnreadableError, InconsistentError)) as caught:
        read_dicom_series(tmp_path / "d")
    assert "CANARY" not in str(caught.value)
    refused(path, UnreadableError, "truncated|missing|no DICOM image") if end == -10 else None


def test_5_absurd_sizes_are_refused_before_allocation(tmp_path: Path):
    for file in scanner_series(tmp_path / "d"):
        change(file, put(Rows=65535, Columns=65535))
    refused(tmp_path / "d", UnreadableError, "65535 x 65535")


def test_6_unknown_transfer_syntax_is_unreadable(tmp_path: Path):
    path = scanner_series(tmp_path / "d", slices=1)[0]
    content = path.read_bytes()
    known, other = b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0"
    assert known in content
    path.write_bytes(content.replace(known, other))
    refused(path, UnreadableError, "encoding is not supported|damaged")


def test_7_deflated_bombs_are_refused_at_once(tmp_path: Path):
    path = scanner_series(tmp_path / "d", slices=1)[0]
    change(path, lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", ExplicitVRLittleEndian))
    ds = pydicom.dcmread(path)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.PixelData = bytes(2 * 10**7)
    ds.save_as(path)
    assert path.stat().st_size < 10**5
    assert len(zlib.compress(bytes(10**6))) < 10**4
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path, UnreadableError, "deflated")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 10_000  # kB


def test_8_deep_nesting_is_unreadable(tmp_path: Path):
    path = scanner_series(tmp_path / "d", slices=1)[0]
    content = path.read_bytes()
    start = content.index(b"\x08\x00\x08\x00CS")  # ImageType; nest (0008,0006) before it
    opened = b"\x08\x00\x06\x00SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path.write_bytes(content[:start] + opened * 20_000 + content[start:])
    refused(path, UnreadableError, "damaged")


def test_9_illegal_uids_never_leave_the_reader(tmp_path: Path):
    for file in scanner_series(tmp_path / "d"):
        content = file.read_bytes()
        uid = str(pydicom.dcmread(file).StudyInstanceUID).encode()
        file.write_bytes(content.replace(uid, b"../../etc/passwd".ljust(len(uid), b"x")))
    refused(tmp_path / "d", UnreadableError, "StudyInstanceUID")


def test_11_several_series_are_listed_without_names(tmp_path: Path):
    scanner_series(tmp_path / "d")
    for file in scanner_series(tmp_path / "d" / "other", slices=2):
        change(file, put(SeriesNumber=8))
    refused(tmp_path / "d", InconsistentError, r"series 3: 5 images; series 8: 2 images")
    volume, _ = read_dicom_series(tmp_path / "d", series_number=8)
    assert volume.grid.shape[0] == 2


def test_12_a_missing_slice_is_located(tmp_path: Path):
    scanner_series(tmp_path / "d")[2].unlink()
    refused(tmp_path / "d", InconsistentError, r"1 slice\(s\) missing: between 32\.50 and 37\.50")


@pytest.mark.parametrize(
    ("z", "edit", "words"),
    [
        (2, put(ImagePositionPatient=[-10, -20, 30]), "1 slices share their position"),  # 13
        (2, put(ImagePositionPatient=[-10, -20, 34]), "not equally spaced"),  # 15
        (2, put(ImagePositionPatient=[-10, -18, 35]), "shifted against each other"),  # 19
        (1, put(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "1 of 5 slices"),
        (1, put(ImageOrientationPatient=[0] * 6), "ImageOrientationPatient"),  # 16
        (1, put(PixelSpacing=[0, 0.8]), "PixelSpacing"),  # 17
        (1, put(PixelSpacing=[-1, 0.8]), "PixelSpacing"),
        (1, put(PixelSpacing=[0.7, 0.9]), "PixelSpacing"),
        (1, put(PixelSpacing="0.7"), "PixelSpacing"),
        (1, drop("PixelSpacing"), "PixelSpacing"),
        (1, drop("ImagePositionPatient"), "ImagePositionPatient"),
        (1, drop("RescaleSlope"), "RescaleSlope"),  # 18
        (1, put(RescaleSlope=0), "slope is 0"),
        (1, put(RescaleType="OD"), "RescaleType"),
        (1, put(Modality="PT"), "'PT'"),  # 20
        (1, put(Rows=3), r"differ in size"),
        (1, put(Rows=0), r"differ in size"),
    ],
)
def test_11_to_20_one_wrong_slice_makes_the_series_inconsistent(
    tmp_path: Path, z: int, edit: Callable[[Any], object], words: str
):
    change(scanner_series(tmp_path / "d")[z], edit)
    refused(tmp_path / "d", InconsistentError, words)


def test_16_a_zero_orientation_of_all_slices_is_inconsistent(tmp_path: Path):
    for file in scanner_series(tmp_path / "d"):
        change(file, put(ImageOrientationPatient=[0] * 6))
    refused(tmp_path / "d", InconsistentError, "perpendicular")


def test_21_synthetic_input_is_warned_of_and_inherited(tmp_path: Path):
    for file in scanner_series(tmp_path / "d"):
        change(file, put(SyntheticData="YES"))
    with pytest.warns(UserWarning, match="synthetic"):
        _, identity = read_dicom_series(tmp_path / "d")
    assert identity.simulated


def test_multi_frame_and_colour_are_refused(tmp_path: Path):
    path = scanner_series(tmp_path / "d", slices=1)[0]
    change(path, put(NumberOfFrames=2))
    refused(path, UnreadableError, "multi-frame")
    change(path, put(NumberOfFrames=1, SamplesPerPixel=3))
    refused(path, InconsistentError, "colour")


def test_26_a_program_in_the_preamble_is_read_past(tmp_path: Path):
    for file in scanner_series(tmp_path / "d"):
        content = file.read_bytes()
        file.write_bytes(b"MZ" + content[2:])
    assert read_dicom_series(tmp_path / "d")[0].grid.shape == (5, 4, 6)


def test_a_sequence_in_the_place_of_a_number_is_refused(tmp_path: Path):
    path = scanner_series(tmp_path / "d", slices=1)[0]
    change(path, lambda ds: ds.add_new("PixelSpacing", "SQ", Sequence([Dataset()])))
    refused(path, InconsistentError, "PixelSpacing")


# Real scanners.


@needs_shared
def test_jpeg_2000_series_of_a_siemens_scanner_is_read():
    volume, identity = read_dicom_series(SHARED / "ct_abdomen_20slices_jpeg2000")
    assert volume.grid.shape == (20, 512, 512)
    assert volume.grid.is_axial
    assert volume.grid.spacing == pytest.approx((2.0, 0.9765625, 0.9765625))
    assert volume.data.min() == -1024
    assert identity.attributes["Manufacturer"].startswith("SIEMENS")


@needs_shared
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ct_head_gantry_tilt_variable_spacing", "not equally spaced"),
        ("ct_edge_cases/gantrytilting/001", r"tilt of 14\.0 degrees"),
        ("ct_edge_cases/notavolume/001", "3 slices share"),
        ("ct_edge_cases/sliceincrement/001", "1 slice.s. missing"),
        ("ct_edge_cases/sliceorientation", "several series"),
    ],
)
def test_irregular_series_of_real_scanners_are_refused(name: str, words: str):
    with pytest.raises(InconsistentError, match=words):
        read_dicom_series(SHARED / name)
