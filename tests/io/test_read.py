"""Formats are told by content; what is unknown is answered with what is supported."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from medrecon.errors import UnreadableError
from medrecon.geometry import ParallelBeam
from medrecon.io.dicom import DerivedSeries, write_dicom_series
from medrecon.io.nifti import write_nifti
from medrecon.io.projections import write_projections
from medrecon.io.read import read_image, read_studies, read_study
from medrecon.study import Identity
from medrecon.volume import Unit
from tests.io import test_cfl, test_dxchange, test_fastmri, test_htc
from tests.io.test_projections import FAN, ct_study
from tests.io.volumes import random_volume


def test_measurements_are_recognised_whatever_their_name(tmp_path: Path):
    write_projections(tmp_path / "ours.bin", ct_study(FAN))
    assert read_study(tmp_path / "ours.bin").geometry == FAN
    test_htc.write(tmp_path / "htc")
    assert read_study(tmp_path / "htc").measurements.shape == (1, 3, 9)
    test_dxchange.write(tmp_path / "dx.dat")
    with pytest.warns(UserWarning, match="column"):
        assert isinstance(read_study(tmp_path / "dx.dat").geometry, ParallelBeam)


def test_images_are_recognised_whatever_their_name(tmp_path: Path):
    volume = random_volume(1, axial=True)
    write_nifti(volume, tmp_path / "v.nii.gz")
    (tmp_path / "v.nii.gz").rename(tmp_path / "image")
    read, identity = read_image(tmp_path / "image")
    assert read.unit is Unit.HU
    assert not identity.attributes
    series = DerivedSeries(modality="CT", description="x", uses_prior=False)
    donor = Identity(attributes={"PatientID": "7"})
    write_dicom_series(volume, tmp_path / "d", series=series, identity=donor)
    (tmp_path / "d" / "000001.dcm").rename(tmp_path / "d" / "x")
    for path in (tmp_path / "d", tmp_path / "d" / "x"):
        with pytest.warns(UserWarning, match="derived"):
            read, identity = read_image(path)
        assert identity.attributes["PatientID"] == "7"


def test_measurements_of_mr_are_recognised_whatever_their_name(tmp_path: Path):
    with pytest.warns(UserWarning, match="where the slices are"):
        (study,) = read_studies(test_fastmri.write(tmp_path / "fast.dat"))
    assert study.facts["format"] == "fastMRI"
    np.save(tmp_path / "array.npy", np.ones((2, 4, 4), np.complex64) * (1 + np.eye(4)[2]))
    (tmp_path / "array.npy").rename(tmp_path / "array.raw")
    with pytest.warns(UserWarning, match="no geometry"):
        (study,) = read_studies(tmp_path / "array.raw")
    assert study.measurements.shape == (1, 2, 4, 4)
    test_cfl.write(tmp_path / "scan", np.ones((4, 4, 1, 2)))
    for name in ("scan.cfl", "scan.hdr"):
        with pytest.warns(UserWarning, match="assumed"):
            (study,) = read_studies(tmp_path / name)
        assert study.measurements.shape == (1, 2, 4, 4)


def test_unknown_files_are_answered_with_what_is_supported(tmp_path: Path):
    text = tmp_path / "notes.txt"
    for content in (b"", b"hello", bytes(5000)):
        text.write_bytes(content)
        with pytest.raises(UnreadableError, match="ISMRMRD"):
            read_study(text)
        with pytest.raises(UnreadableError, match="NIfTI"):
            read_image(text)
    with pytest.raises(UnreadableError, match="folder"):
        read_study(tmp_path)
    for read in (read_study, read_image):
        with pytest.raises(UnreadableError, match="does not exist"):
            read(tmp_path / "absent")


def test_unknown_hdf5_is_answered_with_what_it_holds(tmp_path: Path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["hu"] = np.zeros(3)
    with pytest.raises(UnreadableError, match="'hu'"):
        read_study(tmp_path / "x.h5")
