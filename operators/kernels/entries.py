"""The weights of a whole image, row by row, as entries of a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import inner, kernel, prange
from medrecon.operators.kernels.weights import weigh

Array = NDArray[Any]


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
