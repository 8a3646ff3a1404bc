"""Projection of a stack of slices: weights worked out once per ray, applied to all slices.

The list of a ray's weights in a tile (:mod:`.weights`) is gathered (forward) or scattered
(transpose), so the two agree by construction; :mod:`.entries` copies it into a matrix.  A tile of
all slices fits into the second-level cache; the forward pass takes it through a chunk of views,
the transpose through all of them.  Every output element is written by one thread, in an order that
does not depend on their number.  The border of a tile is zero (forward) or dropped (transpose).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import inner, kernel, launch, prange
from medrecon.operators.kernels.lanes import gather_all, padded, room, scatter_all, strip
from medrecon.operators.kernels.weights import weigh

Array = NDArray[Any]

TILE_BYTES = 2**19
MARGIN = 1e-6  # columns; rays this near to a corner of a tile weigh nothing, up to rounding


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
                        gather_all(cells, at, pixels, index, weight, 0, count, lanes)


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
