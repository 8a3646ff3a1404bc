"""Back-projection of a helix on a GPU: the twin of :func:`.interpolation.helix`.

Heights are counted from the slice nearest the source of each projection: along a long helix they
would lose, in single precision, the digits that say between which rows a voxel is seen.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.engine import on_device
from medrecon.operators.kernels.triton_tools import (
    Tile,
    fixed,
    jit,
    precision,
    share,
    some,
    start,
    tile,
)

Array = NDArray[np.float64]

HELIX = Tile(depth=128)


def helix(
    projections: Tensor,
    groups: NDArray[np.int64],
    signs: Array,
    views: Array,
    rays: Array,
    weights: NDArray[np.floating],
    volume: Tensor,
) -> None:
    """Write ``volume[y, x, z]``; arguments as of :func:`.interpolation.helix`."""
    ny, nx, nz = volume.shape
    _, columns, rows = projections.shape
    device, number = volume.device, precision(volume)
    relative = level_in_single if volume.dtype == torch.float32 else level
    shape = tile(HELIX, nz, volume)
    start(
        _helix,
        (triton.cdiv(ny * nx, shape.lines), triton.cdiv(nz, shape.depth)),
        *(projections, on_device(groups, device, indices), on_device(signs, device, indices)),
        *(on_device(views, device, fixed), on_device(views, device, number)),
        *(on_device(rays, device, anchors), on_device(rays, device, relative)),
        *(on_device(weights, device, number), volume),
        *(ny, nx, nz, columns, rows, len(views)),
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def indices(table: Array | NDArray[np.int64]) -> NDArray[np.int32]:
    """Whole numbers."""
    return table.astype(np.int32)


def anchors(rays: Array) -> NDArray[np.int32]:
    """Slice nearest the source of each projection's middle ray, ``(views,)``."""
    middle = rays[:, rays.shape[1] // 2]
    return np.rint(middle[:, 3] / middle[:, 4]).astype(np.int32)


def level(rays: Array) -> Array:
    """Return the table ``rays`` with heights over the slice :func:`anchors`."""
    near = rays.copy()
    near[..., 3] -= anchors(rays)[:, None] * rays[..., 4]
    return near


def level_in_single(rays: Array) -> NDArray[np.float32]:
    """Return :func:`level` in single precision."""
    return level(rays).astype(np.float32)


@jit
def _between(near, f):
    """Interpolate a number of the ray's table from one column to the next."""
    left = tl.load(near)
    return left + f * (tl.load(near + 5) - left)


@jit
def _helix(
    projections,
    groups,
    signs,
    across,
    views,
    anchors,
    rays,
    weights,
    volume,
    ny,
    nx,
    nz,
    columns,
    rows,
    directions,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    pixel = tl.program_id(0) * LINES + tl.arange(0, LINES)
    exists = pixel < ny * nx
    pixel = tl.minimum(pixel, ny * nx - 1)
    i, j = pixel // nx, pixel % nx
    k0 = tl.program_id(1) * DEPTH
    k = k0 + tl.arange(0, DEPTH)
    inside = k < nz
    number = volume.dtype.element_ty
    result = tl.zeros((LINES, DEPTH), number)
    for d in range(directions):
        U, P = across + 6 * d, views + 6 * d
        u0 = tl.load(U) + tl.load(U + 1) * j + tl.load(U + 2) * i
        way = tl.load(P + 3) + tl.load(P + 4) * j.to(number) + tl.load(P + 5) * i.to(number)
        total = tl.zeros((LINES, DEPTH), number)
        weight = tl.zeros((LINES, DEPTH), number)
        for v in range(tl.load(groups + d), tl.load(groups + d + 1)):
            sign = tl.load(signs + v)
            u = sign * u0 + (tl.cast(columns - 1, tl.int64) << 31)
            c = (u >> 32).to(tl.int32)
            f = share(u & 4294967295, number)
            seen = exists & (c >= 0) & (c + 1 < columns)
            column = tl.cast(v, tl.int64) * columns + tl.where(seen, c, 0)
            near = rays + 5 * column
            away = sign.to(number) * way - _between(near, f)
            enlarge = _between(near + 1, f) / tl.where(seen, away, 1.0)
            start = _between(near + 2, f) - _between(near + 3, f) * enlarge + 1.0
            step = _between(near + 4, f) * enlarge
            first = tl.load(anchors + v)
            # Of a block of slices, most projections of a long helix see nothing.
            seen = seen & (start + step * (k0 + DEPTH - first).to(number) >= 0.0)
            seen = seen & (start + step * (k0 - first).to(number) < rows + 1.0)
            if some(seen, LINES):
                y = start[:, None] + step[:, None] * (k - first).to(number)[None, :]
                hit = seen[:, None] & inside[None, :] & (y >= 0.0) & (y < rows + 1.0)
                bottom = tl.floor(tl.where(hit, y, 0.0))
                g = y - bottom
                r = bottom.to(tl.int32)
                w = tl.load(weights + r, mask=hit, other=0.0)
                w += g * (tl.load(weights + r + 1, mask=hit, other=0.0) - w)
                w = tl.where(hit, w, 0.0)
                left = projections + (column * rows)[:, None]
                low, high = tl.maximum(r - 1, 0), tl.minimum(r, rows - 1)
                below = tl.load(left + low, mask=hit, other=0.0)
                below += f[:, None] * (tl.load(left + rows + low, mask=hit, other=0.0) - below)
                above = tl.load(left + high, mask=hit, other=0.0)
                above += f[:, None] * (tl.load(left + rows + high, mask=hit, other=0.0) - above)
                total += tl.where(hit, w * (below + g * (above - below)), 0.0)
                weight += w
        result += tl.where(weight > 0.0, total / tl.where(weight > 0.0, weight, 1.0), 0.0)
    target = volume + (pixel.to(tl.int64) * nz)[:, None] + k[None, :]
    tl.store(target, result, mask=exists[:, None] & inside[None, :])
