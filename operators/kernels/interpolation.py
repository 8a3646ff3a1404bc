"""Voxel-driven back-projection with linear interpolation, for analytic reconstruction.

Not the transpose of a projector: filtered back-projection asks for the value of the filtered
projection at the point where the ray through the voxel's centre meets the detector.
Outside the detector that value is 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import kernel, prange

Array = NDArray[Any]


@kernel
def slices(projections: Array, views: Array, volume: Array) -> None:
    """Write ``volume[y, x, slice]`` from ``projections[view, column, slice]``.

    Each view weighs ``1 / depth^2``, with depth in units of the source-detector distance (1 for
    a parallel beam), see :func:`medrecon.operators.rays.view_matrices`.
    """
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
                u = (views[v, 0, 0] + views[v, 0, 1] * j + views[v, 0, 2] * i) / depth
                c = math.floor(u)
                if c < -1 or c >= columns:
                    continue
                f = u - c
                scale = 1.0 / (depth * depth)
                left = number((1.0 - f) * scale if c >= 0 else 0.0)
                right = number(f * scale if c + 1 < columns else 0.0)
                a, b = max(c, 0), min(c + 1, columns - 1)
                for s in range(count):
                    volume[i, j, s] += left * projections[v, a, s] + right * projections[v, b, s]


@kernel
def cone(projections: Array, views: Array, axial: Array, volume: Array) -> None:
    """Write ``volume[y, x, z]`` from ``projections[view, column, row]``.

    ``axial`` is ``(z_edge, dz, v_edge, dv)`` as for the footprint projector, mm.
    """
    ny, nx, nz = volume.shape
    n_views, columns, rows = projections.shape
    number = volume.dtype.type
    z_edge, dz, v_edge, dv = axial[0], axial[1], axial[2], axial[3]
    for i in prange(ny):
        blend = np.zeros(rows + 2, volume.dtype)  # one zero row on either side of the detector
        for j in range(nx):
            for k in range(nz):
                volume[i, j, k] = 0
        for v in range(n_views):
            for j in range(nx):
                depth = views[v, 1, 0] + views[v, 1, 1] * j + views[v, 1, 2] * i
                u = (views[v, 0, 0] + views[v, 0, 1] * j + views[v, 0, 2] * i) / depth
                c = math.floor(u)
                if c < -1 or c >= columns:
                    continue
                f = u - c
                scale = 1.0 / (depth * depth)
                left = number((1.0 - f) * scale if c >= 0 else 0.0)
                right = number(f * scale if c + 1 < columns else 0.0)
                a, b = max(c, 0), min(c + 1, columns - 1)
                for r in range(rows):
                    blend[r + 1] = left * projections[v, a, r] + right * projections[v, b, r]
                step = number(dz / (depth * dv))
                start = number(((z_edge + 0.5 * dz) / depth - v_edge) / dv + 0.5)
                for k in range(nz):
                    y = min(max(start + step * number(k), number(0)), number(rows + 1))
                    r = min(np.int32(y), rows)
                    below = blend[r]
                    volume[i, j, k] += below + (y - number(r)) * (blend[r + 1] - below)
