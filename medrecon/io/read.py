"""Any measurement file as Studies, any image as a Volume: recognised by content, not by name."""

from __future__ import annotations

from pathlib import Path

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.study import Identity, Study
from medrecon.volume import Unit, Volume

STUDIES = (
    "medrecon-study, DXchange and NXtomo projections (HDF5), DICOM-CT-PD projections (a folder), "
    "ISMRMRD and fastMRI k-space (HDF5), Siemens twix (.dat), BART k-space (.cfl, .hdr), k-space "
    "arrays (.npy), HTC 2022 fan beam (.mat)"
)
"""What :func:`read_studies` takes."""

IMAGES = "NIfTI files (.nii, .nii.gz) and DICOM series (a folder or a file)"
"""What :func:`read_image` takes."""

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NPY = b"\x93NUMPY"
_BART = b"# Dimensions"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MANY = 12  # labels in one message
_TIFF_NEEDS = (
    "it says no angles or distances, so name it in a protocol with its acquisition (see "
    "docs/file-formats.md)."
)


def read_studies(path: Path, *, missing_views: int = 0) -> tuple[Study, ...]:
    """Read all that was measured, of any supported format.

    Parameters
    ----------
    path
        One file; for DICOM-CT-PD the folder of the series.
    missing_views
        How many views a DICOM-CT-PD series may lack.

    Returns
    -------
    tuple of Study
        One per image. CT files hold one; MR files as many as they have contrasts, repetitions,
        slabs and so on, told apart by their ``label``.

    Raises
    ------
    UnreadableError
        If the file is missing, damaged or of no supported format.
    InconsistentError
        If its content contradicts itself or physics.
    """
    found = _read(path, missing_views)
    return found if isinstance(found, tuple) else (found,)


def read_study(path: Path, *, label: str | None = None, missing_views: int = 0) -> Study:
    """Read the measurements of one image.

    Parameters
    ----------
    path
        As for :func:`read_studies`.
    label
        Which image, where the file holds several.
    missing_views
        How many views a DICOM-CT-PD series may lack.

    Returns
    -------
    Study
        CT or MR measurements with their geometry.

    Raises
    ------
    UnreadableError
        As :func:`read_studies`.
    InconsistentError
        As :func:`read_studies`; also if the file holds several images and no label chooses one,
        or none has that label. The message lists the labels.
    """
    return select(read_studies(path, missing_views=missing_views), label, path)


def select(studies: tuple[Study, ...], label: str | None, path: Path) -> Study:
    """Choose the image of that label, or the only one.

    Raises
    ------
    InconsistentError
        Lists the labels, if there is no such image or no choice was made among several.
    """
    if label is None and len(studies) == 1:
        return studies[0]
    labels = [study.label or "(no label)" for study in studies]
    names = ", ".join(labels[:_MANY]) + (", ..." if len(labels) > _MANY else "")
    if label is None:
        raise InconsistentError(f"{path} holds {len(studies)} images, choose one of them: {names}.")
    for study in studies:
        if study.label == label:
            return study
    raise InconsistentError(f"{path} holds no image {label!r}; it holds: {names}.")


def _read(path: Path, missing_views: int) -> Study | tuple[Study, ...]:
    if path.is_dir():
        return _read_folder(path, missing_views)
    head = _head(path)
    if head.startswith(_HDF5):
        return _read_hdf5(path)
    if head.startswith(_NPY):
        from medrecon.io.kspace_npy import read_kspace_npy

        return read_kspace_npy(path)
    if head.startswith(b"MATLAB 5.0"):
        from medrecon.io.htc import read_htc

        return read_htc(path)
    if head[128:132] == b"DICM":
        return _read_dicom(path)
    if head.startswith(_TIFF):
        raise UnreadableError(f"{path} is a TIFF image; {_TIFF_NEEDS}")
    if _is_bart(path, head):
        from medrecon.io.cfl import read_cfl

        return read_cfl(path)
    if _is_twix(head):
        from medrecon.io.twix import read_twix

        return read_twix(path)
    raise UnreadableError(f"{path} holds no measurements known here; supported are {STUDIES}.")


def read_image(
    path: Path, *, unit: Unit | None = None, series_number: int | None = None
) -> tuple[Volume, Identity]:
    """Read a NIfTI file or a DICOM series.

    Parameters
    ----------
    path
        A NIfTI file, a DICOM file, or a folder with a DICOM series.
    unit
        What NIfTI voxels mean, where the file does not say it.
    series_number
        Which series, where a DICOM folder holds several.

    Returns
    -------
    volume : Volume
        float32 voxels on their grid.
    identity : Identity
        Of the DICOM series; empty for NIfTI.

    Raises
    ------
    UnreadableError
        If there is no such image, or it is damaged.
    InconsistentError
        If it is not one regular volume.
    """
    from medrecon.io.ct_pd import is_ct_pd
    from medrecon.io.dicom_read import is_dicom, read_dicom_series
    from medrecon.io.nifti import is_nifti, read_nifti

    if path.is_dir() or is_dicom(path):
        if is_ct_pd(path):
            raise UnreadableError(f"{path} holds CT projections (DICOM-CT-PD), not an image.")
        return read_dicom_series(path, series_number=series_number)
    if is_nifti(path) or path.name.endswith((".nii", ".nii.gz")):
        return read_nifti(path, unit=unit), Identity()
    _head(path)  # says why, if it cannot be opened at all
    raise UnreadableError(f"{path} is no image known here; supported are {IMAGES}.")


def _read_folder(path: Path, missing_views: int) -> Study:
    from medrecon.io.ct_pd import is_ct_pd, read_ct_pd

    if is_ct_pd(path):
        return read_ct_pd(path, missing_views=missing_views)
    if any(_begins(file, _TIFF) for file in sorted(path.iterdir())[:1]):
        raise UnreadableError(f"{path} is a folder of TIFF images; {_TIFF_NEEDS}")
    raise UnreadableError(f"{path} is a folder without projections; supported are {STUDIES}.")


def _read_dicom(path: Path) -> Study:
    from medrecon.io.ct_pd import is_ct_pd

    if is_ct_pd(path):
        raise UnreadableError(
            f"{path} is one view of a DICOM-CT-PD series; give the folder of the series."
        )
    raise UnreadableError(f"{path} is a DICOM image, not measurements; supported are {STUDIES}.")


def _begins(file: Path, marks: tuple[bytes, ...]) -> bool:
    return file.is_file() and _head(file).startswith(marks)


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise UnreadableError(f"{path} is a folder; give one file. Supported are {STUDIES}.")
    if not path.is_file():
        raise UnreadableError(f"{path} is not a file, or does not exist.")
    try:
        with path.open("rb") as file:
            return file.read(1024)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be opened: {error.strerror}.") from error


def _read_hdf5(path: Path) -> Study | tuple[Study, ...]:
    from medrecon.io import dxchange, fastmri, nxtomo, projections
    from medrecon.io.hdf5 import list_members, open_hdf5

    with open_hdf5(path) as file:
        ours = projections.is_projections(file)
        exchange = dxchange.is_dxchange(file)
        nexus = nxtomo.is_nxtomo(file)
        # ISMRMRD names its group freely; it holds an XML header beside the readouts.
        mrd = any({"xml", "data"} <= set(g) for g in file.values() if hasattr(g, "keys"))
        fast = fastmri.is_fastmri(file)
        members = list_members(file)
    if ours:
        return projections.read_projections(path)
    if exchange:
        return dxchange.read_dxchange(path)
    if nexus:
        return nxtomo.read_nxtomo(path)
    if mrd:
        from medrecon.io.ismrmrd import read_ismrmrd

        return read_ismrmrd(path)
    if fast:
        return fastmri.read_fastmri(path)
    raise UnreadableError(
        f"{path} is HDF5 with {members}, no layout known here; supported are {STUDIES}."
    )


def _is_bart(path: Path, head: bytes) -> bool:
    """Only the text file of the two has a mark; values alone are known by their name."""
    return head.startswith(_BART) or path.suffix == ".cfl"


def _is_twix(head: bytes) -> bool:
    """Siemens raw data has no signature: VD and later begin with 0 and a small count of scans.

    VB begins with the length of its text header, a plausible number, and the name of its first
    part, ``Config``, soon after.
    """
    if len(head) < 64:
        return False
    first = int.from_bytes(head[:4], "little")
    second = int.from_bytes(head[4:8], "little")
    if first < 10_000 and 1 <= second <= 64:
        return True
    return b"Config\0" in head[:64]
