"""Where rays meet the grid, as small tables that both directions of a projector share.

Every view of a flat detector maps the plane to its columns by a perspective map
``column = (A . p) / (B . p)`` with ``p = (1, j, i)`` the pixel's index; for a parallel beam
``B . p = 1``, otherwise it is the demagnification, depth below the source over the distance of
the detector.  The ray of column ``u`` is the line ``(A - u B) . p = 0``.  Forward and transpose
read the same table, so a ray on the diagonal cannot be taken along x by one and along y by the
other.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry.ct import ConeBeam, CTGeometry, ParallelBeam
from medrecon.grid import Grid

Array = NDArray[np.float64]


def check_scan(grid: Grid, geometry: CTGeometry) -> None:
    """Refuse grids that these projectors cannot scan.

    Raises
    ------
    InconsistentError
        If the grid is not axial, or reaches as far as the source.
    """
    if not grid.is_axial:
        raise InconsistentError(
            "CT projectors need an axial grid (z, y, x along LPS +z, +y, +x), got directions "
            f"{grid.directions}; reorient the volume first."
        )
    if isinstance(geometry, ParallelBeam):
        return
    # One voxel to spare: the transpose searches rays between the neighbours of a voxel.
    radius = math.hypot(*(abs(c) + (n + 1) / 2 * d for c, n, d in _in_plane(grid)))
    if radius >= geometry.source_to_axis:
        raise InconsistentError(
            f"The grid reaches {radius:.1f} mm from the axis, as far as the source "
            f"({geometry.source_to_axis} mm); use a smaller field of view."
        )


def _in_plane(grid: Grid) -> list[tuple[float, int, float]]:
    """Middle, number and spacing of voxels along x and along y."""
    return [(grid.center[k], grid.shape[2 - k], grid.spacing[2 - k]) for k in (0, 1)]


def view_matrices(grid: Grid, geometry: CTGeometry) -> Array:
    """Build the maps from pixel to detector column, ``(views, 2, 3)``.

    Row 0 is A, row 1 is B; the last axis goes with ``(1, j, i)``, index along x and along y.
    """
    _, dy, dx = grid.spacing
    x0, y0, _ = grid.origin
    a = np.array(geometry.angles)
    u = np.stack([x0 * np.cos(a) + y0 * np.sin(a), dx * np.cos(a), dy * np.sin(a)], -1)
    one = np.zeros_like(u)
    one[:, 0] = 1.0
    if isinstance(geometry, ParallelBeam):
        B = one
    else:
        w = np.stack([y0 * np.cos(a) - x0 * np.sin(a), -dx * np.sin(a), dy * np.cos(a)], -1)
        B = (geometry.source_to_axis * one + w) / geometry.source_to_detector
    middle = (geometry.columns - 1) / 2 - geometry.column_offset / geometry.column_spacing
    A = u / geometry.column_spacing + middle * B
    return np.stack([A, B], 1)


def _lines(P: Array, columns: Array) -> tuple[Array, Array, Array]:
    """Coefficients of ``c + a j + b i = 0`` for every view and column, each ``(views, n)``."""
    line = P[:, None, 0, :] - columns[None, :, None] * P[:, None, 1, :]
    return line[..., 0], line[..., 1], line[..., 2]


def _length(grid: Grid, a: Array, b: Array) -> Array:
    """Path in mm from one column (or row, if steeper) of pixels to the next."""
    _, dy, dx = grid.spacing
    return np.asarray(dx * dy * np.hypot(a / dx, b / dy) / np.maximum(np.abs(a), np.abs(b)))


def joseph_rays(grid: Grid, geometry: CTGeometry) -> Array:
    """Table ``(views, columns, 4)`` of ``(along_x, r0, dr, length)``.

    A ray along x (``along_x`` = 1) crosses column ``j`` of pixels at row ``r0 + dr j``; one along
    y crosses row ``i`` at column ``r0 + dr i``.  ``length`` is its path per step, mm.
    """
    P = view_matrices(grid, geometry)
    c, a, b = _lines(P, np.arange(geometry.columns, dtype=np.float64))
    along_x = np.abs(b) >= np.abs(a)
    steep, flat = np.where(along_x, b, a), np.where(along_x, a, b)
    return np.stack([along_x, -c / steep, -flat / steep, _length(grid, a, b)], -1)


def shadow_rays(grid: Grid, geometry: ConeBeam) -> Array:
    """Table ``(views, columns, 5)`` of ``(along_x, e0, de, f0, df)`` of the cells' two edges.

    On the column ``j`` of pixels (or row ``i``) the shadow of the cell reaches from
    ``e0 + de j`` to ``f0 + df j``, in pixels counted from the edge of the first one.
    """
    P = view_matrices(grid, geometry)
    u = np.arange(geometry.columns, dtype=np.float64)
    _, a, b = _lines(P, u)
    along_x = np.abs(b) >= np.abs(a)
    table = [along_x.astype(np.float64)]
    for edge in (-0.5, 0.5):
        c, a, b = _lines(P, u + edge)
        steep, flat = np.where(along_x, b, a), np.where(along_x, a, b)
        table += [0.5 - c / steep, -flat / steep]
    return np.stack(table, -1)


def column_positions(geometry: CTGeometry) -> Array:
    """Centres of the detector columns along u, mm on the detector."""
    index = np.arange(geometry.columns) - (geometry.columns - 1) / 2
    return np.asarray(index * geometry.column_spacing + geometry.column_offset)


def row_positions(geometry: ConeBeam) -> Array:
    """Centres of the detector rows along z, mm on the detector."""
    index = np.arange(geometry.rows) - (geometry.rows - 1) / 2
    return np.asarray(index * geometry.row_spacing + geometry.row_offset)


def axial_edges(grid: Grid, geometry: ConeBeam) -> Array:
    """``(z_edge, dz, v_edge, dv)``: lower edge and size of voxels and of detector rows, mm."""
    z_edge = grid.origin[2] - grid.spacing[0] / 2
    v_edge = geometry.row_offset - geometry.rows / 2 * geometry.row_spacing
    return np.array([z_edge, grid.spacing[0], v_edge, geometry.row_spacing])


def path_lengths(grid: Grid, geometry: ConeBeam) -> tuple[Array, Array]:
    """Path in mm per step in the plane, as ``(views, columns, 1)`` times ``(columns, rows)``.

    The second factor is how much a ray is longer than its shadow in the plane.
    """
    P = view_matrices(grid, geometry)
    _, a, b = _lines(P, np.arange(geometry.columns, dtype=np.float64))
    in_plane = np.hypot(column_positions(geometry), geometry.source_to_detector)
    oblique = np.hypot(1.0, row_positions(geometry)[None, :] / in_plane[:, None])
    return _length(grid, a, b)[..., None], np.asarray(oblique)
