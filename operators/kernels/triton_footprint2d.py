"""Footprints in slices on a GPU: the twin of :mod:`.footprint2d`.

Tiles are those of :mod:`.triton_joseph`, shares those of :mod:`.triton_footprint`.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.engine import on_device
from medrecon.operators.kernels.triton_plane import meet, positions, share_of, widest_shadow
from medrecon.operators.kernels.triton_search import Search, first_column, lowest
from medrecon.operators.kernels.triton_tools import Tile, add_product, jit, start, tile

Array = NDArray[np.float64]
Index = NDArray[np.int32]

FORWARD = Tile(depth=256)
TRANSPOSE = Tile(depth=256)


def forward(
    volume: Tensor,
    shadows: Array,
    views: Array,
    edges: Array,
    lookup: Index,
    marks: Array,
    pattern: Index,
    sinogram: Tensor,
) -> None:
    """Write ``sinogram[view, column, slice]``; arguments as of :func:`.footprint2d.forward`."""
    ny, nx, slices = volume.shape
    n_views, columns, _ = sinogram.shape
    shape = tile(FORWARD, slices, volume)
    tiles = triton.cdiv(columns, shape.lines)
    start(
        _forward,
        (n_views * tiles, triton.cdiv(slices, shape.depth)),
        *(volume, on_device(shadows, volume.device, positions)),
        *(on_device(shadows, volume.device, lengths), sinogram),
        *(ny, nx, slices, columns, tiles, max(ny, nx)),
        PIXELS=widest_shadow(shadows, ny, nx),
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def transpose(
    sinogram: Tensor,
    shadows: Array,
    views: Array,
    edges: Array,
    lookup: Index,
    marks: Array,
    pattern: Index,
    volume: Tensor,
) -> None:
    """Write ``volume[y, x, slice]``; arguments as of :func:`.footprint2d.transpose`."""
    ny, nx, slices = volume.shape
    n_views, columns, _ = sinogram.shape
    shape = tile(TRANSPOSE, slices, volume)
    search = Search(views, edges, lookup, marks, pattern, pixels=(ny, nx), neighbours=0.5)
    start(
        _transpose,
        (triton.cdiv(ny * nx, shape.lines), triton.cdiv(slices, shape.depth)),
        *(sinogram, on_device(shadows, volume.device, positions)),
        *(on_device(shadows, volume.device, lengths), *search.on(volume.device), volume),
        *(ny, nx, slices, columns, n_views),
        **search.constants,
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def lengths(shadows: Array) -> Array:
    """Path per step, mm."""
    return shadows[..., 5]


@jit
def _forward(
    volume,
    shadows,
    lengths,
    sinogram,
    ny,
    nx,
    slices,
    columns,
    tiles,
    steps,
    PIXELS: tl.constexpr,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    view = tl.program_id(0) // tiles
    u = (tl.program_id(0) - view * tiles) * LINES + tl.arange(0, LINES)
    s = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    exists, inside = u < columns, s < slices
    number = volume.dtype.element_ty
    ray = view.to(tl.int64) * columns + u
    shadow = shadows + 5 * ray
    e = tl.load(shadow, mask=exists, other=0)
    de = tl.load(shadow + 1, mask=exists, other=0)
    f = tl.load(shadow + 2, mask=exists, other=1)
    df = tl.load(shadow + 3, mask=exists, other=0)
    along_x = tl.load(shadow + 4, mask=exists, other=0) > 0
    length_q, length_p = tl.where(along_x, nx, ny), tl.where(along_x, ny, nx)
    step_q = tl.where(along_x, slices, slices * nx).to(tl.int64)
    step_p = tl.where(along_x, slices * nx, slices).to(tl.int64)
    total = tl.zeros((LINES, DEPTH), number)
    for q in range(steps):
        first = (tl.minimum(e, f) >> 32).to(tl.int32)
        for t in tl.static_range(PIXELS):
            p = first + t
            w = meet(e, f, p, number)
            hit = exists & (w > 0) & (q < length_q) & (p >= 0) & (p < length_p)
            value = tl.load(
                volume + (q * step_q + p * step_p)[:, None] + s[None, :],
                mask=hit[:, None] & inside[None, :],
                other=0.0,
            )
            total = add_product(w, value, total)
        e += de  # exact, so the same as start + q * slope
        f += df
    length = tl.load(lengths + ray, mask=exists, other=0.0).to(number)
    target = sinogram + (ray * slices)[:, None] + s[None, :]
    tl.store(target, total * length[:, None], mask=exists[:, None] & inside[None, :])


@jit
def _transpose(
    sinogram,
    shadows,
    lengths,
    views,
    lookup,
    marks,
    patterns,
    volume,
    ny,
    nx,
    slices,
    columns,
    n_views,
    NEIGHBOURS: tl.constexpr,
    TAPS: tl.constexpr,
    CURVED: tl.constexpr,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    pixel = tl.program_id(0) * LINES + tl.arange(0, LINES)
    i, j = pixel // nx, pixel % nx
    s = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    exists, inside = pixel < ny * nx, s < slices
    number = volume.dtype.element_ty
    total = tl.zeros((LINES, DEPTH), number)
    for v in range(n_views):
        low = lowest(views + 6 * v, i, j, NEIGHBOURS)
        edge = first_column(low, lookup, marks, patterns, v, columns + 1, CURVED)
        for t in tl.static_range(TAPS + 1):  # one more cell than edges
            u = edge - 1 + t
            seen = exists & (u >= 0) & (u < columns)
            ray = (v * columns + tl.where(seen, u, 0)).to(tl.int64)
            along_x = tl.load(shadows + 5 * ray + 4) > 0
            q, p = tl.where(along_x, j, i), tl.where(along_x, i, j)
            w = share_of(shadows + 5 * ray, q, p, number) * tl.load(lengths + ray).to(number)
            value = tl.load(
                sinogram + (ray * slices)[:, None] + s[None, :],
                mask=(seen & (w > 0))[:, None] & inside[None, :],
                other=0.0,
            )
            total = add_product(w, value, total)
    target = volume + (pixel.to(tl.int64) * slices)[:, None] + s[None, :]
    tl.store(target, total, mask=exists[:, None] & inside[None, :])
