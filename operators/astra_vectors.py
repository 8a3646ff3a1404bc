"""Our geometries in the words of the ASTRA toolbox: arrays of vectors, one row per view.

Pure functions without ASTRA itself.  In its 2D geometries y grows from the last row of pixels to
the first, so y and its components change their sign; in its 3D geometries y grows as ours does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import UsageError
from medrecon.geometry import SliceGeometry, VolumeGeometry
from medrecon.geometry.frames import Frames, frames
from medrecon.grid import Grid

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Vectors:
    """A geometry of ASTRA.

    Parameters
    ----------
    kind
        ASTRA's name of it.
    detector
        ``(cells,)`` of a line, ``(rows, columns)`` of an area detector.
    rows
        ASTRA's vectors, ``(views, 6)`` in 2D, ``(views, 12)`` in 3D, 13 for a curved detector.
    """

    kind: str
    detector: tuple[int, ...]
    rows: Array


def slice_vectors(geometry: SliceGeometry) -> Vectors:
    """Source (or ray), middle of the detector and step of a column, for ASTRA's 2D projectors.

    ASTRA knows no curved detector in 2D.  Its line kernel asks only where a ray starts and ends,
    so an arc becomes one view with one cell for every cell of every view; the values are those
    of the arc itself.
    """
    f = frames(geometry)
    flip = np.array([1.0, -1.0])
    column = np.arange(f.columns) if f.is_curved else np.array([(f.columns - 1) / 2])
    middle = (f.cells(f.r0[0], column)[..., :2] * flip).reshape(-1, 2)
    repeat = len(column)
    start = np.repeat(_start(f)[:, :2] * flip, repeat, axis=0)
    step = np.repeat(f.u[:, :2] * flip, repeat, axis=0)
    kind = "parallel_vec" if f.source is None else "fanflat_vec"
    cells = 1 if f.is_curved else f.columns
    return Vectors(kind, (cells,), np.concatenate([start, middle, step], -1))


def volume_vectors(geometry: VolumeGeometry) -> Vectors:
    """Source (or ray), middle of the detector, step of a column, step of a row (and radius).

    For a curved detector ASTRA wants the step along its tangent in the middle, not at the foot.

    Raises
    ------
    UsageError
        If the rows of a curved detector run the other way round than ASTRA can say.
    """
    f = frames(geometry)
    r, c = (f.rows - 1) / 2, (f.columns - 1) / 2
    parts = [_start(f), f.cells(r, c), f.u, f.v]
    kind = "parallel3d_vec" if f.source is None else "cone_vec"
    if f.is_curved:
        if (np.einsum("vk,vk->v", np.cross(f.u, f.v), f.normal) <= 0).any():
            raise UsageError(
                "ASTRA bends a detector away from columns x rows; this one bends the other way: "
                "turn the order of its rows or columns, or use the native backend."
            )
        kind = "cyl_cone_vec"
        width = np.linalg.norm(f.u, axis=1, keepdims=True)
        angle = (c - f.c0)[:, None] * width / f.radius
        parts[2] = np.cos(angle) * f.u + np.sin(angle) * width * f.normal
        parts.append(np.full((f.views, 1), f.radius))
    return Vectors(kind, (f.rows, f.columns), np.concatenate(parts, -1))


def plane_window(grid: Grid) -> tuple[int | float, ...]:
    """Rows, columns, and edges ``x_min, x_max, y_min, y_max`` of a slice, ASTRA's y."""
    _, ny, nx = grid.shape
    (left, right), (top, bottom), _ = _edges(grid)
    return ny, nx, left, right, -bottom, -top


def volume_window(grid: Grid) -> tuple[int | float, ...]:
    """Rows, columns, slices, and the edges of a volume along x, y and z."""
    nz, ny, nx = grid.shape
    return (ny, nx, nz, *(edge for pair in _edges(grid) for edge in pair))


def _edges(grid: Grid) -> tuple[tuple[float, float], ...]:
    """Outer edges along x, y, z in mm."""
    lows = [grid.origin[k] - grid.spacing[2 - k] / 2 for k in range(3)]
    return tuple((low, low + grid.shape[2 - k] * grid.spacing[2 - k]) for k, low in enumerate(lows))


def _start(f: Frames) -> Array:
    """Focal spots, or the direction of parallel rays."""
    return f.source if f.direction is None else f.direction  # type: ignore[return-value]
