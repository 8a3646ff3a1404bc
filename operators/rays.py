"""Where rays meet the grid, as small tables that both directions of a projector share.

Every view maps the plane to a coordinate along its detector's tangent (at the foot, in columns)
by a perspective map ``t = (A . p) / (B . p)`` with ``p = (1, j, i)`` the pixel's index; for a
parallel beam ``B . p = 1``, otherwise it is the demagnification, depth below the source over that
of the tangent.  The ray that crosses the tangent at ``t`` is the line ``(A - t B) . p = 0``.  On a
flat detector ``t`` is the column; on an arc :func:`tangents` tells where each column's ray
crosses.  Forward and transpose read the same table, so a ray on the diagonal cannot be taken
along x by one and along y by the other.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry.ct import ConeBeam, CTGeometry, FanBeam, ParallelBeam, ParallelBeam3D
from medrecon.geometry.frames import Frames, frames
from medrecon.grid import Grid

Array = NDArray[np.float64]


def check_scan(grid: Grid, geometry: CTGeometry) -> None:
    """Refuse grids that these projectors cannot scan.

    Raises
    ------
    InconsistentError
        If the grid is not axial or reaches as far as a source, or if a source does not see a
        curved detector from inside.
    """
    if not grid.is_axial:
        raise InconsistentError(
            "CT projectors need an axial grid (z, y, x along LPS +z, +y, +x), got directions "
            f"{grid.directions}; reorient the volume first."
        )
    f = frames(geometry)
    if f.source is None:
        return
    depth = _least_depth(grid, f)
    if depth.min() <= 0:
        v = int(depth.argmin())
        x, y, z = f.source[v]
        radius, height = np.hypot(x, y), f"z = {z:.1f} mm"
        raise InconsistentError(
            f"The grid reaches the source or beyond: in view {v} the source stands {radius:.1f} mm "
            f"from the axis (at {height}), and the grid lies up to {-depth[v]:.1f} mm behind it; "
            "use a smaller field of view."
        )
    if f.is_curved:
        _check_inside(f)
        tangents(geometry)


def _least_depth(grid: Grid, f: Frames) -> Array:
    """Depth in mm below the source of the grid's nearest corner in each view.

    With one voxel to spare: the transpose searches rays between the neighbours of a voxel.
    """
    axes = [(grid.center[k], (grid.shape[2 - k] + 1) / 2 * grid.spacing[2 - k]) for k in range(3)]
    if f.is_axial:
        axes[2] = (0.0, 0.0)  # depth does not depend on z, whatever the rounding
    corners = np.array(list(itertools.product(*((m - half, m + half) for m, half in axes))))
    to_source = np.einsum("vk,vk->v", _of(f.source), f.normal)
    return np.asarray((to_source[:, None] - f.normal @ corners.T).min(1))


def _check_inside(f: Frames) -> None:
    side, depth = source_of_tangent(f)
    distance = np.hypot(side, depth - f.radius)
    if (distance >= f.radius).any():
        v = int(distance.argmax())
        raise InconsistentError(
            f"In view {v} the source lies {distance[v]:.1f} mm from the middle of the curved "
            f"detector's circle, outside of its radius {f.radius:.1f} mm."
        )


def _of(source: Array | None) -> Array:
    if source is None:
        raise InconsistentError("Parallel rays have no source.")
    return source


def source_of_tangent(f: Frames) -> tuple[Array, Array]:
    """Where the source stands over the detector: mm along u from the foot, and its height.

    Both ``(views,)``; along u in the (perhaps oblique) directions of the detector.
    """
    over = _of(f.source) - f.foot
    along_u, _ = duals(f)
    width = np.linalg.norm(f.u, axis=1)
    return np.sum(over * along_u, 1) * width, np.sum(over * f.normal, 1)


def duals(f: Frames) -> tuple[Array, Array]:
    """Vectors ``(views, 3)`` whose products with a point give its columns and rows, 1/mm."""
    basis = np.stack([f.u, f.v, f.normal], -1)
    inverse = np.asarray(np.linalg.inv(basis), np.float64)
    return inverse[:, 0], inverse[:, 1]


def view_matrices(grid: Grid, geometry: CTGeometry) -> Array:
    """Build the maps from pixel to the detector's tangent, ``(views, 2, 3)``.

    Row 0 is A, row 1 is B; the last axis goes with ``(1, j, i)``, index along x and along y.
    For geometries whose rows step along z.
    """
    _, dy, dx = grid.spacing
    x0, y0, _ = grid.origin
    # Points of the plane as (1, j, i) -> (x, y).
    pixels = np.array([[x0, dx, 0.0], [y0, 0.0, dy]])
    f = frames(geometry)
    along_u, _ = duals(f)
    n, foot = f.normal[:, :2], f.foot[:, :2]
    u = along_u[:, :2]
    one = np.array([1.0, 0.0, 0.0])
    if f.direction is not None:
        d = f.direction[:, :2]
        # Along the ray onto the tangent.
        u = u - (np.sum(u * d, 1) / np.sum(n * d, 1))[:, None] * n
        A = u @ pixels + (f.c0 - np.sum(u * foot, 1))[:, None] * one
        return np.stack([A, np.broadcast_to(one, A.shape)], 1)
    source = _of(f.source)[:, :2]
    depth = np.sum((source - foot) * n, 1)
    B = (np.sum(source * n, 1)[:, None] * one - n @ pixels) / depth[:, None]
    over = f.c0 + np.sum((source - foot) * u, 1)
    A = over[:, None] * B + u @ pixels - np.sum(source * u, 1)[:, None] * one
    return np.stack([A, B], 1)


@dataclass(frozen=True, eq=False)
class Tangents:
    """Where the rays of a detector's columns (or edges of columns) cross its tangent, in columns.

    Views whose source stands alike over the detector share a pattern; a flat detector has one, with
    ``t[0] = 0, 1, 2, ...``.

    Parameters
    ----------
    t
        ``(patterns, n)``, increasing along the second axis.
    lookup
        ``(patterns, n)``, int32: entry ``k`` is the first index with ``t >= t_min + k * step``.
    t_min, step
        Of the look-up, each ``(patterns,)``.
    pattern
        Which pattern a view has, ``(views,)``, int32.
    """

    t: Array
    lookup: NDArray[np.int32]
    t_min: Array
    step: Array
    pattern: NDArray[np.int32]


def tangents(geometry: CTGeometry, *, edges: bool = False) -> Tangents:
    """Where the rays of columns' centres cross the tangent; with ``edges`` their ``n + 1`` edges.

    Raises
    ------
    InconsistentError
        If a curved detector bends out of the source's sight.
    """
    f = frames(geometry)
    index = np.arange(f.columns + 1.0) - 0.5 if edges else np.arange(float(f.columns))
    if not f.is_curved:
        return _tangents(index[None], np.zeros(f.views, np.int32))
    side, depth = source_of_tangent(f)
    width = np.linalg.norm(f.u, axis=1)
    kinds, pattern = np.unique(
        np.round(np.stack([side, depth, width, f.c0], -1), 9), axis=0, return_inverse=True
    )
    side, depth, width, c0 = (k[:, None] for k in kinds.T)
    angle = (index - c0) * width / f.radius
    across, sunk = f.radius * np.sin(angle), depth - f.radius * (1 - np.cos(angle))
    if (np.abs(angle) >= np.pi / 2).any() or (sunk <= 1e-3 * depth).any():
        raise InconsistentError(
            f"The curved detector (radius {f.radius:.1f} mm) bends out of the source's sight; it "
            f"spans {np.degrees(angle[0, -1] - angle[0, 0]):.0f} degrees of its circle."
        )
    t = c0 + (side + (across - side) * depth / sunk) / width
    if t.shape[1] > 1 and (np.diff(t, axis=1) <= 0).any():
        raise InconsistentError("The source sees the curved detector from outside of its circle.")
    return _tangents(t, pattern.reshape(-1).astype(np.int32))


def _tangents(t: Array, pattern: NDArray[np.int32]) -> Tangents:
    n = t.shape[1]
    t_min = t[:, 0].copy()
    step = (t[:, -1] - t[:, 0]) / (n - 1) if n > 1 else np.ones(len(t))
    marks = t_min[:, None] + np.arange(n) * step[:, None]
    lookup = [np.searchsorted(row, mark - 1e-9) for row, mark in zip(t, marks, strict=True)]
    return Tangents(t, np.minimum(lookup, n - 1).astype(np.int32), t_min, step, pattern)


def _lines(P: Array, t: Array) -> tuple[Array, Array, Array]:
    """Coefficients of ``c + a j + b i = 0`` for every view and ``t (views, n)``."""
    line = P[:, None, 0, :] - t[..., None] * P[:, None, 1, :]
    return line[..., 0], line[..., 1], line[..., 2]


def _length(grid: Grid, a: Array, b: Array) -> Array:
    """Path in mm from one column (or row, if steeper) of pixels to the next."""
    _, dy, dx = grid.spacing
    return np.asarray(dx * dy * np.hypot(a / dx, b / dy) / np.maximum(np.abs(a), np.abs(b)))


def _of_views(table: Tangents) -> Array:
    return table.t[table.pattern]


def joseph_rays(grid: Grid, geometry: CTGeometry) -> Array:
    """Table ``(views, columns, 4)`` of ``(along_x, r0, dr, length)``.

    A ray along x (``along_x`` = 1) crosses column ``j`` of pixels at row ``r0 + dr j``; one along
    y crosses row ``i`` at column ``r0 + dr i``.  ``length`` is its path per step, mm.
    """
    P = view_matrices(grid, geometry)
    c, a, b = _lines(P, _of_views(tangents(geometry)))
    along_x = np.abs(b) >= np.abs(a)
    steep, flat = np.where(along_x, b, a), np.where(along_x, a, b)
    return np.stack([along_x, -c / steep, -flat / steep, _length(grid, a, b)], -1)


def shadow_rays(grid: Grid, geometry: CTGeometry) -> Array:
    """Table ``(views, columns, 5)`` of ``(along_x, e0, de, f0, df)`` of the cells' two edges.

    On the column ``j`` of pixels (or row ``i``) the shadow of the cell reaches from
    ``e0 + de j`` to ``f0 + df j``, in pixels counted from the edge of the first one.
    """
    P = view_matrices(grid, geometry)
    _, a, b = _lines(P, _of_views(tangents(geometry)))
    along_x = np.abs(b) >= np.abs(a)
    table = [along_x.astype(np.float64)]
    c, a, b = _lines(P, _of_views(tangents(geometry, edges=True)))
    for side in (slice(None, -1), slice(1, None)):
        steep = np.where(along_x, b[:, side], a[:, side])
        flat = np.where(along_x, a[:, side], b[:, side])
        table += [0.5 - c[:, side] / steep, -flat / steep]
    return np.stack(table, -1)


def plane_lengths(grid: Grid, geometry: CTGeometry) -> Array:
    """Path in mm per step in the plane of each column's ray, ``(views, columns)``."""
    _, a, b = _lines(view_matrices(grid, geometry), _of_views(tangents(geometry)))
    return _length(grid, a, b)


def column_positions(geometry: ParallelBeam | FanBeam | ParallelBeam3D | ConeBeam) -> Array:
    """Centres of the detector columns along u (along the arc, if curved), mm on the detector."""
    index = np.arange(geometry.columns) - (geometry.columns - 1) / 2
    return np.asarray(index * geometry.column_spacing + geometry.column_offset)


def row_positions(geometry: ParallelBeam3D | ConeBeam) -> Array:
    """Centres of the detector rows along z, mm on the detector."""
    index = np.arange(geometry.rows) - (geometry.rows - 1) / 2
    return np.asarray(index * geometry.row_spacing + geometry.row_offset)


def axial_edges(grid: Grid, geometry: ParallelBeam3D | ConeBeam) -> Array:
    """``(z_edge, dz, v_edge, dv)``: lower edge and size of voxels and of detector rows, mm."""
    z_edge = grid.origin[2] - grid.spacing[0] / 2
    v_edge = geometry.row_offset - geometry.rows / 2 * geometry.row_spacing
    return np.array([z_edge, grid.spacing[0], v_edge, geometry.row_spacing])
