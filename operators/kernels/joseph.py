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

from medrecon.operators.kernels.compile import inline, kernel, prange

Array = NDArray[Any]


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
        if rays[v, u, 0] > 0:
            for j in range(nx):
                r = r0 + dr * j
                if r <= -1.0 or r >= ny:
                    continue
                i = math.floor(r)
                f = r - i
                if i >= 0:
                    w = number((1.0 - f) * length)
                    for s in range(slices):
                        total[s] += w * volume[i, j, s]
                if i + 1 < ny:
                    w = number(f * length)
                    for s in range(slices):
                        total[s] += w * volume[i + 1, j, s]
        else:
            for i in range(ny):
                r = r0 + dr * i
                if r <= -1.0 or r >= nx:
                    continue
                j = math.floor(r)
                f = r - j
                if j >= 0:
                    w = number((1.0 - f) * length)
                    for s in range(slices):
                        total[s] += w * volume[i, j, s]
                if j + 1 < nx:
                    w = number(f * length)
                    for s in range(slices):
                        total[s] += w * volume[i, j + 1, s]
        for s in range(slices):
            sinogram[v, u, s] = total[s]


@inline
def _column(P: Array, v: int, i: float, j: float) -> Any:
    return (P[v, 0, 0] + P[v, 0, 1] * j + P[v, 0, 2] * i) / (
        P[v, 1, 0] + P[v, 1, 1] * j + P[v, 1, 2] * i
    )


@kernel
def transpose(sinogram: Array, rays: Array, views: Array, volume: Array) -> None:
    """Write ``volume[y, x, slice]`` from ``sinogram[view, column, slice]``.

    ``views[view]`` maps a pixel to its detector column, see
    :func:`medrecon.operators.rays.view_matrices`; it only bounds the search for rays.
    """
    ny, nx, slices = volume.shape
    n_views, columns, _ = sinogram.shape
    number = volume.dtype.type
    for i in prange(ny):
        total = np.empty(slices, volume.dtype)
        for j in range(nx):
            total[:] = 0
            for v in range(n_views):
                a, b = _column(views, v, i - 1.0, j), _column(views, v, i + 1.0, j)
                c, d = _column(views, v, i, j - 1.0), _column(views, v, i, j + 1.0)
                low = min(min(a, b), min(c, d))
                high = max(max(a, b), max(c, d))
                if high < 0 or low > columns - 1:
                    continue
                first = max(0, math.floor(low))
                last = min(columns - 1, math.ceil(high))
                for u in range(first, last + 1):
                    r = rays[v, u, 1]
                    if rays[v, u, 0] > 0:
                        f = 1.0 - abs(r + rays[v, u, 2] * j - i)
                    else:
                        f = 1.0 - abs(r + rays[v, u, 2] * i - j)
                    if f > 0.0:
                        w = number(f * rays[v, u, 3])
                        for s in range(slices):
                            total[s] += w * sinogram[v, u, s]
            for s in range(slices):
                volume[i, j, s] = total[s]
