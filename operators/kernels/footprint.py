"""Distance-driven cone-beam projector with separable footprints, and its transpose.

In the plane a detector cell casts a shadow ``[l, h]`` on every column (or row) of pixels; pixel
``i`` has the share ``|[l, h] & [i, i + 1]| / (h - l)``.  Along z the cell's shadow at the depth
of the pixel's centre covers ``[e, e + d]`` voxels and takes their mean.  The product of the two,
times the path per step, is the weight.  Overlaps along z are differences of interpolated prefix
sums, so a whole column of voxels costs two look-ups per detector row.

References
----------
B. De Man, S. Basu, Phys. Med. Biol. 49 (2004) 2463-2475, doi:10.1088/0031-9155/49/11/024.
Y. Long, J. A. Fessler, J. M. Balter, IEEE Trans. Med. Imaging 29 (2010) 1839-1850,
doi:10.1109/TMI.2010.2050898.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import kernel, prange

Array = NDArray[Any]

MARGIN = 1e-6  # columns; cells this near to the edge of the search weigh nothing, up to rounding


@kernel
def prefix_sums(values: Array, sums: Array) -> None:
    """Write ``sums[..., k] = values[..., :k].sum()``, accumulated in double precision."""
    first, second, n = values.shape
    for i in prange(first):
        for j in range(second):
            total = 0.0
            sums[i, j, 0] = 0.0
            for k in range(n):
                total += values[i, j, k]
                sums[i, j, k + 1] = total


@kernel
def forward(sums: Array, shadows: Array, views: Array, axial: Array, projections: Array) -> None:
    """Write ``projections[view, column, row]``, without the path lengths.

    Parameters
    ----------
    sums
        Prefix sums of the volume along z, ``[y, x, z + 1]``.
    shadows, views
        Tables of :func:`medrecon.operators.rays.shadow_rays` and ``view_matrices``.
    axial
        ``(z_edge, dz, v_edge, dv)``: lower edge and size of voxels in mm, lower edge and size of
        detector rows on the detector in mm.
    projections
        The result.
    """
    ny, nx, nz = sums.shape[0], sums.shape[1], sums.shape[2] - 1
    n_views, columns, rows = projections.shape
    number = sums.dtype.type
    z_edge, dz, v_edge, dv = axial[0], axial[1], axial[2], axial[3]
    zero, top = number(0), number(nz)
    for t in prange(n_views * columns):
        v = t // columns
        u = t - v * columns
        total = np.zeros(rows, sums.dtype)
        edge = np.empty(rows + 1, sums.dtype)
        along_x = shadows[v, u, 0] > 0
        steps, limit = (nx, ny) if along_x else (ny, nx)
        for q in range(steps):
            e = shadows[v, u, 1] + shadows[v, u, 2] * q
            f = shadows[v, u, 3] + shadows[v, u, 4] * q
            low, high = min(e, f), max(e, f)
            if high <= 0 or low >= limit:
                continue
            for p in range(max(0, math.floor(low)), min(limit - 1, math.floor(high)) + 1):
                overlap = min(high, p + 1.0) - max(low, float(p))
                if overlap <= 0:
                    continue
                i, j = (p, q) if along_x else (q, p)
                depth = views[v, 1, 0] + views[v, 1, 1] * j + views[v, 1, 2] * i
                d = number(depth * dv / dz)
                start = number((depth * v_edge - z_edge) / dz)
                w = number(overlap / (high - low) * dz / (depth * dv))
                for r in range(rows + 1):
                    z = min(max(start + d * number(r), zero), top)
                    k = min(np.int32(z), nz - 1)
                    below = sums[i, j, k]
                    edge[r] = below + (z - number(k)) * (sums[i, j, k + 1] - below)
                for r in range(rows):
                    total[r] += w * (edge[r + 1] - edge[r])
        for r in range(rows):
            projections[v, u, r] = total[r]


@kernel
def transpose(sums: Array, shadows: Array, views: Array, axial: Array, volume: Array) -> None:
    """Write ``volume[y, x, z]`` from the prefix sums of projections times path lengths.

    ``sums`` is ``[view, column, row + 1]``, accumulated along the rows; the other arguments are
    those of :func:`forward`.  Shares of neighbouring columns are blended first, as sums; one
    interpolation per voxel boundary then serves them all.
    """
    ny, nx, nz = volume.shape
    n_views, columns, rows = sums.shape[0], sums.shape[1], sums.shape[2] - 1
    number = volume.dtype.type
    z_edge, dz, v_edge, dv = axial[0], axial[1], axial[2], axial[3]
    zero, top = number(0), number(rows)
    for i in prange(ny):
        blend = np.empty(rows + 1, volume.dtype)
        edge = np.empty(nz + 1, volume.dtype)
        for j in range(nx):
            for k in range(nz):
                volume[i, j, k] = 0
        for v in range(n_views):
            for j in range(nx):
                # Centre column u of the pixel and a bound of how far its edges' lie from it, as
                # in joseph.transpose, with half a pixel and half a cell.
                depth = views[v, 1, 0] + views[v, 1, 1] * j + views[v, 1, 2] * i
                u0 = (views[v, 0, 0] + views[v, 0, 1] * j + views[v, 0, 2] * i) / depth
                reach = 0.5 + 0.5 * max(
                    abs(views[v, 0, 1] - u0 * views[v, 1, 1]),
                    abs(views[v, 0, 2] - u0 * views[v, 1, 2]),
                ) / (depth - 0.5 * max(abs(views[v, 1, 1]), abs(views[v, 1, 2])))
                first = max(0, math.ceil(u0 - reach - MARGIN))
                last = min(columns - 1, math.floor(u0 + reach + MARGIN))
                empty = True
                for u in range(first, last + 1):
                    q, p = (j, i) if shadows[v, u, 0] > 0 else (i, j)
                    e = shadows[v, u, 1] + shadows[v, u, 2] * q
                    f = shadows[v, u, 3] + shadows[v, u, 4] * q
                    low, high = min(e, f), max(e, f)
                    overlap = min(high, p + 1.0) - max(low, float(p))
                    if overlap <= 0:
                        continue
                    w = number(overlap / (high - low))
                    if empty:
                        for r in range(rows + 1):
                            blend[r] = w * sums[v, u, r]
                        empty = False
                    else:
                        for r in range(rows + 1):
                            blend[r] += w * sums[v, u, r]
                if empty:
                    continue
                step = number(dz / (depth * dv))
                start = number((z_edge / depth - v_edge) / dv)
                for k in range(nz + 1):
                    y = min(max(start + step * number(k), zero), top)
                    r = min(np.int32(y), rows - 1)
                    below = blend[r]
                    edge[k] = below + (y - number(r)) * (blend[r + 1] - below)
                for k in range(nz):
                    volume[i, j, k] += edge[k + 1] - edge[k]
