"""Filtered projections into a volume, through the kernels for slices, axial scans and any other."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medrecon.analytic.filtering import VIEWS, Projections, cell_distances, projections_of
from medrecon.analytic.orbit import check_level
from medrecon.analytic.ramp import Window
from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.geometry.ct import SliceGeometry, VolumeGeometry
from medrecon.geometry.frames import Frames
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.kernels import interpolation
from medrecon.operators.kernels.engine import run
from medrecon.operators.slices import map_slices

Array = NDArray[np.float64]


def reconstruct_slices(
    measurements: Tensor, geometry: SliceGeometry, grid: Grid, window: Window | str
) -> Tensor:
    """Slice by slice: ``(*batch, z, views, columns)`` to ``(*batch, z, y, x)``."""
    rays.check_scan(grid, geometry)
    space = Space((grid.shape[0], geometry.views, geometry.columns))
    space.check(measurements, "measurements of fbp")
    scan = projections_of(geometry)

    def prepare(y: Tensor) -> Tensor:
        return scan.filtered(y[..., None, :], slice(None), window)[..., 0, :]

    return map_slices(
        interpolation.slices,
        measurements,
        grid.shape[1:],
        _plane(scan, geometry, grid),
        _arcs(scan),
        prepare=prepare,
    )


def reconstruct_volume(
    measurements: Tensor, geometry: VolumeGeometry, grid: Grid, window: Window | str, name: str
) -> Tensor:
    """Row by row: ``(*batch, views, rows, columns)`` to ``(*batch, z, y, x)``."""
    rays.check_scan(grid, geometry)
    scan = projections_of(geometry)
    check_level(type(geometry).__name__, scan.frames, scan.orbit)
    if not scan.frames.is_axial and scan.frames.is_curved:
        raise InconsistentError(
            f"{name} reconstructs curved detectors only with their axis along z; use an iterative "
            "method."
        )

    def one(y: Tensor) -> Tensor:
        filtered = _filter(y, scan, window)
        depth, height, width = grid.shape
        shape = (height, width, depth)
        if scan.frames.is_axial:
            tables = _plane(scan, geometry, grid), _arcs(scan), _distances(scan)
            axial = _axial(scan.frames, grid)
            volume = run(interpolation.cone, filtered, *tables, axial, shape=shape)
        else:
            volume = run(interpolation.general, filtered, _matrices(scan, grid), shape=shape)
        return volume.permute(2, 0, 1)

    space = Space((geometry.views, geometry.rows, geometry.columns))
    return each_scan(one, measurements, space, grid, name)


def each_scan(
    reconstruct: Callable[[Tensor], Tensor],
    measurements: Tensor,
    space: Space,
    grid: Grid,
    name: str,
) -> Tensor:
    """Reconstruct every scan of a batch ``(*batch, *space)`` into ``(*batch, z, y, x)``."""
    space.check(measurements, f"measurements of {name}")
    batch = measurements.shape[:-3]
    scans = measurements.reshape(math.prod(batch), *space.shape)
    result = measurements.new_empty((len(scans), *grid.shape))
    for y, out in zip(scans, result, strict=True):
        out.copy_(reconstruct(y))
    return result.reshape(*batch, *grid.shape)


def _filter(y: Tensor, scan: Projections, window: Window | str) -> Tensor:
    views, rows, _ = y.shape
    columns = scan.columns.count + sum(scan.columns.missing)
    filtered = y.new_empty((views, columns, rows))
    for start in range(0, views, VIEWS):
        some = slice(start, start + VIEWS)
        filtered[some] = scan.filtered(y[some], some, window).transpose(1, 2)
    return filtered


def _plane(scan: Projections, geometry: SliceGeometry | VolumeGeometry, grid: Grid) -> Array:
    """Table ``views`` of the kernels for rays in planes of constant z."""
    left, _ = scan.columns.missing
    if not scan.columns.is_arc:
        views = rays.view_matrices(grid, geometry)
        views[:, 0] += left * views[:, 1]
        return views
    source = scan.orbit.center - scan.orbit.radii[:, None] * scan.orbit.towards
    pixels = index_to_plane(grid)
    pairs = np.stack([scan.orbit.across, scan.orbit.towards], 1)[..., :2]
    table = pairs @ pixels
    table[..., 0] -= np.einsum("vak,vk->va", pairs, source[:, :2])
    return np.ascontiguousarray(table)


def index_to_plane(grid: Grid) -> Array:
    """Matrix ``(2, 3)`` from ``(1, j, i)`` to ``(x, y)``, mm."""
    _, dy, dx = grid.spacing
    return np.array([[grid.origin[0], dx, 0.0], [grid.origin[1], 0.0, dy]])


def _arcs(scan: Projections) -> Array:
    """Table ``arcs`` of the kernels."""
    columns = scan.columns
    if not columns.is_arc:
        return np.zeros((scan.frames.views, 2))
    per_rad = 1 / float(columns.step)
    first = columns.missing[0] - columns.fan[:, 0] * per_rad
    return np.stack([first, np.full_like(first, per_rad)], -1)


def _distances(scan: Projections) -> Array:
    """Table ``distances`` of the kernel for cones."""
    if not scan.columns.is_arc:
        return np.zeros((1, 1))
    distances = cell_distances(scan.frames, scan.columns.at)
    return np.pad(distances, ((0, 0), scan.columns.missing), mode="edge")


def _axial(f: Frames, grid: Grid) -> Array:
    """Table ``axial`` of the kernel for cones."""
    level, step = level_rows(f)
    start = f.foot[:, 2] if f.source is None else f.source[:, 2]
    return np.stack(
        [
            level,
            (grid.origin[2] - start) / step,
            grid.spacing[0] / step,
        ],
        -1,
    )


def level_rows(f: Frames) -> tuple[Array, Array]:
    """Fractional row level with the source (or the foot) and height of a row, per view."""
    step = f.v[:, 2]
    if f.source is None:
        return f.r0, step
    return f.r0 + (f.source[:, 2] - f.foot[:, 2]) / step, step


def _matrices(scan: Projections, grid: Grid) -> Array:
    """Table ``matrices`` of the general kernel."""
    f = scan.frames
    first = f.foot - f.c0[:, None] * f.u - f.r0[:, None] * f.v  # cell (0, 0) of a flat detector
    project = np.zeros((f.views, 3, 4))
    if f.source is not None:
        rows, start, basis = 3, f.source, [f.u, f.v, first - f.source]
    else:
        rows, start, basis = 2, first, [f.u, f.v, f.rays(0, 0)[1]]
        project[:, 2, 3] = 1.0
    inverse = np.linalg.inv(np.stack(basis, -1))[:, :rows]
    project[:, :rows, :3] = inverse
    project[:, :rows, 3] = -np.einsum("vak,vk->va", inverse, start)
    project[:, 0] += scan.columns.missing[0] * project[:, 2]
    index = grid.affine[:, [3, 2, 1, 0]]  # of (1, j, i, k)
    return np.ascontiguousarray(project @ index)
