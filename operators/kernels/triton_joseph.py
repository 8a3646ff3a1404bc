"""Joseph's projector for a stack of slices on a GPU: the twin of :mod:`.joseph`.

A program owns a tile of rays (pixels, in the transpose) times a block of slices; the slices lie
side by side in memory, and the weights of a ray are worked out once for all of them.
"""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.engine import on_device
from medrecon.operators.kernels.triton_search import Search, first_column, lowest
from medrecon.operators.kernels.triton_tools import (
    Tile,
    add_product,
    fixed,
    jit,
    linear_weight,
    start,
    tile,
)

Array = NDArray[np.float64]
Index = NDArray[np.int32]

FORWARD = Tile(depth=256)
TRANSPOSE = Tile(depth=256)


def forward(
    volume: Tensor,
    rays: Array,
    views: Array,
    t: Array,
    lookup: Index,
    marks: Array,
    pattern: Index,
    sinogram: Tensor,
) -> None:
    """Write ``sinogram[view, column, slice]``; arguments as of :func:`.joseph.forward`."""
    ny, nx, slices = volume.shape
    n_views, columns, _ = sinogram.shape
    shape = tile(FORWARD, slices, volume)
    tiles = triton.cdiv(columns, shape.lines)
    start(
        _forward,
        (n_views * tiles, triton.cdiv(slices, shape.depth)),
        *(volume, on_device(rays, volume.device, positions)),
        *(on_device(rays, volume.device, lengths), sinogram),
        *(ny, nx, slices, columns, tiles, max(ny, nx)),
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def transpose(
    sinogram: Tensor,
    rays: Array,
    views: Array,
    t: Array,
    lookup: Index,
    marks: Array,
    pattern: Index,
    volume: Tensor,
) -> None:
    """Write ``volume[y, x, slice]``; arguments as of :func:`.joseph.transpose`."""
    ny, nx, slices = volume.shape
    n_views, columns, _ = sinogram.shape
    shape = tile(TRANSPOSE, slices, volume)
    search = Search(views, t, lookup, marks, pattern, pixels=(ny, nx), neighbours=1.0)
    start(
        _transpose,
        (triton.cdiv(ny * nx, shape.lines), triton.cdiv(slices, shape.depth)),
        *(sinogram, on_device(rays, volume.device, positions)),
        *(on_device(rays, volume.device, lengths), *search.on(volume.device), volume),
        *(ny, nx, slices, columns, n_views),
        **search.constants,
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def positions(rays: Array) -> NDArray[np.int64]:
    """Row (or column) at the first step and slope, in fixed point, and 1 for a ray along x."""
    return np.stack([fixed(rays[..., 1]), fixed(rays[..., 2]), rays[..., 0] > 0], -1)


def lengths(rays: Array) -> Array:
    """Path per step, mm."""
    return rays[..., 3]


@jit
def _forward(
    volume,
    rays,
    lengths,
    sinogram,
    ny,
    nx,
    slices,
    columns,
    tiles,
    steps,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    view = tl.program_id(0) // tiles
    u = (tl.program_id(0) - view * tiles) * LINES + tl.arange(0, LINES)
    s = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    exists, inside = u < columns, s < slices
    number = volume.dtype.element_ty
    ray = view.to(tl.int64) * columns + u
    r = tl.load(rays + 3 * ray, mask=exists, other=0)
    dr = tl.load(rays + 3 * ray + 1, mask=exists, other=0)
    along_x = tl.load(rays + 3 * ray + 2, mask=exists, other=0) > 0
    # Along x, q is a column of pixels and p a row; along y the other way round.
    length_q, length_p = tl.where(along_x, nx, ny), tl.where(along_x, ny, nx)
    step_q = tl.where(along_x, slices, slices * nx).to(tl.int64)
    step_p = tl.where(along_x, slices * nx, slices).to(tl.int64)
    total = tl.zeros((LINES, DEPTH), number)
    for q in range(steps):
        below = (r >> 32).to(tl.int32)
        for t in tl.static_range(2):
            p = below + t
            hit = exists & (q < length_q) & (p >= 0) & (p < length_p)
            w = linear_weight(r, p, number)
            value = tl.load(
                volume + (q * step_q + p * step_p)[:, None] + s[None, :],
                mask=hit[:, None] & inside[None, :],
                other=0.0,
            )
            total = add_product(w, value, total)
        r += dr  # exact, so the same as start + q * slope
    length = tl.load(lengths + ray, mask=exists, other=0.0).to(number)
    target = sinogram + (ray * slices)[:, None] + s[None, :]
    tl.store(target, total * length[:, None], mask=exists[:, None] & inside[None, :])


@jit
def _transpose(
    sinogram,
    rays,
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
        first = first_column(low, lookup, marks, patterns, v, columns, CURVED)
        for t in tl.static_range(TAPS):
            u = first + t
            seen = exists & (u >= 0) & (u < columns)
            ray = (v * columns + u).to(tl.int64)
            r0 = tl.load(rays + 3 * ray, mask=seen, other=0)
            dr = tl.load(rays + 3 * ray + 1, mask=seen, other=0)
            along_x = tl.load(rays + 3 * ray + 2, mask=seen, other=0) > 0
            q, p = tl.where(along_x, j, i), tl.where(along_x, i, j)
            r = r0 + dr * q
            w = linear_weight(r, p, number) * tl.load(lengths + ray, mask=seen, other=0.0).to(
                number
            )
            value = tl.load(
                sinogram + (ray * slices)[:, None] + s[None, :],
                mask=(seen & (w > 0))[:, None] & inside[None, :],
                other=0.0,
            )
            total = add_product(w, value, total)
    target = volume + (pixel.to(tl.int64) * slices)[:, None] + s[None, :]
    tl.store(target, total, mask=exists[:, None] & inside[None, :])
