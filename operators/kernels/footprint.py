"""Distance-driven cone-beam projector with separable footprints, and its transpose.

In the plane a detector cell casts a shadow ``[l, h]`` on every column (or row) of pixels; pixel
``i`` has the share ``|[l, h] & [i, i + 1]| / (h - l)``.  Along z the cell's shadow at the
magnification ``m`` of the pixel's centre covers ``[e, e + d]`` voxels and takes their mean.  The
product of the two, times the path per step, is the weight.  Overlaps along z are differences of
interpolated prefix sums, taken once per pixel and view: the forward then spreads them over the
two or three columns that see the pixel, the transpose blends these columns first.

Both directions find the same columns by the same search (:func:`first_column`) and weigh them by
the same functions, :func:`share` and :func:`magnification`.  A thread owns views in the forward
and rows of pixels in the transpose, so nothing is written twice.  Work along z is spent only on
what a view sees.

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

from medrecon.operators.kernels.compile import empty, inner, kernel, launch, prange

Array = NDArray[Any]

MARGIN = 1e-6  # columns; cells this near to the edge of the search weigh nothing, up to rounding


@kernel
def prefix_sums(values: Array, sums: Array) -> None:
    """Write ``sums[..., k] = values[..., :k].sum()``, accumulated in double precision.

    ``sums`` is longer by two: its last entry repeats the total, so that interpolation may touch
    the entry after the end.  Rounded to single precision, sums over n entries leave each entry with
    an error of some n times 3e-8 of the mean (2e-5 at 512); neighbours' errors cancel, so that
    nothing drifts.
    """
    first, second, n = values.shape
    for i in prange(first):
        for j in range(second):
            total = 0.0
            sums[i, j, 0] = 0.0
            for k in range(n):
                total += values[i, j, k]
                sums[i, j, k + 1] = total
            sums[i, j, n + 1] = total


@kernel
def weighted_prefix_sums(values: Array, rows: Array, paths: Array, sums: Array) -> None:
    """Like :func:`prefix_sums` of projections ``[view, column, row]`` times the path lengths."""
    views, columns, n = values.shape
    for v in prange(views):
        for u in range(columns):
            total = 0.0
            sums[v, u, 0] = 0.0
            for r in range(n):
                total += values[v, u, r] * path(rows, paths, v, u, r)
                sums[v, u, r + 1] = total
            sums[v, u, n + 1] = total


@inner
def path(rows: Array, paths: Array, v: int, u: int, r: int) -> Any:
    """Length in mm of the ray of a cell per step in the plane."""
    climb = paths[v, u, 1] * (rows[v, 1] + rows[v, 2] * (r + 0.5))
    return paths[v, u, 0] * math.sqrt(1.0 + climb * climb)


@inner
def magnification(depth: float, t: float, curves: Array, v: int) -> Any:
    """Shrink of the detector's rows at a pixel, see :func:`medrecon.operators.axial.curvatures`."""
    if curves[v, 5] <= 0.0:
        return depth
    slope = curves[v, 0] + curves[v, 1] * t
    q, r = slope * curves[v, 2] + curves[v, 3], 1.0 + slope * slope
    return depth * curves[v, 5] * r / (q + math.sqrt(q * q + curves[v, 4] * r))


@inner
def reach(t: float, depth: float, views: Array, v: int) -> Any:
    """Bound of how far a pixel's edges fall from its centre's ``t``.

    ``(A +- A_i / 2) / (B +- B_i / 2) - t = +-(A_i - t B_i) / 2 / (B +- B_i / 2)``.
    """
    along = abs(views[v, 0, 1] - t * views[v, 1, 1])
    across = abs(views[v, 0, 2] - t * views[v, 1, 2])
    nearest = depth - 0.5 * max(abs(views[v, 1, 1]), abs(views[v, 1, 2]))
    return 0.5 * max(along, across) / nearest + MARGIN


@inner
def first_column(low: float, edges: Array, lookup: Array, marks: Array, kind: int) -> Any:
    """First column whose upper edge is not below ``low``; the table :class:`Tangents` of edges."""
    n = edges.shape[1]
    k = math.floor((low - marks[kind, 0]) / marks[kind, 1])
    e = lookup[kind, min(max(k, 0), n - 1)]
    while e < n and edges[kind, e] < low:
        e += 1
    return max(e - 1, 0)


@inner
def share(shadows: Array, v: int, u: int, i: int, j: int) -> Any:
    """Share of pixel ``(i, j)`` in the shadow of column ``u``, 0 where they do not meet."""
    q, p = (j, i) if shadows[v, u, 0] > 0 else (i, j)
    e = shadows[v, u, 1] + shadows[v, u, 2] * q
    f = shadows[v, u, 3] + shadows[v, u, 4] * q
    low, high = min(e, f), max(e, f)
    return max(min(high, p + 1.0) - max(low, float(p)), 0.0) / (high - low)


@inner
def seen(start: float, step: float, n: int, top: int) -> Any:
    """Edges ``first`` to ``last`` of ``0..n`` whose intervals meet ``[0, top]``; equal if none."""
    first = max(0.0, np.floor(-start / step))
    last = min(float(n), np.ceil((top - start) / step))
    return int(min(first, float(n))), int(max(min(first, float(n)), last))


@inner
def differences(
    line: Array,
    start: float,
    step: float,
    first: int,
    last: int,
    index: Array,
    part: Array,
    result: Array,
) -> None:
    """Overlaps ``line(start + step (n + 1)) - line(start + step n)``, into ``result[n - first]``.

    Only the ends may lie outside of the line, and are clamped.  Passes with one kind of work
    and indices that cannot be negative let the compiler make vectors of them.
    """
    top = line.size - 2
    count = last - first
    offset = start + step * first
    for n in range(count + 1):
        z = offset + step * n
        index[n] = np.int32(z)
        part[n] = z - np.int32(z)
    if offset <= 0.0:
        index[0], part[0] = 0, 0
    if offset + step * count >= top:
        index[count], part[count] = top, 0
    for n in range(count + 1):
        k = np.uint64(np.uint32(index[n]))
        below = line[k]
        result[n] = below + part[n] * (line[k + np.uint64(1)] - below)
    for n in range(count):
        result[n] = result[n + 1] - result[n]


def forward(
    volume: Array,
    shadows: Array,
    views: Array,
    rows: Array,
    curves: Array,
    paths: Array,
    edges: Array,
    lookup: Array,
    marks: Array,
    pattern: Array,
    projections: Array,
) -> None:
    """Write ``projections[view, column, row]`` from ``volume[y, x, z]``; see :func:`project`."""
    sums = empty((*volume.shape[:2], volume.shape[2] + 2), volume)
    launch(prefix_sums, volume, sums)
    tables = shadows, views, rows, curves, paths, edges, lookup, marks, pattern
    launch(project, sums, *tables, projections)


def transpose(
    projections: Array,
    shadows: Array,
    views: Array,
    rows: Array,
    curves: Array,
    paths: Array,
    edges: Array,
    lookup: Array,
    marks: Array,
    pattern: Array,
    volume: Array,
) -> None:
    """Write ``volume[y, x, z]`` from ``projections[view, column, row]``; see :func:`project`."""
    sums = empty((*projections.shape[:2], projections.shape[2] + 2), projections)
    launch(weighted_prefix_sums, projections, rows, paths, sums)
    tables = shadows, views, rows, curves, edges, lookup, marks, pattern
    launch(backproject, sums, *tables, volume)


@kernel
def project(
    sums: Array,
    shadows: Array,
    views: Array,
    rows: Array,
    curves: Array,
    paths: Array,
    edges: Array,
    lookup: Array,
    marks: Array,
    pattern: Array,
    projections: Array,
) -> None:
    """Write ``projections[view, column, row]``.

    Parameters
    ----------
    sums
        Prefix sums of the volume along z, ``[y, x, z + 2]``.
    shadows, views
        Tables of :func:`medrecon.operators.rays.shadow_rays` and ``view_matrices``.
    rows, curves, paths
        Tables of :func:`medrecon.operators.axial.row_shadows`, ``curvatures``, ``path_tables``.
    edges, lookup, marks, pattern
        ``t``, ``lookup``, ``(t_min, step)`` and ``pattern`` of
        :func:`medrecon.operators.rays.tangents` of the columns' edges.
    projections
        The result.
    """
    ny, nx, top = sums.shape[0], sums.shape[1], sums.shape[2] - 2
    n_views, columns, n_rows = projections.shape
    number = sums.dtype.type
    for v in prange(n_views):
        index = np.empty(n_rows + 1, np.int32)
        part = np.empty(n_rows + 1, sums.dtype)
        overlap = np.empty(n_rows + 1, sums.dtype)
        kind = pattern[v]
        projections[v] = 0
        for i in range(ny):
            for j in range(nx):
                depth = views[v, 1, 0] + views[v, 1, 1] * j + views[v, 1, 2] * i
                t = (views[v, 0, 0] + views[v, 0, 1] * j + views[v, 0, 2] * i) / depth
                m = magnification(depth, t, curves, v)
                start, step = rows[v, 0] + m * rows[v, 1], m * rows[v, 2]
                first, last = seen(start, step, n_rows, top)
                if first >= last:
                    continue
                far = reach(t, depth, views, v)
                u = first_column(t - far, edges, lookup, marks, kind)
                if u >= columns or edges[kind, u] > t + far:
                    continue
                differences(sums[i, j], start, step, first, last, index, part, overlap)
                while u < columns and edges[kind, u] <= t + far:
                    w = number(share(shadows, v, u, i, j) / step)
                    cells = projections[v, u, first:last]
                    for r in range(last - first):
                        cells[r] += w * overlap[r]
                    u += 1
        for u in range(columns):
            for r in range(n_rows):
                projections[v, u, r] *= number(path(rows, paths, v, u, r))


@kernel
def backproject(
    sums: Array,
    shadows: Array,
    views: Array,
    rows: Array,
    curves: Array,
    edges: Array,
    lookup: Array,
    marks: Array,
    pattern: Array,
    volume: Array,
) -> None:
    """Write ``volume[y, x, z]`` from :func:`weighted_prefix_sums`, ``[view, column, row + 2]``.

    The other arguments are those of :func:`project`.  Shares of neighbouring columns are blended
    first, as sums; one interpolation per voxel boundary then serves them all.
    """
    ny, nx, nz = volume.shape
    n_views, columns, n_rows = sums.shape[0], sums.shape[1], sums.shape[2] - 2
    number = volume.dtype.type
    for i in prange(ny):
        blend = np.empty(n_rows + 2, volume.dtype)
        index = np.empty(nz + 1, np.int32)
        part = np.empty(nz + 1, volume.dtype)
        overlap = np.empty(nz + 1, volume.dtype)
        volume[i] = 0
        for v in range(n_views):
            kind = pattern[v]
            for j in range(nx):
                depth = views[v, 1, 0] + views[v, 1, 1] * j + views[v, 1, 2] * i
                t = (views[v, 0, 0] + views[v, 0, 1] * j + views[v, 0, 2] * i) / depth
                m = magnification(depth, t, curves, v)
                step = 1.0 / (m * rows[v, 2])
                start = -(rows[v, 0] + m * rows[v, 1]) * step
                first, last = seen(start, step, nz, n_rows)
                if first >= last:
                    continue
                far = reach(t, depth, views, v)
                u = first_column(t - far, edges, lookup, marks, kind)
                if u >= columns or edges[kind, u] > t + far:
                    continue
                low = max(0, math.floor(start + step * first) - 1)
                high = min(n_rows, math.floor(start + step * last) + 1) + 2
                blended = blend[low:high]
                cells = sums[v, u, low:high]
                w = number(share(shadows, v, u, i, j))
                for r in range(high - low):
                    blended[r] = w * cells[r]
                u += 1
                while u < columns and edges[kind, u] <= t + far:
                    w = number(share(shadows, v, u, i, j))
                    cells = sums[v, u, low:high]
                    for r in range(high - low):
                        blended[r] += w * cells[r]
                    u += 1
                differences(blend, start, step, first, last, index, part, overlap)
                voxels = volume[i, j, first:last]
                for k in range(last - first):
                    voxels[k] += overlap[k]
