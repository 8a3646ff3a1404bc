"""Read k-space as BART keeps it: 16 dimensions, trajectory and maps in files of their own.

=====  ==========  ==========================================
axis   BART        here
=====  ==========  ==========================================
0      READ        x, the readout (1 along a trajectory)
1      PHS1        y, or the samples of a shot
2      PHS2        z of 3D encoding, or the shots
3      COIL        coils
4      MAPS        sets of coil maps
5      TE          contrasts, one image each
10     TIME        repetitions, one image each
11     TIME2       phases, one image each
13     SLICE       slices of 2D encoding
=====  ==========  ==========================================

The transform is ``bart fft -u``: centred and orthonormal. Other scales (``bart phantom -k``) are
taken as they come; only a stated ``noise_std`` depends on them. ``NAME_traj`` and ``NAME_sens``
beside ``NAME`` are its trajectory and its coil maps, ``NAME.yaml`` says where the volume is.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from medrecon.errors import InconsistentError
from medrecon.geometry.trajectory import from_library
from medrecon.io.cfl_files import base_of, pair, read_pair
from medrecon.io.kspace_study import KspaceArray, matrix_within_reach
from medrecon.io.sidecar import Sidecar, read_sidecar, sidecar_path
from medrecon.raw.plausible import Complex, require_finite
from medrecon.study import Study

_READ, _PHS1, _PHS2, _COIL, _MAPS, _SLICE = 0, 1, 2, 3, 4, 13
_IMAGES = {5: "contrast", 11: "phase", 10: "repetition"}
_REFUSED = {
    4: "MAPS", 6: "COEFF", 7: "COEFF2", 8: "ITER", 9: "CSHIFT", 12: "LEVEL", 14: "AVG", 15: "BATCH",
}  # fmt: skip
_OFF_PLANE = 1e-3  # cycles per field of view


def read_cfl(path: Path) -> tuple[Study, ...]:
    """Read k-space of BART.

    Parameters
    ----------
    path
        One of the two files, ``NAME.cfl`` or ``NAME.hdr``.

    Returns
    -------
    tuple of Study
        One per contrast, repetition and phase.

    Raises
    ------
    UnreadableError
        If a file is missing or damaged.
    InconsistentError
        If dimensions do not make k-space, or trajectory, maps or the text beside it do not fit.
    ResourceError
        If it is larger than memory allows.

    Warns
    -----
    UserWarning
        Where size or place of the voxels are assumed.
    """
    base = base_of(path)
    kspace = read_pair(base)
    sidecar = read_sidecar(path.with_name(f"{base.name}.cfl"))
    if sidecar.axes or sidecar.trajectory_file or sidecar.maps_file:
        raise InconsistentError(
            f"{path}: axes, trajectory_file and maps_file are for NumPy arrays; BART's axes are "
            "fixed, its files are called NAME_traj and NAME_sens."
        )
    for axis, name in _REFUSED.items():
        if kspace.shape[axis] > 1:
            raise InconsistentError(
                f"{path}: dimension {axis} ({name}) has {kspace.shape[axis]} entries, which are "
                "no axis of measured k-space here; extract one of them (bart slice)."
            )
    trajectories = _companion(base, "traj")
    maps = _companion(base, "sens")
    if trajectories is None:
        studies = tuple(_cartesian(kspace, maps, sidecar, path))
    else:
        studies = tuple(_along(kspace, trajectories, maps, sidecar, path))
    _warn(base, sidecar.assumed)
    return studies


def _warn(base: Path, assumed: tuple[str, ...]) -> None:
    if assumed:
        beside = sidecar_path(base.parent / f"{base.name}.cfl")
        reason = f"{beside.name} leaves it open" if beside else "BART's files do not say it"
        warnings.warn(
            f"{base}: assumed for the volume, because {reason}: {', '.join(assumed)}.",
            stacklevel=3,
        )


def _companion(base: Path, what: str) -> Complex | None:
    other = base.parent / f"{base.name}_{what}"
    return read_pair(other) if any(file.exists() for file in pair(other)) else None


def _images(kspace: Complex) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Label and index along the axes of images, of every image."""
    sizes = [kspace.shape[axis] for axis in _IMAGES]
    for index in itertools.product(*map(range, sizes)):
        named = zip(_IMAGES.values(), sizes, index, strict=True)
        yield "_".join(f"{name}-{i + 1}" for name, size, i in named if size > 1), index


def _one(array: Complex, index: tuple[int, ...]) -> Complex:
    """Cut out one image; an axis of size 1 serves all."""
    for axis, i in zip(_IMAGES, index, strict=True):
        array = array.take([i if array.shape[axis] > 1 else 0], axis=axis)
    return array


def _cartesian(
    kspace: Complex, maps: Complex | None, sidecar: Sidecar, path: Path
) -> Iterator[Study]:
    x, y, z, slices = (kspace.shape[axis] for axis in (_READ, _PHS1, _PHS2, _SLICE))
    is_3d = z > 1 or (sidecar.encoding == "3d" and slices == 1)
    if is_3d and (slices > 1 or sidecar.encoding == "2d"):
        raise InconsistentError(
            f"{path}: {z} partitions (dimension 2) and {slices} slices (dimension 13) cannot be "
            "one image; 3D encoding has one slice, 2D encoding one partition."
        )
    shape = (z if is_3d else slices, y, x)
    if sidecar.matrix not in (None, shape):
        raise InconsistentError(
            f"{path}: the text beside it says matrix {sidecar.matrix}, the array has {shape}."
        )
    start = _start(sidecar, shape, is_3d, maps, path)
    for label, index in _images(kspace):
        values = _one(kspace, index).reshape(x, y, z, kspace.shape[_COIL], slices, order="F")
        ours = (
            values[..., 0].transpose(3, 2, 1, 0) if is_3d else values[:, :, 0].transpose(3, 2, 1, 0)
        )
        yield replace(start, kspace=ours, label=label).study()


def _along(
    kspace: Complex, trajectories: Complex, maps: Complex | None, sidecar: Sidecar, path: Path
) -> Iterator[Study]:
    read, samples, shots, coils = kspace.shape[:4]
    slices = kspace.shape[_SLICE]
    fits = read == 1 and trajectories.shape[:3] == (3, samples, shots)
    shared = all(
        trajectories.shape[axis] in (1, kspace.shape[axis] if axis in _IMAGES else 1)
        for axis in range(3, 16)
    )
    if not fits or not shared:
        raise InconsistentError(
            f"{path}: k-space has the dimensions {_shown(kspace)}, its trajectory "
            f"{_shown(trajectories)}; (1, samples, shots, ...) and (3, samples, shots) fit."
        )
    require_finite(trajectories, path, "trajectory")
    is_3d = bool(np.abs(trajectories[2].real).max() > _OFF_PLANE)
    if is_3d and slices > 1:
        raise InconsistentError(f"{path}: a 3D trajectory has one slice, got {slices}.")
    matrix = _matrix(trajectories, maps, sidecar, is_3d, slices, path)
    start = _start(sidecar, matrix, is_3d, maps, path)
    for label, index in _images(kspace):
        positions = _one(trajectories, index).real.reshape(3, samples, shots).astype(np.float64)
        values = _one(kspace, index).reshape(samples, shots, coils, slices, order="F")
        ours = values.transpose(3, 2, 1, 0)
        yield replace(
            start,
            kspace=ours[0] if is_3d else ours,
            label=label,
            trajectory=from_library(positions, "bart", matrix if is_3d else matrix[1:]),
        ).study()


def _matrix(
    trajectories: Complex,
    maps: Complex | None,
    sidecar: Sidecar,
    is_3d: bool,
    slices: int,
    path: Path,
) -> tuple[int, int, int]:
    if sidecar.matrix is not None:
        found = sidecar.matrix
    elif maps is not None:
        found = (maps.shape[2] if is_3d else slices, maps.shape[1], maps.shape[0])
    else:
        flat = trajectories.real.reshape(3, -1).T[None, :, ::-1].astype(np.float64)
        reach = matrix_within_reach(flat)
        found = (reach[0] if is_3d else slices, reach[1], reach[2])
        warnings.warn(
            f"{path}: the matrix is not said; {found} (z, y, x) holds the whole trajectory and is "
            "taken.",
            stacklevel=4,
        )
    if not is_3d and found[0] != slices:
        raise InconsistentError(
            f"{path}: matrix {found} has {found[0]} voxels along z for {slices} slices."
        )
    return found


def _start(
    sidecar: Sidecar,
    shape: tuple[int, int, int],
    is_3d: bool,
    maps: Complex | None,
    path: Path,
) -> KspaceArray:
    """Make what all images of the file share."""
    return KspaceArray(
        kspace=np.zeros((0, 0, 0)),
        is_3d=is_3d,
        grid=sidecar.grid(shape, path),
        path=path,
        maps=None if maps is None else our_maps(maps, is_3d),
        noise_std=sidecar.noise_std,
    )


def our_maps(maps: Complex, is_3d: bool) -> Complex:
    """Bring maps into ``(sets, z, coils, y, x)`` or ``(sets, coils, z, y, x)``."""
    x, y, z, coils, sets = maps.shape[:5]
    five = maps.reshape(x, y, z, coils, sets, -1, order="F")
    if is_3d:
        return five[..., 0].transpose(4, 3, 2, 1, 0)
    return five[:, :, 0].transpose(3, 4, 2, 1, 0)


def _shown(array: Complex) -> str:
    shape = list(array.shape)
    while len(shape) > 4 and shape[-1] == 1:
        shape.pop()
    return " x ".join(map(str, shape))
