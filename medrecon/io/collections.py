"""Image files in folders: what is there to train on, and whose it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medrecon.errors import UnreadableError
from medrecon.io.dicom_read import is_dicom

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NIFTI = (".nii", ".nii.gz")
_BIDS = re.compile(r"sub-[A-Za-z0-9]+")


@dataclass(frozen=True, order=True)
class ImageFile:
    """One image of a collection.

    Parameters
    ----------
    path
        An HDF5 file, a NIfTI file, or the folder of one DICOM series.
    kind
        ``"hdf5"``, ``"nifti"`` or ``"dicom"``.
    owner
        Whose it is, as far as its place says; DICOM and HDF5 say it themselves.
    """

    path: Path
    kind: str
    owner: str


def find_images(root: Path) -> list[ImageFile]:
    """Find all images at or below a path, in the order of their names.

    A folder with DICOM files directly in it is one series. A NIfTI file belongs to the ``sub-...``
    in its path (BIDS), else to the folder it lies in, if that is not ``root``, else to itself.

    Raises
    ------
    UnreadableError
        If there is nothing of these formats.
    """
    if not root.exists():
        raise UnreadableError(f"{root} does not exist.")
    found = sorted(_below(root, root))
    if not found:
        raise UnreadableError(f"{root} holds no DICOM series, NIfTI volume or HDF5 slices.")
    return found


def _below(path: Path, root: Path) -> Iterator[ImageFile]:
    if path.is_file():
        kind = _kind(path)
        if kind == "dicom":
            yield ImageFile(path, kind, "")
        elif kind:
            yield ImageFile(path, kind, _owner(path, root))
        return
    series = False
    for entry in sorted(path.iterdir()):
        if entry.is_symlink() or entry.name.startswith("."):
            continue  # links may lead in circles or to another patient's copy
        if entry.is_file() and _kind(entry) == "dicom":
            series = True
        else:
            yield from _below(entry, root)
    if series:
        yield ImageFile(path, "dicom", "")


def _kind(path: Path) -> str:
    if path.name.lower().endswith(_NIFTI):
        return "nifti"
    try:
        with path.open("rb") as file:
            if file.read(8) == _HDF5:
                return "hdf5"
    except OSError:
        return ""
    return "dicom" if is_dicom(path) else ""


def _owner(path: Path, root: Path) -> str:
    named = _BIDS.search(path.as_posix())
    if named:
        return named.group()
    return path.name if path.parent == root or path == root else path.parent.name


def hidden(name: str) -> str:
    """Return a name's stand-in: tells patients apart and says nothing of them.

    >>> hidden("7") == hidden("7"), len(hidden("7"))
    (True, 16)
    """
    return hashlib.sha256(name.encode()).hexdigest()[:16]
