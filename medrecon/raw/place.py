"""Where an image lies: its slices sorted by position, its grid made."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medrecon.errors import InconsistentError
from medrecon.grid import Grid, Triple
from medrecon.raw.images import Image
from medrecon.raw.scan import Readout
from medrecon.raw.slices import SlicePose, slab_grid, stack_grid

_MOVED_MM = 0.05  # between readouts of one slice


def grid_of(
    image: Image, shape: tuple[int, int, int], voxel: Triple, path: Path
) -> tuple[Grid, list[int]]:
    """Make the grid of an image.

    Parameters
    ----------
    image
        Its readouts know where their slices are.
    shape
        Voxels ``(z, y, x)``; slice-wise, ``z`` is the number of slices.
    voxel
        Their size, mm; slice-wise, z is the thickness: the spacing comes from the positions.
    path
        The file, named in messages.

    Returns
    -------
    grid : Grid
        Where the voxels are.
    order : list of int
        Counters of the slices, sorted along the grid's z; of a slab its only one.

    Raises
    ------
    InconsistentError
        If slices do not make a regular stack.
    """
    poses = _poses(image.readouts, path)
    slices = list(poses)
    if image.encoding.is_3d:
        return slab_grid(poses[slices[0]], shape, voxel, path), slices
    slices.sort()  # where positions say nothing, the counters do
    grid, order = stack_grid(
        [poses[s] for s in slices], (shape[1], shape[2]), (voxel[1], voxel[2]), voxel[0], path
    )
    return grid, [slices[i] for i in order]


def check_places(readouts: Sequence[Readout], path: Path) -> None:
    """Refuse readouts whose place is not given in finite numbers.

    Raises
    ------
    InconsistentError
        Names the first one.
    """
    for number, readout in enumerate(readouts):
        if not np.isfinite([readout.pose.position, *readout.pose.directions]).all():
            raise InconsistentError(
                f"{path}: position or direction of readout {number} (slice {readout.slice}) is NaN "
                "or infinite."
            )


def _poses(readouts: Sequence[Readout], path: Path) -> dict[int, SlicePose]:
    """First pose of every slice; warn where others differ (motion tracking moves slices)."""
    poses: dict[int, SlicePose] = {}
    moved = 0.0
    for readout in readouts:
        first = poses.setdefault(readout.slice, readout.pose)
        if first is not readout.pose:
            moved = max(moved, float(np.abs(first.position - readout.pose.position).max()))
    if moved > _MOVED_MM:
        warnings.warn(
            f"{path}: the position of one slice changes by up to {moved:.2f} mm between its "
            "readouts; the first one is taken.",
            stacklevel=2,
        )
    return poses
