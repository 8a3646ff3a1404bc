"""Images of all kinds become slices in the prior's unit, and a patient is on one side only."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.grid import Grid
from medrecon.io.collections import find_images
from medrecon.io.dicom_write import DerivedSeries, write_dicom_series
from medrecon.io.nifti import write_nifti
from medrecon.io.slices import read_slices
from medrecon.study import Identity
from medrecon.training.data import load_images, split
from medrecon.training.randomness import Stream, draw_of
from medrecon.training.settings import Data
from medrecon.training.slices import Series, Slices
from medrecon.training.volumes import prepare
from medrecon.volume import Unit, Volume

RAW = Path(__file__).parents[3] / "shared" / "data" / "raw" / "dicom"


SERIES = DerivedSeries(modality="CT", description="x", uses_prior=False)


@pytest.fixture
def volume():
    """Build 3 slices of 20 x 16 pixels of 2 mm in HU, different everywhere."""
    grid = Grid.centred((3, 20, 16), (5.0, 2.0, 2.0))
    hu = torch.linspace(-900, 1500, 3 * 20 * 16).view(3, 20, 16)
    return Volume(hu, grid, Unit.HU)


def reoriented(volume):
    """Store the same voxels as sagittal slices from left to right, bottom row first."""
    grid = volume.grid
    z, y, x = grid.directions
    corner = grid.affine @ [0, grid.shape[1] - 1, grid.shape[2] - 1, 1]
    turned = replace(
        grid,
        shape=(grid.shape[2], grid.shape[0], grid.shape[1]),
        spacing=(grid.spacing[2], grid.spacing[0], grid.spacing[1]),
        origin=tuple(corner[:3].tolist()),
        directions=(tuple(-v for v in x), z, tuple(-v for v in y)),
    )
    return Volume(volume.data.permute(2, 0, 1).flip(0, 2).contiguous(), turned, volume.unit)


def test_hounsfield_units_become_the_window(volume):
    slices = prepare(volume, Data(size=24), "CT")
    assert slices.shape == (3, 24, 24)
    expected = (volume.data + 1000) / 1300 - 1
    assert torch.allclose(slices[:, 2:22, 4:20], expected, atol=1e-6)
    assert torch.equal(slices[:, :2], torch.full((3, 2, 24), -1.0))  # air around it
    extreme = replace(volume, data=volume.data * 10)
    assert prepare(extreme, Data(size=24), "CT").aminmax() == (-1, 1)


def test_the_percentile_of_a_magnitude_becomes_one(volume):
    image = replace(volume, data=volume.data.abs(), unit=Unit.ARBITRARY)
    slices = prepare(image, Data(size=16), "MR")
    one = np.percentile(image.data.numpy(), 99.5)
    assert torch.allclose(slices, image.data[:, 2:18] / one, atol=1e-6)


@pytest.mark.parametrize("pixel_mm", [None, 4.0])
def test_the_orientation_of_the_file_does_not_matter(volume, pixel_mm):
    data = Data(size=16, pixel_mm=pixel_mm)
    turned = reoriented(volume)
    assert turned.grid.shape != volume.grid.shape
    assert torch.equal(prepare(turned, data, "CT"), prepare(volume, data, "CT"))


def test_pixels_that_grow_are_averaged(volume):
    slices = prepare(volume, Data(size=8, pixel_mm=4.0), "CT")
    means = volume.data.view(3, 10, 2, 8, 2).mean((2, 4))
    assert torch.allclose(slices, (means[:, 1:9] + 1000) / 1300 - 1, atol=1e-5)


def test_pixels_that_shrink_are_interpolated_within_the_neighbours(volume):
    slices = prepare(volume, Data(size=32, pixel_mm=1.0), "CT")
    assert slices.shape == (3, 32, 32)
    rows = slices[1, :, 10]
    assert (rows.diff() > 0).all()  # the ramp stays a ramp


def _series(patient, count=1):
    return Series(patient, torch.zeros(count, 8, 8))


def test_a_split_keeps_patients_whole_and_does_not_depend_on_the_order():
    series = [_series(f"p{i // 2}") for i in range(20)]
    train, held_out = split(series, 0.3)
    assert {s.patient for s in train} & {s.patient for s in held_out} == set()
    assert len(held_out) == 6
    again = split(series[::-1], 0.3)[1]
    assert {s.patient for s in again} == {s.patient for s in held_out}
    with pytest.raises(InconsistentError, match="too few"):
        split([_series("only")], 0.1)


def test_neighbours_are_alike_and_of_one_series():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.rand(2, 1, 9, 9, generator=generator)
    jump = torch.cat([one.expand(4, 9, 9), other.expand(3, 9, 9)])
    slices = Slices([Series("a", jump), Series("b", one)], correlation=0.9, reach=2)
    assert [bool(slices.at(i).present.all()) for i in range(8)] == [
        *(False, True, True, False, False, True, False),  # the ends, and both sides of the jump
        False,  # another patient is no neighbour
    ]
    draw = draw_of(0, Stream.BATCH)
    shown = [slices.draw(draw, 1.0) for _ in range(50)]
    assert {bool(s.present.all()) for s in shown} == {True, False}
    assert not any(bool(slices.draw(draw, 0.0).present.any()) for _ in range(20))


def test_a_farther_neighbour_is_as_far_as_it_says():
    ramp = torch.linspace(0, 1, 81).view(9, 9) + 0.01 * torch.arange(5).view(5, 1, 1)
    slices = Slices([Series("a", ramp)], correlation=0.5, reach=2)
    draw = draw_of(0, Stream.BATCH)
    gaps = set()
    for _ in range(60):
        stack = slices.draw(draw, 1.0)
        if bool(stack.present.all()):
            low, high = (float((stack.values[k] - stack.values[1]).mean()) for k in (0, 2))
            assert low == pytest.approx(-high, abs=1e-6)
            gaps.add(round(high, 3))
    assert gaps == {0.01, 0.02}


def test_hdf5_slices_are_runs_of_one_subject(tmp_path):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["hu"] = np.arange(5 * 4 * 4, dtype=np.int16).reshape(5, 4, 4)
        file["subject"] = ["a", "a", "b", "a", "a"]
        file["spacing_mm"] = np.array([1, 2, 3, 4, 4], np.float32)
    found = read_slices(tmp_path / "s.h5", "CT")
    assert [(s.subject, len(s.slices), s.pixel_mm) for s in found] == [
        *(("a", 2, 1.5), ("b", 1, 3.0), ("a", 2, 4.0)),
    ]
    with h5py.File(tmp_path / "s.h5", "a") as file:
        del file["subject"]
        file["subject"] = ["a", "b"]
    with pytest.raises(UnreadableError, match="one text per slice"):
        read_slices(tmp_path / "s.h5", "CT")


def test_folders_are_searched_for_every_format(tmp_path, volume, small):
    for patient in ("sub-01", "sub-02"):
        (tmp_path / "scans" / patient / "ses-1").mkdir(parents=True)
        write_nifti(volume, tmp_path / "scans" / patient / "ses-1" / "ct.nii.gz")
    (tmp_path / "scans" / "notes.txt").write_text("not an image")
    donor = Identity(attributes={"PatientID": "secret"})
    write_dicom_series(volume, tmp_path / "scans" / "dicom", series=SERIES, identity=donor)
    with h5py.File(tmp_path / "scans" / "more.h5", "w") as file:
        file["hu"] = np.zeros((2, 8, 8), np.int16)
    (tmp_path / "scans" / "broken.nii").write_bytes(b"no image")
    kinds = [(f.kind, f.owner) for f in find_images(tmp_path / "scans")]
    assert kinds == [
        *(("nifti", "broken.nii"), ("dicom", ""), ("hdf5", "more.h5")),
        *(("nifti", "sub-01"), ("nifti", "sub-02")),
    ]
    recipe = small(data={"train": [str(tmp_path / "scans")], "validation_share": 0.25})
    with (
        pytest.warns(UserWarning, match=r"left out: .*broken\.nii"),
        pytest.warns(UserWarning, match="derived or synthetic"),
    ):
        images = load_images(recipe)
    assert len(images.train.patients) == 3
    assert len(images.validation.patients) == 1
    assert len(images.train) + len(images.validation) == 3 * 3 + 2
    names = images.train.patients | images.validation.patients
    assert not any("secret" in name for name in names)


def test_a_patient_in_both_lists_is_refused_whatever_the_format(tmp_path, volume, small):
    for part in ("train", "validation"):
        (tmp_path / part).mkdir()
        donor = Identity(attributes={"PatientID": "7"})
        write_dicom_series(
            volume,
            tmp_path / part / "series",
            series=SERIES,
            identity=donor,
        )
    recipe = small(
        data={"train": [str(tmp_path / "train")], "validation": [str(tmp_path / "validation")]}
    )
    with (
        pytest.warns(UserWarning, match="derived or synthetic"),
        pytest.raises(InconsistentError, match=r"1 patient is in data\.train and"),
    ):
        load_images(recipe)


def test_nothing_to_read_is_said_with_the_setting(tmp_path, small):
    with pytest.raises(UnreadableError, match=r"data\.train: .*does not exist"):
        load_images(small(data={"train": [str(tmp_path / "nowhere")]}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError, match="holds no DICOM series"):
        load_images(small(data={"train": [str(tmp_path / "empty")]}))


@pytest.mark.skipif(not RAW.is_dir(), reason="the measured data are not here")
def test_a_series_of_a_real_scanner_is_read(small):
    folder = RAW / "ct_abdomen_20slices_jpeg2000"
    data = {"train": ["x"], "validation": [str(folder)], "synthetic": 1.0, "pixel_mm": 3.0}
    images = load_images(small(data={**data, "size": 128}))
    (series,) = images.validation.series
    assert series.slices.shape == (20, 128, 128)
    assert images.validation.with_neighbours == 18
    assert float(series.slices.max()) > 0.1  # bone
    middle = series.slices[:, 56:72, 56:72]
    assert abs(float(middle.median() + 1) * 1300 - 1000) < 120  # soft tissue, HU


def test_a_cache_gives_the_same_slices_again_and_notices_another_file(tmp_path, volume, small):
    write_nifti(volume, tmp_path / "a.nii")
    data = {"train": [str(tmp_path / "a.nii")], "validation_share": 0.0}
    plain = load_images(small(data=data)).train
    recipe = small(data={**data, "cache": str(tmp_path / "cache")})
    first, again = (load_images(recipe).train for _ in range(2))
    assert again.series[0].slices.dtype == torch.float16
    assert torch.equal(first.at(1).values, again.at(1).values)
    assert torch.allclose(again.at(1).values, plain.at(1).values, atol=2.5e-4)
    assert again.pixel_mm == plain.pixel_mm
    assert again.patients == plain.patients
    assert len(list((tmp_path / "cache").iterdir())) == 2
    kept = next((tmp_path / "cache").glob("*.npy"))
    kept.unlink()  # it is mapped: to cut it short under our feet would be the end
    kept.write_bytes(b"damaged")
    assert torch.equal(load_images(recipe).train.at(1).values, first.at(1).values)
    write_nifti(replace(volume, data=-volume.data.abs()), tmp_path / "a.nii")
    assert not torch.equal(load_images(recipe).train.at(1).values, first.at(1).values)
