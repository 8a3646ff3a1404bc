"""Heights of detector rows at a pixel, for the footprint kernels on a GPU.

At magnification ``m`` the lower edge of row ``r`` falls on ``a + m (b + h r)`` voxels, see
:func:`medrecon.operators.axial.row_shadows`.  With ``a = A + a'`` (the voxel at the source's
height) and ``b = b' - h R`` (the row that looks straight at it), the height over voxel ``A`` is
``a' + m (b' + h (r - R))``: only numbers near the source's plane are subtracted from each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import triton.language as tl
from numpy.typing import NDArray

from medrecon.operators.kernels.engine import on_device, remembered
from medrecon.operators.kernels.triton_tools import jit

Array = NDArray[np.float64]

FARTHEST = 2.0**30


def anchors(rows: Array) -> NDArray[np.int32]:
    """Voxel ``A`` and row ``R`` per view, ``(views, 2)``."""
    a, b, h = rows.T
    whole = np.stack([np.floor(a), np.rint(-b / h)], -1)
    return np.asarray(np.clip(whole, -FARTHEST, FARTHEST), np.int32)


def remainders(rows: Array) -> Array:
    """Return ``(a', b', h)`` per view, ``(views, 3)``."""
    a, b, h = rows.T
    A, R = anchors(rows).T
    return np.stack([a - A, b + h * R, h], -1)


def magnifications(
    views: Array, curves: Array, edges: Array, pattern: NDArray[np.int32], pixels: tuple[int, int]
) -> tuple[float, float]:
    """Bounds of the magnification of pixels that the detector sees."""

    def bounds() -> tuple[float, float]:
        ny, nx = pixels
        corners = np.array([(1.0, j, i) for j in (0, nx - 1) for i in (0, ny - 1)])
        depth = views[:, 1] @ corners.T
        s0, ds, ct, cn, k, tangent = (c[:, None] for c in curves.T)
        s = s0 + ds * edges[pattern]
        q, r = s * ct + cn, 1 + s * s
        root = q + np.sqrt(q * q + k * r)
        g = np.where(tangent > 0, tangent * r / np.where(tangent > 0, root, 1.0), 1.0)
        spare = 1e-6 if (tangent > 0).any() else 0.0  # between two edges
        least, most = (depth.min(1) * g.min(1)).min(), (depth.max(1) * g.max(1)).max()
        return float(least) * (1 - spare), float(most) * (1 + spare)

    return remembered(curves, ("magnifications", id(views), pixels), bounds)


def heights(rows: Array, n_rows: int, bounds: tuple[float, float], device: torch.device) -> Any:
    """First voxel that each view sees and the one after the last, int32 ``(views, 2)``."""

    def make() -> torch.Tensor:
        a, b, h = rows.T
        low = a + np.minimum(*(m * b for m in bounds))
        high = a + np.maximum(*(m * (b + h * n_rows) for m in bounds))
        whole = np.stack([np.floor(low) - 1, np.ceil(high) + 1], -1)
        return torch.from_numpy(np.clip(whole, -FARTHEST, FARTHEST).astype(np.int32)).to(device)

    return remembered(rows, ("heights", n_rows, bounds, device), make)


def numbers(device: torch.device, *tables: Array) -> tuple[Any, ...]:
    """Copy tables to a device, once."""
    return tuple(on_device(table, device, np.asarray) for table in tables)


@jit
def magnification(view, curve, i, j, number: tl.constexpr, CURVED: tl.constexpr):
    """Magnification of pixels ``(i, j)``; ``view`` and ``curve`` point to the view's tables.

    Both directions inline this very function, on the same numbers, without fusion of their own.
    """
    x, y = j.to(number), i.to(number)
    b0, b1, b2 = (
        tl.load(view + 3).to(number),
        tl.load(view + 4).to(number),
        tl.load(view + 5).to(number),
    )
    depth = b0 + b1 * x + b2 * y
    if CURVED:
        a0, a1, a2 = (
            tl.load(view).to(number),
            tl.load(view + 1).to(number),
            tl.load(view + 2).to(number),
        )
        s0, ds = tl.load(curve).to(number), tl.load(curve + 1).to(number)
        ct, cn = tl.load(curve + 2).to(number), tl.load(curve + 3).to(number)
        k, tangent = tl.load(curve + 4).to(number), tl.load(curve + 5).to(number)
        s = s0 + ds * ((a0 + a1 * x + a2 * y) / depth)
        q, r = s * ct + cn, 1.0 + s * s
        depth = depth * (tangent * r / (q + tl.sqrt(q * q + k * r)))
    return depth


@jit
def lower_edge(row, near, m):
    """Height over voxel ``A`` of a row's lower edge, ``row`` counted from ``R``."""
    number: tl.constexpr = m.dtype
    a = tl.load(near).to(number)
    b = tl.load(near + 1).to(number)
    h = tl.load(near + 2).to(number)
    inner = tl.fma(row, h.broadcast_to(row.shape), b.broadcast_to(row.shape))
    m, inner = tl.broadcast(m, inner)
    return tl.fma(m, inner, a.broadcast_to(m.shape))


@jit
def overlap(below, step):
    """Length that ``[below, below + step]`` has in common with ``[0, 1]``.

    The numbers that go in are exact differences of a row's edge and a voxel, so both directions
    get the same result, whether they step through voxels or through rows.
    """
    return tl.clamp(below + step, 0.0, 1.0) - tl.clamp(below, 0.0, 1.0)
