"""Joseph's projector for a stack of slices, and its transpose.

A ray that runs mainly along x visits every column ``j`` once, at the row ``r = r0 + dr j``, and
takes ``(1 - f) v[i, j] + f v[i + 1, j]`` with ``i = floor(r)``, ``f = r - i``, times the length
of its path per column; likewise along y.  Read backwards, pixel ``(i, j)`` gives the ray
``max(0, 1 - |r - i|)`` times that length: the transpose gathers the few rays that pass within
one pixel and uses the very same numbers ``r0``, ``dr`` and length.

References
----------
P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192-196, doi:10.1109/TMI.1982.4307572.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import kernel, prange

Array = NDArray[Any]

MARGIN = 1e-6  # columns; rays this near to the edge of the search weigh nothing, up to rounding


@kernel
def forward(volume: Array, rays: Array, sinogram: Array) -> None:
    """Write ``sinogram[view, column, slice]`` from ``volume[y, x, slice]``.

    ``rays[view, column]`` is ``(along_x, r0, dr, length)``, see
    :func:`medrecon.operators.rays.joseph_rays`.
    """
    ny, nx, slices = volume.shape
    views, columns, _ = sinogram.shape
    number = volume.dtype.type
    for t in prange(views * columns):
        v = t // columns
        u = t - v * columns
        r0, dr, length = rays[v, u, 1], rays[v, u, 2], rays[v, u, 3]
        total = np.zeros(slices, volume.dtype)
        along_x = rays[v, u, 0] > 0
        steps, limit = (nx, ny) if along_x else (ny, nx)
        for q in range(steps):
            r = r0 + dr * q
            if r <= -1.0 or r >= limit:
                continue
            p = math.floor(r)
            f = r - p
            a = number((1.0 - f) * length if p >= 0 else 0.0)
            b = number(f * length if p + 1 < limit else 0.0)
            low, high = max(p, 0), min(p + 1, limit - 1)
            if along_x:
                for s in range(slices):
                    total[s] += a * volume[low, q, s] + b * volume[high, q, s]
            else:
                for s in range(slices):
                    total[s] += a * volume[q, low, s] + b * volume[q, high, s]
        for s in range(slices):
            sinogram[v, u, s] = total[s]


@kernel
def transpose(sinogram: Array, rays: Array, views: Array, volume: Array) -> None:
    """Write ``volume[y, x, slice]`` from ``sinogram[view, column, slice]``.

    ``views[view]`` maps a pixel to its detector column, see
    :func:`medrecon.operators.rays.view_matrices`; it only bounds the search for rays.  The loop
    over views stands outside that over a row of pixels: one view's rays stay in the cache.
    """
    ny, nx, slices = volume.shape
    n_views, columns, _ = sinogram.shape
    number = volume.dtype.type
    for i in prange(ny):
        for j in range(nx):
            for s in range(slices):
                volume[i, j, s] = 0
        for v in range(n_views):
            for j in range(nx):
                # Centre column u of the pixel, and a bound of how far its neighbours' lie from
                # it: (A +- A_i) / (B +- B_i) - u = +-(A_i - u B_i) / (B +- B_i).
                B = views[v, 1, 0] + views[v, 1, 1] * j + views[v, 1, 2] * i
                u0 = (views[v, 0, 0] + views[v, 0, 1] * j + views[v, 0, 2] * i) / B
                reach = max(
                    abs(views[v, 0, 1] - u0 * views[v, 1, 1]),
                    abs(views[v, 0, 2] - u0 * views[v, 1, 2]),
                ) / (B - max(abs(views[v, 1, 1]), abs(views[v, 1, 2])))
                first = max(0, math.ceil(u0 - reach - MARGIN))
                last = min(columns - 1, math.floor(u0 + reach + MARGIN))
                for u in range(first, last + 1):
                    if rays[v, u, 0] > 0:
                        f = 1.0 - abs(rays[v, u, 1] + rays[v, u, 2] * j - i)
                    else:
                        f = 1.0 - abs(rays[v, u, 1] + rays[v, u, 2] * i - j)
                    # No test for f > 0: a wrong guess of the branch costs more than adding 0.
                    w = number(max(f, 0.0) * rays[v, u, 3])
                    for s in range(slices):
                        volume[i, j, s] += w * sinogram[v, u, s]
