"""Reordering of voxels, exact and without interpolation, to the axial order people expect."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import torch

from medrecon.volume import Volume


def nearest_axial(volume: Volume) -> Volume:
    """Permute and flip the axes so that index z, y, x grow most nearly along LPS +z, +y, +x.

    No voxel is changed and none moves in space: the grid is turned with the array.  An oblique
    volume stays oblique by the same angle.

    Parameters
    ----------
    volume
        Any volume ``(z, y, x)``, e.g. one stored as sagittal slices.

    Returns
    -------
    Volume
        The same voxels in axial order, slices from feet to head.
    """
    grid = volume.grid
    towards = np.array(grid.directions)[:, ::-1]  # rows: index z, y, x; columns: LPS z, y, x
    order = max(permutations(range(3)), key=lambda p: sum(abs(towards[p[i], i]) for i in range(3)))
    flipped = [i for i in range(3) if towards[order[i], i] < 0]
    corner = [0.0, 0.0, 0.0, 1.0]
    for i in flipped:
        corner[order[i]] = grid.shape[order[i]] - 1
    signs = [-1.0 if i in flipped else 1.0 for i in range(3)]
    directions = tuple(
        tuple((sign * np.array(grid.directions[axis]) + 0.0).tolist())
        for sign, axis in zip(signs, order, strict=True)
    )
    turned = replace(
        grid,
        shape=tuple(grid.shape[axis] for axis in order),  # type: ignore[arg-type]
        spacing=tuple(grid.spacing[axis] for axis in order),  # type: ignore[arg-type]
        origin=tuple((grid.affine @ corner)[:3].tolist()),
        directions=directions,  # type: ignore[arg-type]
    )
    data = torch.flip(volume.data.permute(order), flipped).contiguous()
    return Volume(data, turned, volume.unit)
