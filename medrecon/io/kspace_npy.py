"""Read k-space from a ``.npy`` file, as MR tutorials and toolboxes save it.

What the array does not say (axes, voxel size, place, trajectory) may stand in a text file beside
it, see :mod:`medrecon.io.sidecar`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry.trajectory import from_library
from medrecon.io.kspace_study import KspaceArray
from medrecon.io.npy import load_finite, load_npy
from medrecon.io.sidecar import Axis, Sidecar, read_sidecar, sidecar_path
from medrecon.study import Study

_BARE: dict[str, dict[int, tuple[Axis, ...]]] = {
    "2d": {3: ("coil", "y", "x"), 4: ("z", "coil", "y", "x")},
    "3d": {4: ("coil", "z", "y", "x")},
}
IMAGES: tuple[Axis, ...] = ("contrast", "phase", "repetition", "set")
"""Axes whose entries are images of their own, in the order of labels."""

_ORDER: dict[tuple[str, bool], tuple[Axis, ...]] = {
    ("2d", False): (*IMAGES, "z", "coil", "y", "x"),
    ("3d", False): (*IMAGES, "coil", "z", "y", "x"),
    ("2d", True): (*IMAGES, "z", "coil", "shot", "sample"),
    ("3d", True): (*IMAGES, "coil", "z", "shot", "sample"),
}


def read_kspace_npy(path: Path) -> tuple[Study, ...]:
    """Read centred multi-coil k-space.

    Parameters
    ----------
    path
        NumPy file with a complex array, ``(coils, y, x)`` or ``(z, coils, y, x)`` unless a text
        file beside it names other axes; samples that were not measured are exactly zero in all
        coils. Slices may be sampled differently.

    Returns
    -------
    tuple of Study
        One, or one per contrast, phase, repetition and set.

    Raises
    ------
    UnreadableError
        If the file is missing or no NumPy array (pickled objects are never loaded).
    InconsistentError
        If the array is not complex, has other axes, or holds no finite data; or the text beside
        it is not valid or does not fit.
    ResourceError
        If it is larger than memory allows.

    Warns
    -----
    UserWarning
        Where size or place of the voxels are assumed.
    """
    array = load_npy(path)
    sidecar = read_sidecar(path)
    kspace, is_3d = _ordered(array, sidecar, path)
    trajectory = _trajectory(path, sidecar, kspace, is_3d)
    matrix = _matrix(sidecar, kspace, is_3d, trajectory, path)
    grid = sidecar.grid(matrix, path)
    maps = None
    if sidecar.maps_file is not None:
        maps = load_finite(path.parent / sidecar.maps_file, "maps")
    if trajectory is not None and trajectory.shape[-1] == 3:
        kspace = kspace[..., 0, :, :]
    studies = tuple(
        KspaceArray(
            kspace=image,
            is_3d=is_3d,
            grid=grid,
            path=path,
            trajectory=trajectory,
            maps=maps,
            noise_std=sidecar.noise_std,
            label=label,
        ).study()
        for label, image in _images(kspace)
    )
    _warn(path, sidecar.assumed)
    return studies


def _images(kspace: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Label and samples of every image."""
    sizes = kspace.shape[: len(IMAGES)]
    for index in itertools.product(*map(range, sizes)):
        named = zip(IMAGES, sizes, index, strict=True)
        yield "_".join(f"{name}-{i + 1}" for name, size, i in named if size > 1), kspace[index]


def _ordered(array: NDArray[Any], sidecar: Sidecar, path: Path) -> tuple[NDArray[Any], bool]:
    """Bring the array into the order of a study, images in front; missing axes are 1."""
    encoding = sidecar.encoding or "2d"
    axes = sidecar.axes or _BARE[encoding].get(array.ndim, ())
    along = sidecar.trajectory_file is not None
    order = _ORDER[encoding, along]
    needed = set(order[-2:])
    strange = set(axes) - set(order)
    if not np.iscomplexobj(array) or array.ndim != len(axes) or 0 in array.shape:
        names = ", ".join(axes) or "coil, y, x) or (z, coil, y, x"
        raise InconsistentError(
            f"{path}: k-space is complex with the axes ({names}), got {array.dtype} with shape "
            f"{array.shape}; other axes can be named in a text file beside it."
        )
    if strange or not needed <= set(axes):
        raise InconsistentError(
            f"{path}: {encoding.upper()} k-space {'along a trajectory' if along else 'on a grid'} "
            f"has the axes {', '.join(order)} (any but the last two may be missing), got "
            f"{', '.join(axes)}."
        )
    present = [axis for axis in order if axis in axes]
    moved = array.transpose([axes.index(axis) for axis in present])
    shape = [moved.shape[present.index(a)] if a in present else 1 for a in order]
    return moved.reshape(shape), encoding == "3d"


def _trajectory(
    path: Path, sidecar: Sidecar, kspace: NDArray[Any], is_3d: bool
) -> NDArray[np.float64] | None:
    if sidecar.trajectory_file is None or sidecar.trajectory_library is None:
        return None
    file = path.parent / sidecar.trajectory_file
    positions = load_finite(file, "trajectory")
    if np.iscomplexobj(positions):
        raise InconsistentError(f"{file}: positions of a trajectory are real numbers.")
    stack = is_3d and kspace.shape[-3] > 1
    axes = 3 if is_3d and not stack else 2
    if sidecar.trajectory_library == "medrecon":
        if positions.ndim != 3 or positions.shape[-1] != axes:
            raise InconsistentError(
                f"{file}: a trajectory is (shots, samples, {axes}) here, got {positions.shape}."
            )
        return positions.astype(np.float64)
    if sidecar.matrix is None:
        raise InconsistentError(f"{path}: a trajectory needs the key matrix beside it.")
    return from_library(
        positions, sidecar.trajectory_library, sidecar.matrix[-axes:], shots=kspace.shape[-2]
    )


def _matrix(
    sidecar: Sidecar,
    kspace: NDArray[Any],
    is_3d: bool,
    trajectory: NDArray[np.float64] | None,
    path: Path,
) -> tuple[int, int, int]:
    depth = kspace.shape[-3 if is_3d else -4]
    if trajectory is None:
        found = (depth, kspace.shape[-2], kspace.shape[-1])
        if sidecar.matrix not in (None, found):
            raise InconsistentError(
                f"{path}: the text beside it says matrix {sidecar.matrix}, the array has {found}."
            )
        return found
    if sidecar.matrix is None:
        raise InconsistentError(f"{path}: a trajectory needs the key matrix beside it.")
    if trajectory.shape[-1] == 2 and sidecar.matrix[0] != depth:
        raise InconsistentError(
            f"{path}: matrix {sidecar.matrix} has {sidecar.matrix[0]} voxels along z, the array "
            f"{depth}."
        )
    return sidecar.matrix


def _warn(path: Path, assumed: tuple[str, ...]) -> None:
    if sidecar_path(path) is None:
        warnings.warn(
            f"{path} carries no geometry; voxels of 1 mm in an axial stack around the isocentre "
            "are assumed (a text file beside it can say it, see docs/file-formats.md).",
            stacklevel=3,
        )
    elif assumed:
        warnings.warn(
            f"{path}: the text beside it leaves open where the volume is; assumed: "
            f"{', '.join(assumed)}.",
            stacklevel=3,
        )
