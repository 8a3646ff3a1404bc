"""Coil maps and field maps that a protocol names as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.grid import Grid
from medrecon.io.cfl import our_maps
from medrecon.io.cfl_files import base_of, read_pair
from medrecon.io.nifti import is_nifti, read_nifti
from medrecon.io.npy import load_finite
from medrecon.raw.plausible import require_finite
from medrecon.resample import resample


def read_coil_maps(path: Path, *, is_3d: bool) -> Tensor:
    """Read coil sensitivities: a NumPy array, or BART's pair of files.

    Parameters
    ----------
    path
        ``.npy``, laid out as :attr:`medrecon.study.Study.maps` says, or ``(coils, y, x)`` for one
        slice; ``.cfl`` or ``.hdr`` with BART's axes.
    is_3d
        Whether the scan encodes z.

    Returns
    -------
    Tensor
        complex64, with a leading axis of map sets where there are several.

    Raises
    ------
    UnreadableError
        If the file is missing or damaged.
    InconsistentError
        If it holds something else than finite numbers in 3 to 5 axes.
    """
    if path.suffix in (".cfl", ".hdr"):
        array = read_pair(base_of(path))
        require_finite(array, path, "coil maps")
        maps = our_maps(array, is_3d)
    else:
        maps = load_finite(path, "coil maps").astype(np.complex64)
        if maps.ndim == 3 and not is_3d:
            maps = maps[None]
    if maps.ndim == 5 and len(maps) == 1:
        maps = maps[0]
    if maps.ndim not in (4, 5):
        raise InconsistentError(f"{path}: coil maps have 4 or 5 axes, got {maps.shape}.")
    return torch.from_numpy(np.ascontiguousarray(maps))


def read_field_map(path: Path, grid: Grid) -> Tensor:
    """Read off-resonance in Hz on the grid of a scan.

    Parameters
    ----------
    path
        NIfTI, brought onto the grid wherever it lies (0 Hz beyond its border), or ``.npy`` of the
        grid's shape.
    grid
        Of the scan.

    Returns
    -------
    Tensor
        float32 ``(z, y, x)``.

    Raises
    ------
    UnreadableError
        If the file is missing or damaged.
    InconsistentError
        If it does not fit the grid.
    """
    if is_nifti(path):
        return resample(read_nifti(path), grid, outside=0.0, order=1).data
    values = load_finite(path, "field map")
    if values.shape != grid.shape or np.iscomplexobj(values):
        raise InconsistentError(
            f"{path}: a field map is real and has the shape of the image, {grid.shape}; got "
            f"{values.dtype} {values.shape}."
        )
    return torch.from_numpy(values.astype(np.float32))
