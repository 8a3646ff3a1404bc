"""Read slices to train a prior on: one HDF5 dataset, an image a row."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import UnreadableError
from medrecon.io.hdf5 import open_hdf5, read_dataset

Modality = Literal["ct", "mr"]

_DATASET = {"ct": "hu", "mr": "magnitude"}
_SPACING = "spacing_mm"
_WINDOW_HU = (-1000.0, 1600.0)
_MAGNITUDE_ONE = 1000.0  # how the files write the 99.5th percentile of a volume


def read_slices(path: Path, modality: Modality) -> Tensor:
    """Read training slices and map them to the prior's range.

    CT (dataset ``hu``): [-1000, 1600] HU, cut off there, to [-1, 1].  MR (dataset ``magnitude``,
    1000 at the volume's 99.5th percentile): that percentile to 1.

    Parameters
    ----------
    path
        HDF5 file with a numeric dataset ``(slices, y, x)``.
    modality
        ``"ct"`` or ``"mr"``.

    Returns
    -------
    Tensor
        float32, shape ``(slices, y, x)``.

    Raises
    ------
    UnreadableError
        If the file is not HDF5, or the dataset is missing, empty, of another shape, or holds
        something else than finite numbers.
    ResourceError
        If it is larger than one dataset may be.
    """
    name = _DATASET[modality]
    with open_hdf5(path) as file:
        stored = read_dataset(file, name)
    if stored.ndim != 3 or 0 in stored.shape or stored.dtype.kind not in "iuf":
        raise UnreadableError(
            f"{path}: dataset {name!r} must hold numbers with the axes (slices, y, x), got "
            f"{stored.dtype} with shape {stored.shape}."
        )
    values: NDArray[np.float32] = stored.astype(np.float32)
    if not np.isfinite(values).all():
        raise UnreadableError(f"{path}: dataset {name!r} holds NaN or infinite numbers.")
    if modality == "mr":
        return torch.from_numpy(values / np.float32(_MAGNITUDE_ONE))
    low, high = _WINDOW_HU
    return torch.from_numpy((np.clip(values, low, high) - low) / np.float32((high - low) / 2) - 1)


def read_pixel_range(path: Path) -> tuple[float, float] | None:
    """Read the smallest and largest pixel of training slices, mm; ``None`` where it is not said.

    Raises
    ------
    UnreadableError
        If the file is not HDF5, or its ``spacing_mm`` is not positive numbers.
    """
    with open_hdf5(path) as file:
        if _SPACING not in file:
            return None
        spacing = read_dataset(file, _SPACING)
    if spacing.size == 0 or spacing.dtype.kind not in "iuf" or not (spacing > 0).all():
        raise UnreadableError(f"{path}: dataset {_SPACING!r} must hold pixel sizes in mm.")
    return round(float(spacing.min()), 3), round(float(spacing.max()), 3)
