"""Joseph's projector in three dimensions, for rays of any direction, and its transpose.

A ray that runs mainly along one axis visits every plane ``q`` of voxels across it once, at
``(b, c) = (b0 + db q, c0 + dc q)``, and takes the bilinear mean of the four voxels around, times
its path per plane.  Each launch serves the rays of one main axis, with the volume laid out so that
this axis comes first; a ray belongs to one axis only.

The forward runs along rays.  The transpose hands each thread a few planes of its own: every ray
meets a plane once, so the thread adds the ray's value to four voxels of its plane and no other
thread writes there.  Both take ``b0, db, c0, dc``, the path and the range of planes from the same
function (:func:`crossing`).

References
----------
P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192-196, doi:10.1109/TMI.1982.4307572.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import empty, inner, kernel, launch, prange

Array = NDArray[Any]

FLAT = 1e-30  # a slope that does not leave its plane of voxels
PLANES = 8  # that a thread serves at a time: their sums do not wait for each other


@inner
def clip(p0: float, dp: float, n: int, first: float, last: float) -> Any:
    """Part of ``first..last`` with ``-1 < p0 + dp q < n``, where linear weights do not vanish."""
    if abs(dp) < FLAT:
        return (first, last) if -1.0 < p0 < n else (0.0, -1.0)
    inverse = 1.0 / dp
    a, b = (-1.0 - p0) * inverse, (n - p0) * inverse
    # Rounded as floats: a ray along a plane meets its border beyond any integer.
    return max(first, np.ceil(min(a, b))), min(last, np.floor(max(a, b)))


@inner
def crossing(
    lines: Array, steps: Array, spacing: Array, shape: Array, order: Array, v: int, c: int, r: int
) -> Any:
    """How ray ``(v, c, r)`` crosses the planes across axis ``order[0]``.

    Returns
    -------
    (b0, db, c0, dc, path, first, last)
        Voxels, mm per plane, and the planes ``first..last`` that it meets in the volume; no plane
        for rays that run along another axis.
    """
    dx = lines[v, c, 3] + steps[v, 3] * r
    dy = lines[v, c, 4] + steps[v, 4] * r
    dz = lines[v, c, 5] + steps[v, 5] * r
    ax, ay, az = abs(dx), abs(dy), abs(dz)
    axis = 0 if ax >= ay and ax >= az else (1 if ay >= az else 2)
    if axis != order[0]:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0
    path = math.sqrt((dx * spacing[0]) ** 2 + (dy * spacing[1]) ** 2 + (dz * spacing[2]) ** 2)
    i, j, k = order[0], order[1], order[2]
    inverse = 1.0 / (lines[v, c, 3 + i] + steps[v, 3 + i] * r)
    db = (lines[v, c, 3 + j] + steps[v, 3 + j] * r) * inverse
    dc = (lines[v, c, 3 + k] + steps[v, 3 + k] * r) * inverse
    q = lines[v, c, i] + steps[v, i] * r
    b0 = lines[v, c, j] + steps[v, j] * r - q * db
    c0 = lines[v, c, k] + steps[v, k] * r - q * dc
    first, last = clip(b0, db, shape[j], 0.0, shape[i] - 1.0)
    first, last = clip(c0, dc, shape[k], first, last)
    if first > last:
        return 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0
    return b0, db, c0, dc, path * abs(inverse), first, last


@kernel
def axes(
    lines: Array,
    steps: Array,
    spacing: Array,
    shape: Array,
    samples: Array,
    cells: Array,
    used: Array,
) -> None:
    """Write whether any ray of ``view`` meets the volume along ``axis``, ``used[view, axis]``.

    ``cells`` are the detector's columns and rows; the other arguments are those of
    :func:`project`.
    """
    for v in prange(used.shape[0]):
        columns, rows = cells[0] * samples[v, 0], cells[1] * samples[v, 1]
        order = np.empty(3, np.int64)
        for axis in range(3):
            order[0], order[1], order[2] = axis, (axis + 1) % 3, (axis + 2) % 3
            used[v, axis] = False
            for c in range(columns):
                for r in range(rows):
                    _, _, _, _, _, first, last = crossing(
                        lines, steps, spacing, shape, order, v, c, r
                    )
                    if first <= last:
                        used[v, axis] = True
                        break
                if used[v, axis]:
                    break


def forward(
    volume: Array,
    lines: Array,
    steps: Array,
    spacing: Array,
    used: Array,
    samples: Array,
    projections: Array,
) -> None:
    """Write ``projections[view, column, row]`` from ``volume[y, x, z]``.

    Parameters
    ----------
    volume
        Values at the voxels' centres.
    lines, steps
        Tables of :func:`medrecon.operators.lines.line_tables`.
    spacing
        Of the volume along x, y, z, mm.
    used
        Of :func:`axes`, ``(views, 3)``.
    samples
        Rays per cell along the columns and along the rows of each view, ``(views, 2)``, whose
        mean the cell measures.
    projections
        The result.
    """
    shape = _shape(volume)
    projections[...] = 0
    for order in _orders(used):
        # Zeros around the planes, so that interpolation needs no test for the border.
        laid_out = np.pad(volume.transpose(_layout(order)), ((0, 0), (1, 2), (1, 2)))
        launch(project, laid_out, lines, steps, spacing, shape, order, used, samples, projections)


def transpose(
    projections: Array,
    lines: Array,
    steps: Array,
    spacing: Array,
    used: Array,
    samples: Array,
    volume: Array,
) -> None:
    """Write ``volume[y, x, z]`` from ``projections[view, column, row]``; see :func:`forward`."""
    shape = _shape(volume)
    volume[...] = 0
    for order in _orders(used):
        a, b, c = shape[order]
        planes = empty((a, b + 3, c + 3), projections)
        launch(backproject, projections, lines, steps, spacing, shape, order, used, samples, planes)
        volume.transpose(_layout(order))[...] += planes[:, 1 : b + 1, 1 : c + 1]


def _shape(volume: Array) -> Array:
    """Voxels along x, y, z."""
    ny, nx, nz = volume.shape
    return np.array([nx, ny, nz])


def _orders(used: Array) -> list[Array]:
    """Axes as 0, 1, 2 for x, y, z, the main one first, for every launch that has rays."""
    orders = ((0, 1, 2), (1, 0, 2), (2, 1, 0))
    return [np.array(order) for order in orders if used[:, order[0]].any()]


def _layout(order: Array) -> list[int]:
    """Axes of an array ``[y, x, z]`` in this order."""
    return [(1, 0, 2)[axis] for axis in order]


@kernel
def project(
    volume: Array,
    lines: Array,
    steps: Array,
    spacing: Array,
    shape: Array,
    order: Array,
    used: Array,
    samples: Array,
    projections: Array,
) -> None:
    """Add to ``projections[view, column, row]`` what the rays along ``order[0]`` collect.

    ``volume`` has its axes in the ``order`` of the launch (:func:`_orders`); the second and third
    have one plane of zeros before and two after the voxels.
    """
    views, columns, rows = projections.shape
    number = volume.dtype.type
    for t in prange(views * columns):
        v = t // columns
        across, up = samples[v, 0], samples[v, 1]
        u = t - v * columns
        if used[v, order[0]]:
            for r in range(rows):
                total = 0.0
                for s in range(across * up):
                    b0, db, c0, dc, path, first, last = crossing(
                        lines, steps, spacing, shape, order,
                        v, u * across + s // up, r * up + s % up,
                    )  # fmt: skip
                    mean = 0.0
                    for q in range(int(first), int(last) + 1):
                        b, c = b0 + db * q + 1.0, c0 + dc * q + 1.0
                        i, k = np.uint64(np.int64(b)), np.uint64(np.int64(c))
                        f, g = b - np.int64(b), c - np.int64(c)
                        one, two = volume[np.uint64(q), i], volume[np.uint64(q), i + np.uint64(1)]
                        low = one[k] + g * (one[k + np.uint64(1)] - one[k])
                        high = two[k] + g * (two[k + np.uint64(1)] - two[k])
                        mean += low + f * (high - low)
                    total += mean * path
                projections[v, u, r] += number(total / (across * up))


@kernel
def backproject(
    projections: Array,
    lines: Array,
    steps: Array,
    spacing: Array,
    shape: Array,
    order: Array,
    used: Array,
    samples: Array,
    volume: Array,
) -> None:
    """Write ``volume``, padded and ordered as in :func:`project`, from ``[view, column, row]``."""
    views, columns, rows = projections.shape
    planes = volume.shape[0]
    number = volume.dtype.type
    one = np.uint64(1)
    rays = np.empty((rows * samples[:, 1].max(), columns * samples[:, 0].max(), 7))
    for q in prange(planes):
        volume[q] = 0
    for v in range(views):
        if not used[v, order[0]]:
            continue
        across, up = samples[v, 0], samples[v, 1]
        for c in prange(columns * across):
            for r in range(rows * up):
                b0, db, c0, dc, path, first, last = crossing(
                    lines, steps, spacing, shape, order, v, c, r
                )
                rays[r, c, 0], rays[r, c, 1] = b0 + 1.0, db
                rays[r, c, 2], rays[r, c, 3] = c0 + 1.0, dc
                rays[r, c, 4] = path * projections[v, c // across, r // up] / (across * up)
                rays[r, c, 5], rays[r, c, 6] = first, last
        for block in prange((planes + PLANES - 1) // PLANES):
            start = block * PLANES
            stop = min(start + PLANES, planes)
            for r in range(rows * up):
                for c in range(columns * across):
                    first = max(int(rays[r, c, 5]), start)
                    last = min(int(rays[r, c, 6]) + 1, stop)
                    b0, db, c0, dc = rays[r, c, 0], rays[r, c, 1], rays[r, c, 2], rays[r, c, 3]
                    value = rays[r, c, 4]
                    for q in range(first, last):
                        x, y = b0 + db * q, c0 + dc * q
                        i, k = np.uint64(np.int64(x)), np.uint64(np.int64(y))
                        f, g = x - np.int64(x), y - np.int64(y)
                        low, high = value * (1.0 - f), value * f
                        p = np.uint64(q)
                        volume[p, i, k] += number(low * (1.0 - g))
                        volume[p, i, k + one] += number(low * g)
                        volume[p, i + one, k] += number(high * (1.0 - g))
                        volume[p, i + one, k + one] += number(high * g)
