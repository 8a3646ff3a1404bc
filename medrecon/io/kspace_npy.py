"""Read bare k-space from a ``.npy`` file, as MR tutorials and toolboxes save it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from medrecon.errors import InconsistentError, ResourceError, UnreadableError
from medrecon.geometry import Cartesian
from medrecon.grid import Grid
from medrecon.io.hdf5 import MAX_BYTES
from medrecon.raw.plausible import Complex, live_coils, require_finite, warn_of_spikes
from medrecon.study import Study

_NAMES = {3: "coil, y, x", 4: "slice, coil, y, x"}


def read_kspace_npy(path: Path) -> Study:
    """Read centred multi-coil k-space without any header.

    Parameters
    ----------
    path
        NumPy file with a complex array ``(coils, y, x)`` or ``(z, coils, y, x)``; samples that
        were not measured are exactly zero in all coils.

    Returns
    -------
    Study
        With voxels of 1 mm around the isocentre, since the file says nothing about them.

    Raises
    ------
    UnreadableError
        If the file is missing or no NumPy array (pickled objects are never loaded).
    InconsistentError
        If the array is not complex, has another number of axes, or holds no finite data.
    ResourceError
        If it is larger than memory allows.

    Warns
    -----
    UserWarning
        Always: the file carries no geometry.
    """
    array = _load(path)
    if array.ndim not in _NAMES or not np.iscomplexobj(array):
        raise InconsistentError(
            f"{path}: k-space is complex with the axes (coils, y, x) or (z, coils, y, x), got "
            f"{array.dtype} with shape {array.shape}."
        )
    require_finite(array, path, _NAMES[array.ndim])
    kspace: Complex = np.ascontiguousarray(array.reshape(-1, *array.shape[-3:]), dtype=np.complex64)
    coils = live_coils(np.abs(kspace).sum(axis=(0, 2, 3)), path)
    kspace = kspace[:, coils]
    sampled = (kspace != 0).any(axis=1)
    mask = sampled.any(axis=0)
    if not np.array_equal(sampled, np.broadcast_to(mask, sampled.shape)):
        raise InconsistentError(f"{path}: the slices were sampled differently.")
    warn_of_spikes(kspace, path)
    warnings.warn(
        f"{path} carries no geometry; voxels of 1 mm in an axial stack around the isocentre are "
        "assumed.",
        stacklevel=2,
    )
    shape = (len(kspace), *mask.shape)
    return Study(
        measurements=torch.from_numpy(kspace),
        geometry=Cartesian(mask=mask),
        grid=Grid.centred(shape, (1.0, 1.0, 1.0)),
        source=path,
    )


def _load(path: Path) -> np.ndarray:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, SyntaxError) as error:
        raise UnreadableError(
            f"{path} is no NumPy array, is truncated, or holds pickled objects, which are never "
            "loaded."
        ) from error
    if not isinstance(mapped, np.ndarray):
        raise UnreadableError(f"{path} is an archive of arrays; save the k-space alone.")
    if mapped.nbytes > MAX_BYTES:
        raise ResourceError(f"{path} needs {mapped.nbytes / 2**30:.1f} GiB of memory.")
    return np.array(mapped)
