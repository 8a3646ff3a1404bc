"""Interpolation of a volume onto another grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from medrecon.grid import Grid
from medrecon.volume import Volume


def resample(volume: Volume, grid: Grid, *, outside: float, order: int = 3) -> Volume:
    """Interpolate by splines (cubic by default) at the voxel centres of another grid.

    Parameters
    ----------
    volume
        What to interpolate.
    grid
        Where; any orientation.
    outside
        Value of voxels beyond the volume's own.
    order
        Order of the spline.
    """
    transform = np.linalg.inv(volume.grid.affine) @ grid.affine
    # In front of the border voxel's centre there is still half a voxel of volume: "nearest"
    # continues it, and the mask below ends it at the border.
    values = ndimage.affine_transform(
        volume.data.numpy().astype(np.float32),
        transform[:3, :3],
        transform[:3, 3],
        output_shape=grid.shape,
        order=order,
        mode="nearest",
    )
    data = torch.from_numpy(values)
    for axis in range(3):
        index = _source_index(transform, axis, grid.shape)
        inside = (index > -0.5 - 1e-6) & (index < volume.grid.shape[axis] - 0.5 + 1e-6)
        data = torch.where(torch.from_numpy(inside), data, outside)
    return Volume(data, grid, volume.unit)


def _source_index(
    transform: NDArray[np.float64], axis: int, shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Index along ``axis`` of the source volume at every target voxel."""
    z, y, x = (transform[axis, a] * np.arange(n) for a, n in enumerate(shape))
    index: NDArray[np.float64] = z[:, None, None] + y[None, :, None] + x + transform[axis, 3]
    return index
