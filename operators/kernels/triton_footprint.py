"""Separable footprints on a GPU: the twin of :mod:`.footprint`, for rows that step along z.

The forward gathers along the shadow of a tile of columns, the transpose over the columns that
see a tile of pixels; both times a block of rows or voxels along z shares the weights in the plane.
Along z the two or three overlaps of a row with voxels are worked out directly: no prefix sums, so
no differences of large numbers, and no second volume in memory.

Heights are counted from the voxel at the height of the source, rows from the one that looks
straight at it.  So numbers are small where they would have to be subtracted, and single precision
is enough.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.engine import on_device
from medrecon.operators.kernels.triton_axial import (
    anchors,
    heights,
    lower_edge,
    magnification,
    magnifications,
    numbers,
    overlap,
    remainders,
)
from medrecon.operators.kernels.triton_plane import meet, positions, share_of, widest_shadow
from medrecon.operators.kernels.triton_search import Search, first_column, lowest
from medrecon.operators.kernels.triton_tools import (
    Tile,
    add_product,
    jit,
    some,
    start,
    taps,
    tile,
)

Array = NDArray[np.float64]
Index = NDArray[np.int32]

FORWARD = Tile(depth=256)
TRANSPOSE = Tile(depth=256)
WEIGH = Tile(depth=512)

NOWHERE = tl.constexpr(-(2**30))  # a voxel that no volume has


def forward(
    volume: Tensor,
    shadows: Array,
    views: Array,
    rows: Array,
    curves: Array,
    paths: Array,
    edges: Array,
    lookup: Index,
    marks: Array,
    pattern: Index,
    projections: Tensor,
) -> None:
    """Write ``projections[view, column, row]`` from ``volume[y, x, z]``.

    The tables are those of :func:`.footprint.forward`.
    """
    ny, nx, nz = volume.shape
    n_views, columns, n_rows = projections.shape
    device = volume.device
    shape = tile(FORWARD, n_rows, volume)
    tiles = triton.cdiv(columns, shape.lines)
    _, most = magnifications(views, curves, edges, pattern, (ny, nx))
    start(
        _forward,
        (n_views * tiles, triton.cdiv(n_rows, shape.depth)),
        *(volume, on_device(shadows, device, positions), *numbers(device, views, curves)),
        *(on_device(rows, device, anchors), on_device(rows, device, remainders)),
        *(*numbers(device, paths), projections),
        *(ny, nx, nz, columns, n_rows, tiles, max(ny, nx)),
        PIXELS=widest_shadow(shadows, ny, nx),
        VOXELS=taps(most * float(rows[:, 2].max())),
        CURVED=bool((curves[:, 5] > 0).any()),
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def transpose(
    projections: Tensor,
    shadows: Array,
    views: Array,
    rows: Array,
    curves: Array,
    paths: Array,
    edges: Array,
    lookup: Index,
    marks: Array,
    pattern: Index,
    volume: Tensor,
) -> None:
    """Write ``volume[y, x, z]`` from ``projections[view, column, row]``; tables as above."""
    ny, nx, nz = volume.shape
    n_views, columns, n_rows = projections.shape
    device = volume.device
    along_z = (on_device(rows, device, anchors), on_device(rows, device, remainders))
    weighted = projections.new_empty(projections.shape)
    shape = tile(WEIGH, n_rows, volume)
    start(
        _weigh,
        (n_views * triton.cdiv(columns, shape.lines), triton.cdiv(n_rows, shape.depth)),
        *(projections, *along_z, *numbers(device, paths), weighted),
        *(columns, n_rows),
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )
    shape = tile(TRANSPOSE, nz, volume)
    search = Search(views, edges, lookup, marks, pattern, pixels=(ny, nx), neighbours=0.5)
    bounds = magnifications(views, curves, edges, pattern, (ny, nx))
    start(
        _transpose,
        (triton.cdiv(ny * nx, shape.lines), triton.cdiv(nz, shape.depth)),
        *(weighted, on_device(shadows, device, positions), *numbers(device, views, curves)),
        *(*along_z, heights(rows, n_rows, bounds, device), *search.on(device), volume),
        *(ny, nx, nz, columns, n_rows, n_views),
        ROWS=taps(1 / (bounds[0] * float(rows[:, 2].min()))),
        ARC=bool((curves[:, 5] > 0).any()),
        **search.constants,
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


@jit
def _path(paths, near, row, ray, exists):
    """Length in mm of the rays of cells per step in the plane, ``row`` counted from ``R``."""
    number: tl.constexpr = row.dtype
    length = tl.load(paths + 2 * ray, mask=exists, other=0.0).to(number)
    climb = tl.load(paths + 2 * ray + 1, mask=exists, other=0.0).to(number)
    b, h = tl.load(near + 1).to(number), tl.load(near + 2).to(number)
    tangent = climb[:, None] * (b + h * (row + 0.5))[None, :]
    return length[:, None] * tl.sqrt(1.0 + tangent * tangent)


@jit
def _forward(
    volume,
    shadows,
    views,
    curves,
    anchors,
    remainders,
    paths,
    projections,
    ny,
    nx,
    nz,
    columns,
    n_rows,
    tiles,
    steps,
    PIXELS: tl.constexpr,
    VOXELS: tl.constexpr,
    CURVED: tl.constexpr,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    view = tl.program_id(0) // tiles
    u = (tl.program_id(0) - view * tiles) * LINES + tl.arange(0, LINES)
    r = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    exists, inside = u < columns, r < n_rows
    number = volume.dtype.element_ty
    source, straight = tl.load(anchors + 2 * view), tl.load(anchors + 2 * view + 1)
    top = tl.cast(nz, tl.uint32)
    near = remainders + 3 * view
    h = tl.load(near + 2).to(number)
    row = (r - straight).to(number)
    ray = view.to(tl.int64) * columns + u
    shadow = shadows + 5 * ray
    e = tl.load(shadow, mask=exists, other=0)
    de = tl.load(shadow + 1, mask=exists, other=0)
    f = tl.load(shadow + 2, mask=exists, other=1)
    df = tl.load(shadow + 3, mask=exists, other=0)
    along_x = tl.load(shadow + 4, mask=exists, other=0) > 0
    length_q, length_p = tl.where(along_x, nx, ny), tl.where(along_x, ny, nx)
    total = tl.zeros((LINES, DEPTH), number)
    for q in range(steps):
        first = (tl.minimum(e, f) >> 32).to(tl.int32)
        for t in tl.static_range(PIXELS):
            p = first + t
            w = meet(e, f, p, number)
            hit = exists & (w > 0) & (q < length_q) & (p >= 0) & (p < length_p)
            if some(hit, LINES):
                i, j = tl.where(along_x, p, q), tl.where(along_x, q, p)
                m = magnification(views + 6 * view, curves + 6 * view, i, j, number, CURVED)
                low = lower_edge(row[None, :], near, m[:, None])
                step = m * h
                bottom = tl.floor(low)
                # One test serves for all: where there is no pixel, there is no voxel.
                voxel = bottom.to(tl.int32) + tl.where(hit, source, NOWHERE)[:, None]
                column = volume + (i.to(tl.int64) * nx + j)[:, None] * nz + voxel
                part = tl.zeros((LINES, DEPTH), number)
                for a in tl.static_range(VOXELS):
                    exist = (voxel + a).to(tl.uint32, bitcast=True) < top
                    value = tl.load(column + a, mask=exist, other=0.0)
                    below = low - bottom - a
                    # Only the first voxel begins below the row.
                    if a == 0:
                        length = overlap(below, step[:, None])
                    else:
                        length = tl.clamp(below + step[:, None], 0.0, 1.0)
                    part = tl.fma(length, value, part)
                total = add_product(w / step, part, total)
        e += de  # exact, so the same as start + q * slope
        f += df
    target = projections + (ray * n_rows)[:, None] + r[None, :]
    path = _path(paths, near, row, ray, exists)
    tl.store(target, total * path, mask=exists[:, None] & inside[None, :])


@jit
def _weigh(
    projections,
    anchors,
    remainders,
    paths,
    weighted,
    columns,
    n_rows,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Multiply projections by the path lengths, the same as the forward does."""
    view_tiles = tl.cdiv(columns, LINES)
    view = tl.program_id(0) // view_tiles
    u = (tl.program_id(0) - view * view_tiles) * LINES + tl.arange(0, LINES)
    r = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    here = (u < columns)[:, None] & (r < n_rows)[None, :]
    number = projections.dtype.element_ty
    row = (r - tl.load(anchors + 2 * view + 1)).to(number)
    ray = view.to(tl.int64) * columns + u
    cell = (ray * n_rows)[:, None] + r[None, :]
    path = _path(paths, remainders + 3 * view, row, ray, u < columns)
    tl.store(weighted + cell, tl.load(projections + cell, mask=here, other=0.0) * path, mask=here)


@jit
def _transpose(
    weighted,
    shadows,
    views,
    curves,
    anchors,
    remainders,
    heights,
    maps,
    lookup,
    marks,
    patterns,
    volume,
    ny,
    nx,
    nz,
    columns,
    n_rows,
    n_views,
    ROWS: tl.constexpr,
    ARC: tl.constexpr,
    NEIGHBOURS: tl.constexpr,
    TAPS: tl.constexpr,
    CURVED: tl.constexpr,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    pixel = tl.program_id(0) * LINES + tl.arange(0, LINES)
    i, j = pixel // nx, pixel % nx
    k0 = tl.program_id(1) * DEPTH
    k = k0 + tl.arange(0, DEPTH)
    exists, inside = pixel < ny * nx, k < nz
    number = volume.dtype.element_ty
    top = tl.cast(n_rows, tl.uint32)
    total = tl.zeros((LINES, DEPTH), number)
    for v in range(n_views):
        # Along a helix most views see nothing of a block.
        if (tl.load(heights + 2 * v) < k0 + DEPTH) & (tl.load(heights + 2 * v + 1) > k0):
            near = remainders + 3 * v
            h = tl.load(near + 2).to(number)
            m = magnification(views + 6 * v, curves + 6 * v, i, j, number, ARC)
            step = m * h
            voxel = (k - tl.load(anchors + 2 * v)).to(number)[None, :]
            # The row whose shadow holds the voxel's lower end: a guess, put right by the very
            # numbers that the forward uses.
            b, a = tl.load(near + 1).to(number), tl.load(near).to(number)
            row = tl.floor((voxel - a) * (1.0 / step)[:, None] - b / h)
            row = tl.where(lower_edge(row, near, m[:, None]) > voxel, row - 1.0, row)
            first = row.to(tl.int32) + tl.load(anchors + 2 * v + 1)
            low_t = lowest(maps + 6 * v, i, j, NEIGHBOURS)
            edge = first_column(low_t, lookup, marks, patterns, v, columns + 1, CURVED)
            part = tl.zeros((LINES, DEPTH), number)
            for c in tl.static_range(ROWS):
                below = lower_edge(row + c, near, m[:, None]) - voxel
                exist = (first + c).to(tl.uint32, bitcast=True) < top
                blend = tl.zeros((LINES, DEPTH), number)
                for t in tl.static_range(TAPS + 1):  # the compiler works the shares out once
                    u = edge - 1 + t
                    seen = exists & (u >= 0) & (u < columns)
                    ray = (v * columns + tl.where(seen, u, 0)).to(tl.int64)
                    along_x = tl.load(shadows + 5 * ray + 4) > 0
                    q, p = tl.where(along_x, j, i), tl.where(along_x, i, j)
                    w = tl.where(seen, share_of(shadows + 5 * ray, q, p, number), 0.0)
                    if some(w > 0, LINES):
                        # A column of weight 0 exists all the same: only rows have to be tested.
                        column = weighted + (ray * n_rows)[:, None] + first
                        value = tl.load(column + c, mask=exist, other=0.0)
                        blend = add_product(w, value, blend)
                part = tl.fma(overlap(below, step[:, None]), blend, part)
            total = add_product(1.0 / step, part, total)
    target = volume + (pixel.to(tl.int64) * nz)[:, None] + k[None, :]
    tl.store(target, total, mask=exists[:, None] & inside[None, :])
