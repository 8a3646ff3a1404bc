"""Rays of any direction as lines through the voxel grid, one table for every geometry.

Ray ``(view, column, row)`` runs through ``lines[view, column, :3] + row * steps[view, :3]`` along
``lines[view, column, 3:] + row * steps[view, 3:]``, both ``(x, y, z)`` in voxels counted from the
centre of the first one.  Rays from a source share their point, parallel rays their direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medrecon.geometry.ct import VolumeGeometry
from medrecon.geometry.frames import Frames, frames
from medrecon.grid import Grid

Array = NDArray[np.float64]

# Rays may stand this much farther apart than voxels before a cell takes one more: the usual
# design, one cell per voxel at the axis, needs no second ray however it rounds.
SLACK = 0.25


def samples_per_cell(grid: Grid, geometry: VolumeGeometry) -> NDArray[np.int64]:
    """Rays per cell along the columns and along the rows of each view, ``(views, 2)``.

    The smallest numbers for which rays stand no farther apart than 1.25 voxels in the middle of
    the grid, so that they skip no voxel.  A view's numbers depend on that view only: a part of the
    views measures what the whole scan does.
    """
    f = frames(geometry)
    spacing = np.array(grid.spacing[::-1])
    shrink = np.ones(f.views)
    if f.source is not None:
        depth = np.sum((f.source - f.foot) * f.normal, 1)
        shrink = np.sum((f.source - np.array(grid.center)) * f.normal, 1) / depth
    apart = [shrink * np.linalg.norm(step / spacing, axis=1) for step in (f.u, f.v)]
    return np.maximum(1, np.ceil(np.stack(apart, -1) - SLACK)).astype(np.int64)


def line_tables(
    grid: Grid, geometry: VolumeGeometry, samples: NDArray[np.int64]
) -> tuple[Array, Array]:
    """``lines (views, columns * most samples, 6)`` and ``steps (views, 6)``, see this module.

    Columns and rows count the rays of a detector whose cells are cut into ``samples``; lines
    beyond those of the view are zero.
    """
    f = frames(geometry)
    lines = np.zeros((f.views, f.columns * int(samples[:, 0].max()), 6))
    steps = np.zeros((f.views, 6))
    for across, up in np.unique(samples, axis=0):
        views = (samples == (across, up)).all(1)
        table, step = _table(grid, f, int(across), int(up))
        lines[views, : table.shape[1]] = table[views]
        steps[views] = step[views]
    return lines, steps


def _table(grid: Grid, f: Frames, across: int, up: int) -> tuple[Array, Array]:
    spacing, origin = np.array(grid.spacing[::-1]), np.array(grid.origin)
    column = (np.arange(f.columns * across) + 0.5) / across - 0.5
    cells = (f.cells(0.5 / up - 0.5, column) - origin) / spacing
    step = f.v / up / spacing
    zero = np.zeros_like(step)
    if f.direction is not None:
        along = np.broadcast_to((f.direction / spacing)[:, None], cells.shape)
        return np.concatenate([cells, along], -1), np.concatenate([step, zero], -1)
    source = np.broadcast_to(((f.source - origin) / spacing)[:, None], cells.shape)
    return np.concatenate([source, cells - source], -1), np.concatenate([zero, step], -1)
