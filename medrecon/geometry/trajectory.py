"""Trajectories of other libraries and back: units, orders of axes, shapes.

Here a trajectory is ``(shots, samples, 2 or 3)``, in cycles per field of view, the last axis in the
order of the image's axes: ``(ky, kx)`` or ``(kz, ky, kx)``; see
:class:`~medrecon.geometry.NonCartesian`. Every library below uses the same sign,
``exp(-2 pi i k r)`` from image to k-space.

=============  ===========================  ===================  ==========================
library        unit                         order of axes        shape
=============  ===========================  ===================  ==========================
bart           cycles per field of view     ``kx, ky, kz``       ``(3, samples, shots)``
sigpy          cycles per field of view     image axes           ``(shots, samples, d)``
mrpro          cycles per field of view     ``kz, ky, kx``       ``(3, shots, samples)``
mri_nufft      cycles per voxel             image axes           ``(shots, samples, d)``
finufft        radians per voxel            image axes           ``(d, shots * samples)``
torchkbnufft   radians per voxel            image axes           ``(d, shots * samples)``
=============  ===========================  ===================  ==========================

A field of view of ``n`` voxels has ``n`` cycles per field of view for one cycle per voxel.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError

Library = Literal["bart", "sigpy", "mrpro", "mri_nufft", "finufft", "torchkbnufft"]
Array = NDArray[np.float64]


def from_library(
    trajectory: Array, library: Library, shape: tuple[int, ...], *, shots: int = 1
) -> Array:
    """Convert a trajectory of another library.

    Parameters
    ----------
    trajectory
        In the library's unit, order and shape (the table above). The three components of ``bart``
        and ``mrpro`` may be given for a trajectory in the plane; what is along z is left out.
    library
        Whose.
    shape
        Encoded image axes, ``(y, x)`` or ``(z, y, x)``.
    shots
        Into how many shots the flat lists of ``finufft`` and ``torchkbnufft`` fall.

    Returns
    -------
    ndarray
        float64 ``(shots, samples, d)``, cycles per field of view.

    Raises
    ------
    InconsistentError
        If the library is not known, or the shape is not the library's.
    """
    _known(library)
    k, d, size = np.asarray(trajectory, dtype=np.float64), len(shape), np.array(shape, float)
    if library in ("sigpy", "mri_nufft"):
        _expect(k.ndim == 3 and k.shape[-1] == d, k, library, f"(shots, samples, {d})")
        scaled: Array = k * size if library == "mri_nufft" else k.copy()
        return scaled
    if library in ("finufft", "torchkbnufft"):
        fits = k.ndim == 2 and len(k) == d and shots >= 1 and k.shape[1] % shots == 0
        _expect(fits, k, library, f"({d}, shots * samples) with {shots} shots")
        listed: Array = k.T.reshape(shots, -1, d) * size / (2 * math.pi)
        return listed
    _expect(k.ndim == 3 and len(k) == 3, k, library, "(3, ., .)")
    ordered = k.transpose(2, 1, 0)[..., ::-1] if library == "bart" else k.transpose(1, 2, 0)
    return np.ascontiguousarray(ordered[..., 3 - d :])


def to_library(trajectory: Array, library: Library, shape: tuple[int, ...]) -> Array:
    """Convert a trajectory for another library: the inverse of :func:`from_library`.

    Raises
    ------
    InconsistentError
        If the library is not known, or the trajectory does not fit ``shape``.
    """
    _known(library)
    k, d, size = np.asarray(trajectory, dtype=np.float64), len(shape), np.array(shape, float)
    _expect(k.ndim == 3 and k.shape[-1] == d, k, "medrecon", f"(shots, samples, {d})")
    if library in ("sigpy", "mri_nufft"):
        scaled: Array = k / size if library == "mri_nufft" else k.copy()
        return scaled
    if library in ("finufft", "torchkbnufft"):
        return np.ascontiguousarray((k * 2 * math.pi / size).reshape(-1, d).T)
    full = np.concatenate([np.zeros((*k.shape[:2], 3 - d)), k], axis=-1)
    ordered = full[..., ::-1].transpose(2, 1, 0) if library == "bart" else full.transpose(2, 0, 1)
    return np.ascontiguousarray(ordered)


def _known(library: str) -> None:
    if library not in get_args(Library):
        raise InconsistentError(
            f"Trajectories of {library} are not known; known are {', '.join(get_args(Library))}."
        )


def _expect(fits: bool, k: Array, library: str, shape: str) -> None:
    if not fits:
        raise InconsistentError(f"A trajectory of {library} has the shape {shape}, got {k.shape}.")
