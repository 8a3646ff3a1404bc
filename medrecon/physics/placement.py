"""Whether a grid lies where a scan can see it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import CTGeometry
from medrecon.geometry.field import field_of_view, has_rows
from medrecon.grid import Grid

Array = NDArray[np.float64]


def check_field(geometry: CTGeometry, grid: Grid) -> None:
    """Refuse a grid that the scan does not see, or that the source flies through.

    Parameters
    ----------
    geometry
        Any CT scan.
    grid
        The volume, in the scanner's frame.

    Raises
    ------
    InconsistentError
        With the numbers of both.
    """
    corners = _corners(grid)
    sources = geometry.frames().source
    if sources is not None:
        index = _to_index(grid, sources)
        axes = slice(0, 3) if has_rows(geometry) else slice(1, 3)
        within = (index > -0.5) & (index < np.array(grid.shape) - 0.5)
        inside = within[:, axes].all(1)
        if inside.any():
            away = float(np.hypot(sources[inside, 0], sources[inside, 1]).min())
            far = float(np.hypot(corners[:, 0], corners[:, 1]).max())
            raise InconsistentError(
                f"The source passes through the volume: it is {away:.1f} mm from the axis, the "
                f"grid reaches {far:.1f} mm; check the unit of lengths and the grid's spacing."
            )
    field = field_of_view(geometry)
    low, high = corners.min(0), corners.max(0)
    nearest = float(np.hypot(*np.maximum(0, np.maximum(low[:2], -high[:2]))))
    if field.radius > 0 and nearest > field.radius:
        raise InconsistentError(
            f"The grid begins {nearest:.1f} mm from the axis, outside the field of view of radius "
            f"{field.radius:.1f} mm; check the grid's centre."
        )
    if field.high > field.low and (low[2] > field.high or high[2] < field.low):
        raise InconsistentError(
            f"The grid lies at z from {low[2]:.1f} to {high[2]:.1f} mm, outside what the scan sees "
            f"at the axis, {field.low:.1f} to {field.high:.1f} mm; check the grid's centre."
        )


def rays_meet(grid: Grid, points: Array, towards: Array) -> NDArray[np.bool_]:
    """Whether lines cross the grid's columns of voxels, extended up and down without end.

    Parameters
    ----------
    grid
        Of any orientation.
    points, towards
        A point and the direction of every line, LPS mm, ``(..., 3)``.

    Returns
    -------
    numpy.ndarray
        Booleans ``(...)``.
    """
    start = _to_index(grid, points)
    step = _to_index(grid, points + towards) - start
    enter, leave = np.full(start.shape[:-1], -np.inf), np.full(start.shape[:-1], np.inf)
    for axis in (1, 2):
        # distances to both faces in units of the step; a line along them is in or out for good
        rate = np.where(np.abs(step[..., axis]) < 1e-12, 1e-12, step[..., axis])
        first = (-0.5 - start[..., axis]) / rate
        last = (grid.shape[axis] - 0.5 - start[..., axis]) / rate
        enter = np.maximum(enter, np.minimum(first, last))
        leave = np.minimum(leave, np.maximum(first, last))
    return np.asarray(enter <= leave)


def _to_index(grid: Grid, points: Array) -> Array:
    """Fractional index ``(z, y, x)`` of LPS points."""
    inverse = np.linalg.inv(grid.affine)
    return np.asarray(points @ inverse[:3, :3].T + inverse[:3, 3])


def _corners(grid: Grid) -> Array:
    ends = [(-0.5, n - 0.5) for n in grid.shape]
    index = np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(-1, 3)
    return np.asarray(index @ grid.affine[:3, :3].T + grid.affine[:3, 3])
