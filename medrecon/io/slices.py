"""Slices that are ready to train on: one HDF5 file, an image a row."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import UnreadableError
from medrecon.io.hdf5 import open_hdf5, read_dataset

Modality = Literal["CT", "MR"]

_DATASET = {"CT": "hu", "MR": "magnitude"}
_SPACING = "spacing_mm"
_SUBJECT = "subject"
_WINDOW_HU = (-1000.0, 1600.0)
_MAGNITUDE_ONE = 1000.0  # how the files write the 99.5th percentile of a volume


@dataclass(frozen=True)
class StoredSlices:
    """Slices of one patient that follow each other in the file.

    Parameters
    ----------
    subject
        Whose they are; the file's name, where it does not say.
    slices
        float32 ``(slices, y, x)`` in the prior's unit.
    pixel_mm
        Mean pixel, mm; ``None`` where the file does not say.
    """

    subject: str
    slices: Tensor
    pixel_mm: float | None


def read_slices(path: Path, modality: Modality) -> list[StoredSlices]:
    """Read training slices and map them to the prior's unit.

    CT (dataset ``hu``): [-1000, 1600] HU, cut off there, to [-1, 1].  MR (dataset ``magnitude``,
    1000 at the volume's 99.5th percentile): that percentile to 1.  Optional, one item per slice:
    ``subject`` (text), the patient, and ``spacing_mm``, the pixel.

    Parameters
    ----------
    path
        HDF5 file with a numeric dataset ``(slices, y, x)``.
    modality
        ``"CT"`` or ``"MR"``.

    Returns
    -------
    list of StoredSlices
        One for every run of slices of the same subject, in the file's order.

    Raises
    ------
    UnreadableError
        If the file is not HDF5, or a dataset is missing, empty, of another shape, or holds
        something else than finite numbers.
    ResourceError
        If it is larger than one dataset may be.
    """
    name = _DATASET[modality]
    with open_hdf5(path) as file:
        values = _mapped(_images(read_dataset(file, name), name, path), modality)
        subjects = _subjects(file, len(values), path)
        pixels = _pixels(file, len(values), path)
    found = []
    for subject, rows in groupby(range(len(values)), lambda row: subjects[row]):
        first, *rest = rows
        last = rest[-1] if rest else first
        part = slice(first, last + 1)
        pixel = None if pixels is None else round(float(pixels[part].mean()), 4)
        found.append(StoredSlices(subject, values[part], pixel))
    return found


def _images(stored: NDArray[Any], name: str, path: Path) -> NDArray[np.float32]:
    if stored.ndim != 3 or 0 in stored.shape or stored.dtype.kind not in "iuf":
        raise UnreadableError(
            f"{path}: dataset {name!r} must hold numbers with the axes (slices, y, x), got "
            f"{stored.dtype} with shape {stored.shape}."
        )
    values: NDArray[np.float32] = stored.astype(np.float32)
    if not np.isfinite(values).all():
        raise UnreadableError(f"{path}: dataset {name!r} holds NaN or infinite numbers.")
    return values


def _mapped(values: NDArray[np.float32], modality: Modality) -> Tensor:
    if modality == "MR":
        return torch.from_numpy(values / np.float32(_MAGNITUDE_ONE))
    low, high = _WINDOW_HU
    return torch.from_numpy((np.clip(values, low, high) - low) / np.float32((high - low) / 2) - 1)


def _subjects(file: Any, count: int, path: Path) -> list[str]:
    if _SUBJECT not in file:
        return [path.stem] * count
    stored = file[_SUBJECT]
    text = isinstance(stored, h5py.Dataset) and h5py.check_string_dtype(stored.dtype) is not None
    if not text or stored.shape != (count,):
        raise UnreadableError(f"{path}: dataset {_SUBJECT!r} must hold one text per slice.")
    return [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in read_dataset(file, _SUBJECT)
    ]


def _pixels(file: Any, count: int, path: Path) -> NDArray[Any] | None:
    if _SPACING not in file:
        return None
    stored = read_dataset(file, _SPACING)
    if stored.shape != (count,) or stored.dtype.kind not in "iuf" or not (stored > 0).all():
        raise UnreadableError(
            f"{path}: dataset {_SPACING!r} must hold one pixel size in mm per slice."
        )
    return stored
