"""Joseph's projector for rays of any direction on a GPU: the twin of :mod:`.joseph3d`.

The forward gives each thread a ray; the transpose gives each a voxel, which gathers from the few
rays around its own projection.  Views whose cells are cut alike go together, as many at a time as
:data:`.triton_lines.ROOM` allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.engine import on_device, remembered
from medrecon.operators.kernels.triton_lines import ROOM, lookup, projection, ray_table
from medrecon.operators.kernels.triton_search import first_column, most_columns
from medrecon.operators.kernels.triton_tools import jit, linear_weight, start

Array = NDArray[np.float64]

MARGIN = 0.02  # columns and rows, for the search in single precision
RAYS = 128
VOXELS = 128


def forward(
    volume: Tensor,
    lines: Array,
    steps: Array,
    spacing: Array,
    used: NDArray[np.bool_],
    samples: NDArray[np.int64],
    projections: Tensor,
) -> None:
    """Write ``projections[view, column, row]``; arguments as of :func:`.joseph3d.forward`."""
    ny, nx, nz = volume.shape
    _, columns, rows = projections.shape
    block = RAYS if volume.is_cuda else 4096
    for views, across, up in _parts(samples, columns, rows):
        table, path = _table(lines, steps, spacing, views, (columns, rows), (across, up), volume)
        rays = torch.empty_like(path)
        start(
            _forward,
            (triton.cdiv(rays.numel(), block),),
            *(volume, table, path, rays, rays.numel(), nx, ny, nz, max(nx, ny, nz)),
            LINES=block,
            warps=4,
        )
        cells = rays.reshape(-1, columns, across, rows, up)
        index = torch.from_numpy(views).to(volume.device)
        projections.index_copy_(0, index, cells.sum((2, 4)))


def transpose(
    projections: Tensor,
    lines: Array,
    steps: Array,
    spacing: Array,
    used: NDArray[np.bool_],
    samples: NDArray[np.int64],
    volume: Tensor,
) -> None:
    """Write ``volume[y, x, z]``; arguments as of :func:`.joseph3d.forward`."""
    ny, nx, nz = volume.shape
    _, columns, rows = projections.shape
    block = VOXELS if volume.is_cuda else 4096
    volume.zero_()
    for number, (views, across, up) in enumerate(_parts(samples, columns, rows)):
        n_columns, n_rows = columns * across, rows * up
        table, path = _table(lines, steps, spacing, views, (columns, rows), (across, up), volume)
        scan = projections[torch.from_numpy(views).to(volume.device)].contiguous()
        search, constants = remembered(
            lines,
            ("search", number, volume.device, volume.shape, ROOM),
            lambda v=views, c=n_columns: _search(lines[v, :c], steps[v], volume),  # type: ignore[misc]
        )
        start(
            _transpose,
            (triton.cdiv(volume.numel(), block),),
            *(scan, table, path, *search, volume),
            *(nx, ny, nz, columns, n_columns, rows, n_rows, across, up, len(views)),
            **constants,
            LINES=block,
            warps=4,
        )


def _parts(
    samples: NDArray[np.int64], columns: int, rows: int
) -> Iterator[tuple[NDArray[np.int64], int, int]]:
    """Group views whose cells are cut alike, in pieces whose tables fit into the room."""
    for across, up in np.unique(samples, axis=0).tolist():
        views = np.flatnonzero((samples == (across, up)).all(1))
        size = max(1, ROOM // (columns * across * rows * up))
        for first in range(0, len(views), size):
            yield views[first : first + size], across, up


def _table(
    lines: Array,
    steps: Array,
    spacing: Array,
    views: NDArray[np.int64],
    cells: tuple[int, int],
    samples: tuple[int, int],
    like: Tensor,
) -> tuple[Tensor, Tensor]:
    """Crossings, and paths over the number of rays in a cell."""
    index = torch.from_numpy(views).to(like.device)
    every, climb, mm = (on_device(t, like.device, np.asarray) for t in (lines, steps, spacing))
    columns, rows = cells[0] * samples[0], cells[1] * samples[1]
    table, path = ray_table(every[index, :columns], climb[index], mm, rows)
    return table, (path / (samples[0] * samples[1])).to(like.dtype)


def _search(
    lines: Array, steps: Array, volume: Tensor
) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    """Tables and constants of the transpose's search."""
    on = projection(lines, steps)
    ny, nx, nz = volume.shape
    across, up = on.reach((nx, ny, nz))
    even = bool(np.abs(on.t - np.arange(on.t.shape[1])).max() < 1e-6)
    first, marks = lookup(on.t)
    slack = 0.0 if even else float((1 / marks[:, 1]).max())
    arrays = (
        on.matrices.astype(np.float32),
        np.stack([on.scale, on.shift], -1).astype(np.float32),
        first,
        marks,
        np.arange(len(lines), dtype=np.int32),
    )
    constants = {
        "COLUMNS": most_columns(on.t, 2 * (across + MARGIN) + slack),
        "ROWS": int(2 * (up + MARGIN) * float(on.scale.max())) + 1,
        "REACH_T": across + MARGIN,
        "REACH_S": up + MARGIN,
        "CURVED": not even,
    }
    return tuple(torch.from_numpy(a).to(volume.device) for a in arrays), constants


@jit
def _forward(volume, table, path, rays, count, nx, ny, nz, planes, LINES: tl.constexpr):
    ray = tl.program_id(0).to(tl.int64) * LINES + tl.arange(0, LINES)
    exists = ray < count
    number = volume.dtype.element_ty
    b = tl.load(table + 5 * ray, mask=exists, other=0)
    db = tl.load(table + 5 * ray + 1, mask=exists, other=0)
    c = tl.load(table + 5 * ray + 2, mask=exists, other=0)
    dc = tl.load(table + 5 * ray + 3, mask=exists, other=0)
    axis = tl.load(table + 5 * ray + 4, mask=exists, other=0)
    # Main axis x: planes (y, z); y: (x, z); z: (y, x).
    size_q = tl.where(axis == 0, nx, tl.where(axis == 1, ny, nz))
    size_b = tl.where(axis == 1, nx, ny)
    size_c = tl.where(axis == 2, nx, nz)
    x_step, y_step = tl.cast(nz, tl.int64), tl.cast(nz, tl.int64) * nx
    step_q = tl.where(axis == 0, x_step, tl.where(axis == 1, y_step, 1))
    step_b = tl.where(axis == 1, x_step, y_step)
    step_c = tl.where(axis == 2, x_step, 1)
    total = tl.zeros((LINES,), number)
    for q in range(planes):
        first_b, first_c = (b >> 32).to(tl.int32), (c >> 32).to(tl.int32)
        for t in tl.static_range(4):
            i, k = first_b + t // 2, first_c + t % 2
            inside = exists & (q < size_q) & (i >= 0) & (i < size_b) & (k >= 0) & (k < size_c)
            value = tl.load(volume + q * step_q + i * step_b + k * step_c, mask=inside, other=0.0)
            w = linear_weight(b, i, number) * linear_weight(c, k, number)
            total = tl.fma(w, value, total)
        b += db  # exact, so the same as start + q * slope
        c += dc
    length = tl.load(path + ray, mask=exists, other=0.0)
    tl.store(rays + ray, total * length, mask=exists)


@jit
def _transpose(
    scan,
    table,
    path,
    matrices,
    cells,
    lookup,
    marks,
    patterns,
    volume,
    nx,
    ny,
    nz,
    columns,
    n_columns,
    rows,
    n_rows,
    across,
    up,
    n_views,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    REACH_T: tl.constexpr,
    REACH_S: tl.constexpr,
    CURVED: tl.constexpr,
    LINES: tl.constexpr,
):
    voxel = tl.program_id(0).to(tl.int64) * LINES + tl.arange(0, LINES)
    z = (voxel % nz).to(tl.int32)
    x = (voxel // nz % nx).to(tl.int32)
    y = (voxel // nz // nx).to(tl.int32)
    exists = y < ny
    number = volume.dtype.element_ty
    total = tl.load(volume + voxel, mask=exists, other=0.0)
    fx, fy, fz = x.to(tl.float32), y.to(tl.float32), z.to(tl.float32)
    for v in range(n_views):
        P = matrices + 12 * v
        U = tl.load(P) + tl.load(P + 1) * fx + tl.load(P + 2) * fy + tl.load(P + 3) * fz
        V = tl.load(P + 4) + tl.load(P + 5) * fx + tl.load(P + 6) * fy + tl.load(P + 7) * fz
        W = tl.load(P + 8) + tl.load(P + 9) * fx + tl.load(P + 10) * fy + tl.load(P + 11) * fz
        s = V / W
        first = first_column(U / W - REACH_T, lookup, marks, patterns, v, n_columns, CURVED)
        for a in tl.static_range(COLUMNS):
            u = first + a
            column = (v * n_columns + tl.where(u < n_columns, u, 0)).to(tl.int64)
            scale, shift = tl.load(cells + 2 * column), tl.load(cells + 2 * column + 1)
            low = tl.ceil((s - REACH_S) * scale - shift)
            bottom = tl.maximum(tl.minimum(low, n_rows + 0.0), 0.0).to(tl.int32)
            for d in tl.static_range(ROWS):
                r = bottom + d
                seen = exists & (u < n_columns) & (r < n_rows)
                ray = column * n_rows + r
                axis = tl.load(table + 5 * ray + 4, mask=seen, other=0)
                q = tl.where(axis == 0, x, tl.where(axis == 1, y, z))
                b0 = tl.load(table + 5 * ray, mask=seen, other=0)
                b = b0 + tl.load(table + 5 * ray + 1, mask=seen, other=0) * q
                c0 = tl.load(table + 5 * ray + 2, mask=seen, other=0)
                c = c0 + tl.load(table + 5 * ray + 3, mask=seen, other=0) * q
                w = linear_weight(b, tl.where(axis == 1, x, y), number)
                w = w * linear_weight(c, tl.where(axis == 2, x, z), number)
                seen = seen & (w > 0)
                length = tl.load(path + ray, mask=seen, other=0.0)
                cell = (v * columns + u // across).to(tl.int64) * rows + r // up
                value = tl.load(scan + cell, mask=seen, other=0.0) * length
                total = tl.fma(w, value, total)
    tl.store(volume + voxel, total, mask=exists)
