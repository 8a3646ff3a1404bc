"""Projection of a stack of slices: weights worked out once per ray, applied to all slices.

The weights of a ray (Joseph) or of a detector cell (footprint) in a tile of pixels are written to
a list of ``(index, weight)``, tap by tap along the ray, which compiles to vector instructions.
The list is then gathered (forward), scattered (transpose) or copied into a matrix: the three
agree by construction.  A tile of all slices fits into the second-level cache; the forward pass
takes it through a chunk of views, the transpose through all of them.  Every output element is
written by one thread, in an order that does not depend on their number.

Tiles hold pixels ``q0 <= q < q1`` along the ray's driving axis and ``p0 <= p < p1`` across, and a
border of one more pixel all around, which is zero (forward) or dropped (transpose).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import inner, kernel, launch, prange
from medrecon.operators.kernels.simd import gather, scatter

Array = NDArray[Any]

TILE_BYTES = 2**19
MARGIN = 1e-6  # columns; rays this near to a corner of a tile weigh nothing, up to rounding


@inner
def clip(r0: float, dr: float, low: float, high: float, q0: int, q1: int) -> tuple[int, int]:
    """Find the steps ``q`` of a line ``r0 + dr q`` that lie between two values, or one step off."""
    if dr == 0.0:
        return (q0, q1) if low <= r0 <= high else (q0, q0)
    a, b = (low - r0) / dr, (high - r0) / dr
    # Lines that are nearly level meet the ends far away: bound before rounding to integers.
    first = max(float(q0), np.floor(min(a, b)))
    last = min(float(q1), np.ceil(max(a, b)) + 1.0)
    return (int(first), int(last)) if first < last else (q0, q0)


@inner
def joseph(
    ray: Array,
    q0: int,
    q1: int,
    p0: int,
    p1: int,
    step_q: int,
    step_p: int,
    index: Array,
    weight: Array,
) -> int:
    """Interpolate between the two pixels beside the ray ``(along_x, r0, dr, length)``."""
    r0, dr, length = ray[1], ray[2], ray[3]
    low, high = p0 - 1.0, p1 - 1.0
    first, last = clip(r0, dr, low, high + 1.0, q0, q1)
    n = last - first
    for k in range(n):
        q = first + k
        r = min(max(r0 + dr * q, low), high + 1.0)
        p = min(np.floor(r), high)
        f = r - p
        at = (q - q0 + 1) * step_q + int(p - low) * step_p
        index[k] = at
        index[n + k] = at + step_p
        weight[k] = (1.0 - f) * length
        weight[n + k] = f * length
    return 2 * n


@inner
def footprint(
    ray: Array,
    q0: int,
    q1: int,
    p0: int,
    p1: int,
    step_q: int,
    step_p: int,
    index: Array,
    weight: Array,
) -> int:
    """Share of each pixel in a cell's shadow ``(along_x, e0, de, f0, df, length)``."""
    e0, de, f0, df, length = ray[1], ray[2], ray[3], ray[4], ray[5]
    if e0 + de * q0 > f0 + df * q0:
        e0, de, f0, df = f0, df, e0, de
    bottom, top, low = float(p0), float(p1), p0 - 1.0
    first, last = clip(e0, de, -math.inf, top, q0, q1)
    first, last = clip(f0, df, bottom, math.inf, first, last)
    n = last - first
    if n <= 0:
        return 0
    width = f0 - e0 + max((df - de) * first, (df - de) * (last - 1))
    taps = int(np.floor(width)) + 2
    for tap in range(taps):
        for k in range(n):
            q = first + k
            e, f = e0 + de * q, f0 + df * q
            p = np.floor(e) + tap
            overlap = min(min(f, top), p + 1.0) - max(max(e, bottom), p)
            inside = min(max(p, low), top)
            index[tap * n + k] = (q - q0 + 1) * step_q + int(inside - low) * step_p
            weight[tap * n + k] = max(overlap, 0.0) / (f - e) * length
    return taps * n


@inner
def weigh(
    ray: Array,
    i0: int,
    i1: int,
    j0: int,
    j1: int,
    step_i: int,
    step_j: int,
    index: Array,
    weight: Array,
) -> int:
    """Fill ``index`` and ``weight`` for a row of either table and return how many there are.

    ``step_i`` and ``step_j`` are the distances of neighbours along y and x in the tile's memory.
    """
    if ray.size == 4:
        if ray[0] > 0:
            return joseph(ray, j0, j1, i0, i1, step_j, step_i, index, weight)
        return joseph(ray, i0, i1, j0, j1, step_i, step_j, index, weight)
    if ray[0] > 0:
        return footprint(ray, j0, j1, i0, i1, step_j, step_i, index, weight)
    return footprint(ray, i0, i1, j0, j1, step_i, step_j, index, weight)


@inner
def reach(
    view: Array, low: Array, high: Array, i0: int, i1: int, j0: int, j1: int
) -> tuple[int, int]:
    """First and one past the last column that may touch a tile.

    ``view`` is the map ``(2, 3)`` from a pixel to the detector's tangent; columns reach from
    ``low`` to ``high`` there, which are equal for rays.
    """
    start, stop = math.inf, -math.inf
    for i in (i0 - 1, i1):
        for j in (j0 - 1, j1):
            above = view[0, 0] + view[0, 1] * j + view[0, 2] * i
            t = above / (view[1, 0] + view[1, 1] * j + view[1, 2] * i)
            start, stop = min(start, t), max(stop, t)
    first, last = np.searchsorted(high, start - MARGIN), np.searchsorted(low, stop + MARGIN)
    return int(first), int(last)


@inner
def gather_all(
    cells: Array, at: int, pixels: Array, index: Array, weight: Array, count: int, lanes: int
) -> None:
    """Add the listed pixels to a detector cell, for all slices."""
    if lanes % 16 == 0:
        for s in range(0, lanes, 16):
            gather(cells, at + s, pixels, s, lanes, index, weight, 0, count, 16)
    elif lanes == 4:
        gather(cells, at, pixels, 0, lanes, index, weight, 0, count, 4)
    else:
        gather(cells, at, pixels, 0, lanes, index, weight, 0, count, 1)


@inner
def scatter_all(
    pixels: Array, index: Array, weight: Array, count: int, cells: Array, at: int, lanes: int
) -> None:
    """Add a detector cell to the listed pixels, for all slices."""
    if lanes % 16 == 0:
        for s in range(0, lanes, 16):
            scatter(pixels, s, lanes, index, weight, count, cells, at + s, 16)
    elif lanes == 4:
        scatter(pixels, 0, lanes, index, weight, count, cells, at, 4)
    else:
        scatter(pixels, 0, lanes, index, weight, count, cells, at, 1)


@inner
def copy(tile: Array, volume: Array, i0: int, i1: int, j0: int, j1: int, from_volume: bool) -> None:
    """Copy pixels between a volume and the inside of a tile."""
    for i in range(i0, i1):
        for j in range(j0, j1):
            for s in range(volume.shape[2]):
                if from_volume:
                    tile[i - i0 + 1, j - j0 + 1, s] = volume[i, j, s]
                else:
                    volume[i, j, s] = tile[i - i0 + 1, j - j0 + 1, s]


@inner
def project_views(
    volume: Array,
    rays: Array,
    views: Array,
    low: Array,
    high: Array,
    pattern: Array,
    side: int,
    taps: int,
    sinogram: Array,
) -> None:
    """Project all tiles in some views, which the first axes of tables and result hold."""
    ny, nx, lanes = volume.shape
    tile = np.zeros((side + 2, side + 2, lanes), volume.dtype)
    pixels, cells = tile.reshape(tile.size), sinogram.reshape(sinogram.size)
    index, weight = np.empty(taps * side, np.int32), np.empty(taps * side, volume.dtype)
    cells[:] = 0
    for i0 in range(0, ny, side):
        for j0 in range(0, nx, side):
            i1, j1 = min(ny, i0 + side), min(nx, j0 + side)
            tile[:] = 0
            copy(tile, volume, i0, i1, j0, j1, True)
            for v in range(len(rays)):
                k = pattern[v]
                first, last = reach(views[v], low[k], high[k], i0, i1, j0, j1)
                for u in range(first, last):
                    count = weigh(rays[v, u], i0, i1, j0, j1, side + 2, 1, index, weight)
                    if count > 0:
                        at = (v * rays.shape[1] + u) * lanes
                        gather_all(cells, at, pixels, index, weight, count, lanes)


@inner
def backproject_tile(
    sinogram: Array,
    rays: Array,
    views: Array,
    low: Array,
    high: Array,
    pattern: Array,
    i0: int,
    j0: int,
    side: int,
    taps: int,
    volume: Array,
) -> None:
    """Back-project all views into the tile that begins at a pixel."""
    ny, nx, lanes = volume.shape
    i1, j1 = min(ny, i0 + side), min(nx, j0 + side)
    tile = np.zeros((side + 2, side + 2, lanes), volume.dtype)
    pixels, cells = tile.reshape(tile.size), sinogram.reshape(sinogram.size)
    index, weight = np.empty(taps * side, np.int32), np.empty(taps * side, volume.dtype)
    for v in range(len(rays)):
        k = pattern[v]
        first, last = reach(views[v], low[k], high[k], i0, i1, j0, j1)
        for u in range(first, last):
            count = weigh(rays[v, u], i0, i1, j0, j1, side + 2, 1, index, weight)
            if count > 0:
                at = (v * rays.shape[1] + u) * lanes
                scatter_all(pixels, index, weight, count, cells, at, lanes)
    copy(tile, volume, i0, i1, j0, j1, False)


@kernel
def forward(
    volume: Array,
    rays: Array,
    views: Array,
    low: Array,
    high: Array,
    pattern: Array,
    sizes: Array,
    sinogram: Array,
) -> None:
    """Write ``sinogram[view, column, slice]`` from ``volume[y, x, slice]``.

    Parameters
    ----------
    volume, sinogram
        Contiguous; 1, 4 or a multiple of 16 slices.
    rays
        ``(views, columns, 4)`` for Joseph, ``(views, columns, 6)`` for footprints.
    views
        Maps from pixels to the detector's tangent, ``(views, 2, 3)``.
    low, high, pattern
        Where columns begin and end on the tangent, ``(patterns, columns)``, and the pattern of
        each view.
    sizes
        Side of a tile, views in a chunk, most pixels across that a cell's shadow touches.
    """
    side, chunk, taps = sizes[0], sizes[1], sizes[2]
    for task in prange((len(sinogram) + chunk - 1) // chunk):
        a, b = task * chunk, min(len(sinogram), (task + 1) * chunk)
        project_views(
            *(volume, rays[a:b], views[a:b], low, high, pattern[a:b], side, taps, sinogram[a:b])
        )


@kernel
def transpose(
    sinogram: Array,
    rays: Array,
    views: Array,
    low: Array,
    high: Array,
    pattern: Array,
    sizes: Array,
    volume: Array,
) -> None:
    """Write ``volume[y, x, slice]`` from ``sinogram[view, column, slice]``, see :func:`forward`."""
    ny, nx, _ = volume.shape
    side, taps = sizes[0], sizes[2]
    across = (nx + side - 1) // side
    for task in prange(across * ((ny + side - 1) // side)):
        i0, j0 = task // across * side, task % across * side
        backproject_tile(*(sinogram, rays, views, low, high, pattern, i0, j0, side, taps, volume))


def run_forward(
    volume: Array,
    rays: Array,
    views: Array,
    low: Array,
    high: Array,
    pattern: Array,
    taps: int,
    sinogram: Array,
) -> None:
    """Call :func:`forward` with padded slices and well-chosen sizes."""
    source = padded(volume)
    target = room(sinogram, source.shape[2])
    sizes = _sizes(source.shape, len(rays), taps, source.itemsize)
    launch(forward, source, rays, views, low, high, pattern, sizes, target)
    strip(target, sinogram)


def run_transpose(
    sinogram: Array,
    rays: Array,
    views: Array,
    low: Array,
    high: Array,
    pattern: Array,
    taps: int,
    volume: Array,
) -> None:
    """Call :func:`transpose` with padded slices and well-chosen sizes."""
    source = padded(sinogram)
    target = room(volume, source.shape[2])
    sizes = _sizes(target.shape, len(rays), taps, source.itemsize)
    launch(transpose, source, rays, views, low, high, pattern, sizes, target)
    strip(target, volume)


def lanes_for(slices: int) -> int:
    """Slices rounded up to what the vector loops take: 1, 4 or a multiple of 16."""
    if slices <= 1:
        return slices
    return 4 if slices <= 4 else math.ceil(slices / 16) * 16


def padded(values: Array) -> Array:
    """Values with as many slices as the vector loops take."""
    extra = lanes_for(values.shape[2]) - values.shape[2]
    return np.pad(values, ((0, 0), (0, 0), (0, extra))) if extra else values


def room(like: Array, lanes: int) -> Array:
    """Room for a result of so many slices: the result itself, if it has them."""
    return like if like.shape[2] == lanes else np.empty((*like.shape[:2], lanes), like.dtype)


def strip(padded: Array, target: Array) -> None:
    """Copy the slices that count, unless they are there already."""
    if padded is not target:
        target[:] = padded[:, :, : target.shape[2]]


def _sizes(shape: tuple[int, ...], views: int, taps: int, itemsize: int) -> Array:
    """Side of a tile, views in a chunk, taps: none of them changes a result but for rounding.

    A tile is to stay in the second-level cache and be one of at least 16, a chunk one of four for
    every thread.  Tiles do not depend on the number of threads, so neither does the rounding.
    """
    ny, nx, lanes = shape
    most = math.isqrt(TILE_BYTES // (max(lanes, 1) * itemsize)) - 2
    side = max(8, min(most, max(32, math.ceil(max(ny, nx) / 4))))
    side = math.ceil(max(ny, nx) / math.ceil(max(ny, nx) / side))
    chunk = max(1, min(16, views // (4 * torch.get_num_threads())))
    return np.array([side, chunk, taps])


@kernel
def count_entries(rays: Array, shape: tuple[int, int], taps: int, counts: Array) -> None:
    """Write how many weights differ from zero in each row of the matrix, ``(views, columns)``."""
    ny, nx = shape
    for v in prange(len(rays)):
        index = np.empty(taps * max(shape), np.int32)
        weight = np.empty(taps * max(shape), np.float64)
        for u in range(rays.shape[1]):
            count = weigh(rays[v, u], 0, ny, 0, nx, nx + 2, 1, index, weight)
            some = 0
            for k in range(count):
                some += entry(index[k], weight[k], ny, nx) >= 0
            counts[v, u] = some


@kernel
def write_entries(
    rays: Array, shape: tuple[int, int], taps: int, rows: Array, columns: Array, values: Array
) -> None:
    """Write the matrix in compressed rows; ``rows`` holds where each one starts."""
    ny, nx = shape
    for v in prange(len(rays)):
        index = np.empty(taps * max(shape), np.int32)
        weight = np.empty(taps * max(shape), np.float64)
        for u in range(rays.shape[1]):
            count = weigh(rays[v, u], 0, ny, 0, nx, nx + 2, 1, index, weight)
            at = rows[v * rays.shape[1] + u]
            for k in range(count):
                pixel = entry(index[k], weight[k], ny, nx)
                if pixel >= 0:
                    columns[at], values[at] = pixel, weight[k]
                    at += 1


@inner
def entry(index: int, weight: float, ny: int, nx: int) -> int:
    """Pixel of an index into a tile as large as the image, or -1 if it counts for nothing."""
    i, j = index // (nx + 2) - 1, index % (nx + 2) - 1
    if weight == 0.0 or i < 0 or j < 0 or i >= ny or j >= nx:
        return -1
    return i * nx + j
