"""Weights of a ray (Joseph) or of a detector cell (footprint) in a tile of pixels, as a list.

The list of ``(index, weight)`` is written tap by tap along the ray, which compiles to vector
instructions.  Tiles hold pixels ``q0 <= q < q1`` along the ray's driving axis and
``p0 <= p < p1`` across, and a border of one more pixel all around.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import inner

Array = NDArray[Any]


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
