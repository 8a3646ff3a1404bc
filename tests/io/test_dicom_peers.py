"""Independent judges of our DICOM: dciodvfy for the letter, dcm2niix for the place of voxels."""

import re
import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medrecon.grid import Grid
from medrecon.io.dicom import DerivedSeries, write_dicom_series
from medrecon.io.nifti import read_nifti, write_nifti
from medrecon.study import Identity
from medrecon.volume import Unit, Volume
from tests.io.volumes import random_volume

needs_dcm2niix = pytest.mark.skipif(
    shutil.which("dcm2niix") is None, reason="dcm2niix is not installed (Debian: dcm2niix)"
)
needs_dciodvfy = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy is not installed (Debian: dicom3tools)"
)
UNITS = {"CT": Unit.HU, "MR": Unit.ARBITRARY}
DONOR = {
    "PatientName": "Doe^Jane",
    "PatientID": "7",
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
    "StudyDate": "20260101",
    "StudyTime": "120000",
    "StudyID": "1",
    "PatientPosition": "HFS",
    "BodyPartExamined": "CHEST",
    "Manufacturer": "SIEMENS",
    "KVP": "120",
    "EchoTime": "3.5",
    "RepetitionTime": "2000",
    "ScanningSequence": "GR",
    "MagneticFieldStrength": "3",
}


def series(modality: str, **changes: object) -> DerivedSeries:
    fields: dict[str, object] = {
        "modality": modality,
        "description": "medrecon DDS",
        "uses_prior": True,
        "derivation": "cone beam, prior ct-1, weights 0123456789abcdef, seed 7, 20 steps",
        "protocol_name": "ct_cone_sparse",
        "algorithm": "DDS",
    }
    return DerivedSeries(**(fields | changes))  # type: ignore[arg-type]


def convert(folder: Path, out: Path) -> nib.Nifti1Image:
    out.mkdir()
    command = ["dcm2niix", "-o", str(out), "-f", "x", "-z", "n", "-b", "n", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    (path,) = out.glob("*.nii")
    return nib.load(path)


def largest_differences(image: nib.Nifti1Image, path: Path) -> tuple[float, float]:
    """How far (mm) a voxel of our NIfTI is from a voxel of the image, and by how much they differ.

    Every voxel of ours is sought at its world position in the other image.
    """
    ours = nib.load(path)
    index = np.indices(ours.shape).reshape(3, -1)
    world = ours.affine @ np.vstack([index, np.ones(index.shape[1])])
    found = np.linalg.inv(image.affine) @ world
    nearest = np.rint(found[:3]).astype(int)
    back = image.affine @ np.vstack([nearest, np.ones(index.shape[1])])
    inside = (nearest >= 0).all(0) & (nearest < np.array(image.shape)[:, None]).all(0)
    assert inside.all()
    assert image.get_fdata().size == ours.get_fdata().size
    there = image.get_fdata()[tuple(nearest)]
    here = ours.get_fdata()[tuple(index)]
    return float(np.abs(back - world).max()), float(np.abs(there - here).max())


@needs_dcm2niix
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("donor", [{}, DONOR], ids=["bare", "donor"])
def test_dcm2niix_puts_every_ct_voxel_where_our_nifti_has_it(
    tmp_path: Path, seed: int, donor: dict[str, str]
):
    volume = random_volume(seed)
    write_dicom_series(
        volume, tmp_path / "dicom", series=series("CT"), identity=Identity(attributes=donor)
    )
    write_nifti(volume, tmp_path / "ours.nii")
    image = convert(tmp_path / "dicom", tmp_path / "converted")
    distance, difference = largest_differences(image, tmp_path / "ours.nii")
    assert distance < 1e-3
    assert difference <= 0.5 + 1e-4


@needs_dcm2niix
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("vendor", ["", "SIEMENS", "GE MEDICAL SYSTEMS", "Philips"])
def test_dcm2niix_puts_every_mr_voxel_where_our_nifti_has_it(
    tmp_path: Path, seed: int, vendor: str
):
    volume = random_volume(seed, Unit.ARBITRARY)
    donor = Identity(attributes=DONOR | {"Manufacturer": vendor})
    write_dicom_series(volume, tmp_path / "dicom", series=series("MR"), identity=donor)
    write_nifti(volume, tmp_path / "ours.nii")
    image = convert(tmp_path / "dicom", tmp_path / "converted")
    # dcm2niix gives the stored integers, or applies the real world slope for some vendors.
    slope = 1.0
    if float(image.get_fdata().max()) > 1000:
        slope = float(volume.data.max()) / 32767
    image = nib.Nifti1Image(image.get_fdata() * slope, image.affine)
    distance, difference = largest_differences(image, tmp_path / "ours.nii")
    assert distance < 1e-3
    assert difference < 1e-4 * float(volume.data.max())


@needs_dcm2niix
def test_dcm2niix_agrees_on_a_scanner_like_stack_and_on_a_single_slice(tmp_path: Path):
    for slices in (1, 12):
        grid = Grid.centred((slices, 33, 47), (2.5, 0.703125, 0.9), (3.0, -171.0, -850.0))
        data = torch.rand(grid.shape, generator=torch.Generator().manual_seed(1)) * 2000 - 1000
        folder = tmp_path / str(slices)
        folder.mkdir()
        volume = Volume(data, grid, Unit.HU)
        write_dicom_series(volume, folder / "d", series=series("CT"), identity=Identity())
        write_nifti(volume, folder / "ours.nii")
        distance, difference = largest_differences(
            convert(folder / "d", folder / "converted"), folder / "ours.nii"
        )
        assert distance < 1e-3
        assert difference <= 0.5 + 1e-4
        assert torch.equal(read_nifti(folder / "ours.nii").data, data)


@needs_dciodvfy
@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize("donor", [{}, DONOR], ids=["bare", "donor"])
@pytest.mark.parametrize("uses_prior", [True, False])
def test_dciodvfy_finds_no_error(
    tmp_path: Path, modality: str, donor: dict[str, str], uses_prior: bool
):
    files = write_dicom_series(
        random_volume(1, UNITS[modality]),
        tmp_path / "d",
        series=series(modality, uses_prior=uses_prior),
        identity=Identity(attributes=donor, frame_of_reference_uid="1.2.3.4"),
    )
    for file in files:
        assert judge(file) == []


@needs_dciodvfy
def test_dciodvfy_finds_nothing_in_simulated_data_but_the_mark_it_does_not_know(tmp_path: Path):
    identity = Identity(attributes=DONOR, simulated=True)
    file, *_ = write_dicom_series(
        random_volume(1), tmp_path / "d", series=series("CT"), identity=identity
    )
    # SyntheticData (0008,001C) is younger than Debian's dictionary.
    assert [line for line in judge(file) if not re.search(r"\(0x0008,0x001c\)", line)] == []


def judge(file: Path) -> list[str]:
    command = ["dciodvfy", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "Image" in done.stderr, "dciodvfy did not recognise the object"
    return [line for line in done.stderr.splitlines() if line.startswith("Error")]
