"""Cartesian calibration data from the densely sampled centre of a trajectory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian
from medrecon.geometry.kspace import image_to_kspace
from medrecon.operators.noncartesian import NonCartesianSense
from medrecon.operators.toeplitz import ToeplitzSense
from medrecon.solvers.cg import conjugate_gradients

_LINES = 32  # more than maps are calibrated from
_MARGIN = 12  # lines on either side, for what interpolation needs beyond the last line
_REACH = 0.75  # cycles per field of view, from a Cartesian position to the nearest sample
_ITERATIONS = 15


def cartesian_centre(kspace: Tensor, geometry: NonCartesian, shape: tuple[int, ...]) -> Tensor:
    """Find the Cartesian k-space around the centre that explains what was measured there.

    Samples within a few dozen cycles per field of view are fitted, in the least-squares sense, by
    images on a small grid (conjugate gradients on the normal equations); the small grid's k-space
    is kept where every Cartesian position has a sample near by.

    Parameters
    ----------
    kspace
        Complex, ``(z, coils, shots, samples)``, ``(coils, z, shots, samples)`` for a stack,
        ``(coils, shots, samples)`` for a 3D trajectory.
    geometry
        The trajectory.
    shape
        Voxels of the image, ``(z, y, x)``.

    Returns
    -------
    Tensor
        ``(z, coils, y, x)`` slice-wise, ``(coils, z, y, x)`` otherwise: centred k-space on the
        image's grid, in the scale of the measurements, zero outside the densely sampled centre.

    Raises
    ------
    InconsistentError
        If shapes do not fit, or the centre of k-space was not sampled.
    """
    axes = geometry.trajectory.shape[-1]
    samples = geometry.trajectory.shape[:2]
    leading = kspace.shape[:-2]
    if kspace.shape[-2:] != samples or len(leading) != (1 if axes == 3 else 2) or len(shape) != 3:
        raise InconsistentError(
            f"k-space of shape {tuple(kspace.shape)} and an image of shape {shape} do not fit a "
            f"trajectory of {samples} samples along {axes} axes."
        )
    encoded = shape[-axes:]
    lines = _dense_lines(geometry.trajectory, min(_LINES, *encoded))
    small = lines + 2 * _MARGIN
    inside = (np.abs(geometry.trajectory) < small / 2).all(axis=-1)
    positions = geometry.trajectory[inside][None]
    fitted = _fit(kspace[..., torch.from_numpy(inside)], positions, small)
    full = kspace.new_zeros(*leading, *encoded)
    target = tuple(slice(n // 2 - lines // 2, n // 2 - lines // 2 + lines) for n in encoded)
    source = slice(small // 2 - lines // 2, small // 2 - lines // 2 + lines)
    box = (slice(None),) * len(leading)
    full[box + target] = fitted[box + (source,) * axes]
    if geometry.partitions is not None:
        full[:, torch.from_numpy(~geometry.partitions)] = 0
    return full


def _fit(samples: Tensor, positions: NDArray[np.float64], size: int) -> Tensor:
    """k-space ``(*batch, size, ...)`` of the small images that fit ``(*batch, samples)`` best.

    Every cell of the Cartesian grid counts the same, however many samples it has: conjugate
    gradients then need few iterations, and the centre of k-space does not outweigh its rim.
    """
    axes = positions.shape[-1]
    one_coil = samples.new_ones(1, *(1,) * (3 - axes), *(size,) * axes)
    A = NonCartesianSense(one_coil, NonCartesian(trajectory=positions))
    weights = _per_cell(positions)
    normal = ToeplitzSense(one_coil, A.nufft, A.blocks, None, weights)
    weighted = samples * torch.from_numpy(weights[0]).to(samples.real)
    images = conjugate_gradients(
        normal,
        A.adjoint(weighted.reshape(-1, *A.codomain.shape)),
        blocks=1,
        max_iterations=_ITERATIONS,
        tolerance=1e-4,
    ).value
    fitted = images.reshape(*samples.shape[:-1], *(size,) * axes)
    return image_to_kspace(fitted, range(-axes, 0))


def _per_cell(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over the number of samples in a sample's cell of the Cartesian grid."""
    cells = np.rint(positions).astype(np.int64).reshape(-1, positions.shape[-1])
    _, cell, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    share: NDArray[np.float64] = 1 / count[cell.reshape(positions.shape[:-1])]
    return share


def _dense_lines(trajectory: NDArray[np.float64], most: int) -> int:
    """Width of the largest centred box of Cartesian positions that all have a sample near by."""
    axes = trajectory.shape[-1]
    near = trajectory[(np.abs(trajectory) <= most / 2 + 1).all(axis=-1)]
    if not len(near):
        raise InconsistentError(_SPARSE)
    grid = np.stack(np.meshgrid(*[np.arange(most) - most // 2] * axes, indexing="ij"), axis=-1)
    distance, _ = cKDTree(near).query(grid.reshape(-1, axes), distance_upper_bound=_REACH)
    dense = np.isfinite(distance).reshape(grid.shape[:-1])
    for lines in range(most, 0, -1):
        start = most // 2 - lines // 2
        if dense[(slice(start, start + lines),) * axes].all():
            return lines
    raise InconsistentError(_SPARSE)


_SPARSE = (
    "The trajectory has no sample near the centre of k-space, where coil maps are calibrated; give "
    "maps or a separate calibration scan."
)
