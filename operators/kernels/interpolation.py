"""Voxel-driven back-projection with linear interpolation, for analytic reconstruction.

Not the transpose of a projector: filtered back-projection asks for the value of the filtered
projection at the point where the ray through the voxel's centre meets the detector.
Outside the detector that value is 0.

Columns stand on a straight detector or at equal angles.  With ``A . p`` and ``B . p`` of a pixel
``p = (1, j, i)`` from a table ``views (views, 2, 3)`` the column is ``A . p / B . p``, and the view
weighs ``1 / (B . p)^2``; or, where the table ``arcs (views, 2)`` of ``(c0, n)`` has columns per
rad ``n``, it is ``c0 + n atan(A . p / B . p)`` and the weight ``1 / ((A . p)^2 + (B . p)^2)``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import kernel, prange

Array = NDArray[Any]


@kernel
def slices(projections: Array, views: Array, arcs: Array, volume: Array) -> None:
    """Write ``volume[y, x, slice]`` from ``projections[view, column, slice]``."""
    ny, nx, count = volume.shape
    n_views, columns, _ = projections.shape
    number = volume.dtype.type
    for i in prange(ny):
        for j in range(nx):
            for s in range(count):
                volume[i, j, s] = 0
        for v in range(n_views):
            for j in range(nx):
                depth = views[v, 1, 0] + views[v, 1, 1] * j + views[v, 1, 2] * i
                side = views[v, 0, 0] + views[v, 0, 1] * j + views[v, 0, 2] * i
                u = side / depth
                scale = 1.0 / (depth * depth)
                if arcs[v, 1] != 0.0:
                    scale /= 1.0 + u * u
                    u = arcs[v, 0] + arcs[v, 1] * math.atan(u)
                c = math.floor(u)
                if c < -1 or c >= columns:
                    continue
                f = u - c
                left = number((1.0 - f) * scale if c >= 0 else 0.0)
                right = number(f * scale if c + 1 < columns else 0.0)
                a, b = max(c, 0), min(c + 1, columns - 1)
                for s in range(count):
                    volume[i, j, s] += left * projections[v, a, s] + right * projections[v, b, s]


@kernel
def cone(
    projections: Array, views: Array, arcs: Array, distances: Array, axial: Array, volume: Array
) -> None:
    """Write ``volume[y, x, z]`` from ``projections[view, column, row]``, rows along z.

    ``axial (views, 3)`` is the row level with the source, the first slice's height over the
    source and that of a slice over the one below, in rows of the detector.  On an arc, a column's
    rows stand at ``distances (views, columns)`` from the source in the plane, mm as A and B.
    """
    ny, nx, nz = volume.shape
    n_views, columns, rows = projections.shape
    number = volume.dtype.type
    for i in prange(ny):
        blend = np.zeros(rows + 2, volume.dtype)  # one zero row on either side of the detector
        for j in range(nx):
            for k in range(nz):
                volume[i, j, k] = 0
        for v in range(n_views):
            for j in range(nx):
                depth = views[v, 1, 0] + views[v, 1, 1] * j + views[v, 1, 2] * i
                side = views[v, 0, 0] + views[v, 0, 1] * j + views[v, 0, 2] * i
                u = side / depth
                enlarge = 1.0 / depth
                arc = arcs[v, 1] != 0.0
                if arc:
                    enlarge /= math.sqrt(1.0 + u * u)
                    u = arcs[v, 0] + arcs[v, 1] * math.atan(u)
                c = math.floor(u)
                if c < -1 or c >= columns:
                    continue
                f = u - c
                scale = enlarge * enlarge
                left = number((1.0 - f) * scale if c >= 0 else 0.0)
                right = number(f * scale if c + 1 < columns else 0.0)
                a, b = max(c, 0), min(c + 1, columns - 1)
                for r in range(rows):
                    blend[r + 1] = left * projections[v, a, r] + right * projections[v, b, r]
                if arc:
                    enlarge *= distances[v, a] + f * (distances[v, b] - distances[v, a])
                step = number(axial[v, 2] * enlarge)
                start = number(axial[v, 0] + axial[v, 1] * enlarge + 1.0)
                for k in range(nz):
                    y = min(max(start + step * number(k), number(0)), number(rows + 1))
                    r = min(np.int32(y), rows)
                    below = blend[r]
                    volume[i, j, k] += below + (y - number(r)) * (blend[r + 1] - below)


@kernel
def general(projections: Array, matrices: Array, volume: Array) -> None:
    """Write ``volume[y, x, z]`` from ``projections[view, column, row]`` by projection matrices.

    ``matrices (views, 3, 4)`` map ``(1, j, i, k)``, the index along x, y and z, to
    ``(column w, row w, w)``; each view weighs ``1 / w^2``.
    """
    ny, nx, nz = volume.shape
    n_views, columns, rows = projections.shape
    number = volume.dtype.type
    for i in prange(ny):
        for j in range(nx):
            for k in range(nz):
                volume[i, j, k] = 0
        for v in range(n_views):
            P = matrices[v]
            for j in range(nx):
                u0 = P[0, 0] + P[0, 1] * j + P[0, 2] * i
                r0 = P[1, 0] + P[1, 1] * j + P[1, 2] * i
                w0 = P[2, 0] + P[2, 1] * j + P[2, 2] * i
                for k in range(nz):
                    depth = 1.0 / (w0 + P[2, 3] * k)
                    u, y = (u0 + P[0, 3] * k) * depth, (r0 + P[1, 3] * k) * depth
                    c, r = math.floor(u), math.floor(y)
                    if c < -1 or c >= columns or r < -1 or r >= rows:
                        continue
                    f, g = u - c, y - r
                    scale = depth * depth
                    left = (1.0 - f) * scale if c >= 0 else 0.0
                    right = f * scale if c + 1 < columns else 0.0
                    below = 1.0 - g if r >= 0 else 0.0
                    above = g if r + 1 < rows else 0.0
                    a, b = max(c, 0), min(c + 1, columns - 1)
                    d, e = max(r, 0), min(r + 1, rows - 1)
                    volume[i, j, k] += number(
                        below * (left * projections[v, a, d] + right * projections[v, b, d])
                        + above * (left * projections[v, a, e] + right * projections[v, b, e])
                    )


@kernel
def helix(
    projections: Array,
    groups: Array,
    signs: Array,
    views: Array,
    rays: Array,
    weights: Array,
    volume: Array,
) -> None:
    """Write ``volume[y, x, z]`` from parallel ``projections[view, column, row]`` of a helix.

    Projections of one direction, and of the opposite one from the other half turns, stand
    together: those of the direction ``d`` from ``groups[d]`` to ``groups[d + 1]``.  Of the rays
    through a voxel in one direction the mean weighed by the row is taken, and 0 where there is
    none.

    ``views (directions, 2, 3)`` maps ``(1, j, i)`` to the column from the middle and to the way
    along the ray, mm; both change their sign as ``signs (views)`` says.  ``rays (views, columns,
    5)`` has the source's way along the ray and its distance from the cell in the plane, mm, the
    row level with the source, and the heights of the source over the first slice and of a slice
    over the one below, in rows.  ``weights (rows + 2)`` belong to the rows and to one more on
    either side, where it is 0.
    """
    ny, nx, nz = volume.shape
    _, columns, rows = projections.shape
    number = volume.dtype.type
    middle = 0.5 * (columns - 1)
    for i in prange(ny):
        blend = np.zeros(rows + 2, volume.dtype)
        total = np.zeros((nx, nz), volume.dtype)
        weight = np.zeros((nx, nz), volume.dtype)
        for j in range(nx):
            for k in range(nz):
                volume[i, j, k] = 0
        for direction in range(views.shape[0]):
            total[:] = 0
            weight[:] = 0
            for v in range(groups[direction], groups[direction + 1]):
                sign, P = signs[v], views[direction]
                for j in range(nx):
                    u = middle + sign * (P[0, 0] + P[0, 1] * j + P[0, 2] * i)
                    way = sign * (P[1, 0] + P[1, 1] * j + P[1, 2] * i)
                    c = math.floor(u)
                    if c < 0 or c + 1 >= columns:
                        continue
                    f = u - c
                    near, far = rays[v, c], rays[v, c + 1]
                    away = way - (near[0] + f * (far[0] - near[0]))
                    enlarge = (near[1] + f * (far[1] - near[1])) / away
                    height = near[3] + f * (far[3] - near[3])
                    start = number(near[2] + f * (far[2] - near[2]) - height * enlarge + 1.0)
                    step = number((near[4] + f * (far[4] - near[4])) * enlarge)
                    # Only slices between the rows -1 and n: others have no weight.
                    first = max(0, math.ceil(-start / step))
                    last = min(nz, math.ceil((number(rows + 1) - start) / step))
                    if first >= last:
                        continue
                    left, right = number(1.0 - f), number(f)
                    for r in range(rows):
                        blend[r + 1] = (
                            left * projections[v, c, r] + right * projections[v, c + 1, r]
                        )
                    blend[0], blend[rows + 1] = blend[1], blend[rows]
                    for k in range(first, last):
                        y = min(max(start + step * number(k), number(0)), number(rows + 1))
                        r = min(np.int32(y), rows)
                        g = y - number(r)
                        w = weights[r] + g * (weights[r + 1] - weights[r])
                        total[j, k] += w * (blend[r] + g * (blend[r + 1] - blend[r]))
                        weight[j, k] += w
            for j in range(nx):
                for k in range(nz):
                    if weight[j, k] > 0:
                        volume[i, j, k] += total[j, k] / weight[j, k]
