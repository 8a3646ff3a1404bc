"""Voxel-driven back-projection on a GPU: the twin of :mod:`.interpolation`.

A column is looked up in two steps.  Single precision finds one near the pixel; how far the pixel
lies off that column's ray is affine in the pixel's indices, so it is worked out exactly, in
integers, and divided by the depth.  The fraction is then good to 1e-6 columns on detectors of any
width, without double precision, in which most GPUs are 32 to 64 times slower.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.engine import on_device, remembered
from medrecon.operators.kernels.triton_helix import helix as helix
from medrecon.operators.kernels.triton_tools import (
    Tile,
    add_product,
    block,
    jit,
    precision,
    some,
    start,
    tile,
)

Array = NDArray[np.float64]

SLICES = Tile(depth=256)
CONE = Tile(depth=256)
GENERAL = Tile(depth=128)


def slices(projections: Tensor, views: Array, arcs: Array, volume: Tensor) -> None:
    """Write ``volume[y, x, slice]``; arguments as of :func:`.interpolation.slices`."""
    ny, nx, count = volume.shape
    n_views, columns, _ = projections.shape
    shape = tile(SLICES, count, volume)
    exact, unit, is_arc = _exact(views, arcs, (ny, nx), columns, volume.device)
    start(
        _slices,
        (triton.cdiv(ny * nx, shape.lines), triton.cdiv(count, shape.depth)),
        *(projections, *_numbers(volume, views, arcs), exact, volume),
        *(unit, ny, nx, count, columns, n_views),
        ARC=is_arc,
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def cone(
    projections: Tensor,
    views: Array,
    arcs: Array,
    distances: Array,
    axial: Array,
    volume: Tensor,
) -> None:
    """Write ``volume[y, x, z]``; arguments as of :func:`.interpolation.cone`."""
    ny, nx, nz = volume.shape
    n_views, columns, rows = projections.shape
    shape = tile(CONE, nz, volume)
    exact, unit, is_arc = _exact(views, arcs, (ny, nx), columns, volume.device)
    start(
        _cone,
        (triton.cdiv(ny * nx, shape.lines), triton.cdiv(nz, shape.depth)),
        *(projections, *_numbers(volume, views, arcs, distances, axial), exact, volume),
        *(unit, ny, nx, nz, columns, rows, n_views),
        ARC=is_arc,
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def general(projections: Tensor, matrices: Array, volume: Tensor) -> None:
    """Write ``volume[y, x, z]``; arguments as of :func:`.interpolation.general`."""
    ny, nx, nz = volume.shape
    n_views, columns, rows = projections.shape
    shape = tile(GENERAL, nz, volume)

    def make() -> tuple[Tensor, float]:
        sizes = np.abs(matrices) @ np.array([1.0, nx, ny, nz])
        depths = sizes[:, 2].max() * (max(columns, rows) + 2)
        table, unit = block(matrices, max(float(sizes.max()), float(depths)))
        return torch.from_numpy(table).to(volume.device), unit

    exact, unit = remembered(matrices, ("exact", volume.shape, columns, rows, volume.device), make)
    start(
        _general,
        (triton.cdiv(ny * nx, shape.lines), triton.cdiv(nz, shape.depth)),
        *(projections, *_numbers(volume, matrices), exact, volume),
        *(unit, ny, nx, nz, columns, rows, n_views),
        LINES=shape.lines,
        DEPTH=shape.depth,
        warps=shape.warps,
    )


def _numbers(like: Tensor, *tables: Array) -> tuple[Tensor, ...]:
    """Copy tables to the device of the data and their precision, once."""
    return tuple(on_device(table, like.device, precision(like)) for table in tables)


def _exact(
    views: Array, arcs: Array, pixels: tuple[int, int], columns: int, device: torch.device
) -> tuple[Tensor, float, bool]:
    """Distances of pixels from the rays of columns as integers, their unit, and whether on an arc.

    On a flat detector ``A . p - c B . p``, columns at depth 1: the table is that of A and B.  On
    an arc ``cos(g) A . p - sin(g) B . p`` in mm for the angle g of a column, the table is
    ``(views, columns + 2, 3)``: from the column before the first to the one after the last.
    """
    is_arc = bool(arcs[:, 1].any())
    ny, nx = pixels

    def make() -> tuple[Tensor, float]:
        size = (np.abs(views) @ np.array([1.0, nx, ny])).max(0)
        if is_arc:
            angle = (np.arange(-1, columns + 1) - arcs[:, :1]) / arcs[:, 1:]
            table = np.cos(angle)[..., None] * views[:, None, 0]
            table = table - np.sin(angle)[..., None] * views[:, None, 1]
            integers, unit = block(table, float(size.sum()))
        else:
            integers, unit = block(views, max(float(size[0]), float(size[1]) * (columns + 2)))
        return torch.from_numpy(integers).to(device), unit

    key = ("exact", id(arcs), pixels, columns, device)
    return *remembered(views, key, make), is_arc


@jit
def _depth(view, i, j, number: tl.constexpr):
    """Work out ``A . p`` and ``B . p`` in the precision of the data."""
    x, y = j.to(number), i.to(number)
    side = tl.load(view) + tl.load(view + 1) * x + tl.load(view + 2) * y
    return side, tl.load(view + 3) + tl.load(view + 4) * x + tl.load(view + 5) * y


@jit
def _near(u, columns):
    """Round down to a whole number, at most one off the detector: never out of a table."""
    return tl.clamp(tl.floor(u), -1.0, columns + 0.0).to(tl.int32)


@jit
def _flat(view, exact, unit, i, j, columns, number: tl.constexpr):
    """Column near a pixel, columns from there to it, and the depth."""
    side, depth = _depth(view, i, j, number)
    near = _near(side / depth, columns)
    a = tl.load(exact) + tl.load(exact + 1) * j + tl.load(exact + 2) * i
    b = tl.load(exact + 3) + tl.load(exact + 4) * j + tl.load(exact + 5) * i
    return near, (a - near * b).to(number) * unit / depth, depth


@jit
def _arc(view, arc, exact, unit, i, j, columns, number: tl.constexpr):
    """Column near a pixel, columns from there to it, and the distance from the source.

    The angle is guessed from the tangent of its half to 0.01 rad; from the guessed column on, the
    series of the arc sine gives all digits.
    """
    side, depth = _depth(view, i, j, number)
    away = tl.sqrt(side * side + depth * depth)
    half = side / (depth + away)
    per_rad = tl.load(arc + 1)
    near = _near(tl.load(arc) + per_rad * (2.0 * half / (1.0 + 0.28 * half * half)), columns)
    ray = exact + 3 * (near + 1)
    x = (tl.load(ray) + tl.load(ray + 1) * j + tl.load(ray + 2) * i).to(number) * unit / away
    q = x * x
    angle = x * (1.0 + q * (1.0 / 6.0 + q * (3.0 / 40.0 + q * (15.0 / 336.0))))
    return near, per_rad * angle, away


@jit
def _column(v, views, arcs, exact, unit, i, j, columns, number: tl.constexpr, ARC: tl.constexpr):
    """Column to the left of a pixel, part of the way to the next, and depth or distance."""
    if ARC:
        table = exact + v.to(tl.int64) * (columns + 2) * 3
        near, f, away = _arc(views + 6 * v, arcs + 2 * v, table, unit, i, j, columns, number)
    else:
        near, f, away = _flat(views + 6 * v, exact + 6 * v, unit, i, j, columns, number)
    f = tl.clamp(f, -columns - 2.0, columns + 2.0)
    step = tl.floor(f)
    return near + step.to(tl.int32), f - step, away


@jit
def _slices(
    projections,
    views,
    arcs,
    exact,
    volume,
    unit,
    ny,
    nx,
    count,
    columns,
    n_views,
    ARC: tl.constexpr,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    pixel = tl.program_id(0) * LINES + tl.arange(0, LINES)
    exists = pixel < ny * nx
    pixel = tl.minimum(pixel, ny * nx - 1)
    i, j = pixel // nx, pixel % nx
    s = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    inside = s < count
    number = volume.dtype.element_ty
    total = tl.zeros((LINES, DEPTH), number)
    for v in range(n_views):
        c, f, away = _column(
            tl.cast(v, tl.int32), views, arcs, exact, unit, i, j, columns, number, ARC
        )
        scale = 1.0 / (away * away)
        for t in tl.static_range(2):
            u = c + t
            seen = exists & (u >= 0) & (u < columns)
            if some(seen, LINES):
                at = tl.cast(v, tl.int64) * columns + u
                value = tl.load(
                    projections + (at * count)[:, None] + s[None, :],
                    mask=seen[:, None] & inside[None, :],
                    other=0.0,
                )
                w = f if t == 1 else 1.0 - f
                total = add_product(w * scale, value, total)
    target = volume + (pixel.to(tl.int64) * count)[:, None] + s[None, :]
    tl.store(target, total, mask=exists[:, None] & inside[None, :])


@jit
def _cone(
    projections,
    views,
    arcs,
    distances,
    axial,
    exact,
    volume,
    unit,
    ny,
    nx,
    nz,
    columns,
    rows,
    n_views,
    ARC: tl.constexpr,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    pixel = tl.program_id(0) * LINES + tl.arange(0, LINES)
    exists = pixel < ny * nx
    pixel = tl.minimum(pixel, ny * nx - 1)
    i, j = pixel // nx, pixel % nx
    k = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    inside = k < nz
    number = volume.dtype.element_ty
    top = tl.cast(rows, tl.uint32)
    total = tl.zeros((LINES, DEPTH), number)
    for v in range(n_views):
        c, f, away = _column(
            tl.cast(v, tl.int32), views, arcs, exact, unit, i, j, columns, number, ARC
        )
        if some(exists & (c >= -1) & (c < columns), LINES):
            enlarge = 1.0 / away
            scale = enlarge * enlarge
            if ARC:
                cells = distances + tl.cast(v, tl.int64) * columns
                first = tl.load(cells + tl.clamp(c + 0.0, 0.0, columns - 1.0).to(tl.int32))
                last = tl.load(cells + tl.clamp(c + 1.0, 0.0, columns - 1.0).to(tl.int32))
                enlarge = enlarge * (first + f * (last - first))
            level, height = tl.load(axial + 3 * v), tl.load(axial + 3 * v + 1)
            height += tl.load(axial + 3 * v + 2) * k.to(number)
            y = tl.clamp(level + height[None, :] * enlarge[:, None], -1.0, rows + 0.0)
            bottom = tl.floor(y)
            g = y - bottom
            r = bottom.to(tl.int32)
            low = inside[None, :] & (r.to(tl.uint32, bitcast=True) < top)
            high = inside[None, :] & ((r + 1).to(tl.uint32, bitcast=True) < top)
            for t in tl.static_range(2):
                u = c + t
                seen = exists & (u >= 0) & (u < columns)
                column = projections + ((tl.cast(v, tl.int64) * columns + u) * rows)[:, None] + r
                below = tl.load(column, mask=seen[:, None] & low, other=0.0)
                above = tl.load(column + 1, mask=seen[:, None] & high, other=0.0)
                w = f if t == 1 else 1.0 - f
                total = add_product(w * scale, below + g * (above - below), total)
    target = volume + (pixel.to(tl.int64) * nz)[:, None] + k[None, :]
    tl.store(target, total, mask=exists[:, None] & inside[None, :])


@jit
def _affine(row, i, j, k):
    """``row . (1, j, i, k)`` of a row of four numbers, per line and depth."""
    plane = tl.load(row) + tl.load(row + 1) * j + tl.load(row + 2) * i
    return plane[:, None] + (tl.load(row + 3) * k)[None, :]


@jit
def _split(near, off):
    """Index below a point ``off`` cells from a cell near it, and the part beyond."""
    step = tl.floor(off)
    return near + step.to(tl.int32), off - step


@jit
def _general(
    projections,
    matrices,
    exact,
    volume,
    unit,
    ny,
    nx,
    nz,
    columns,
    rows,
    n_views,
    LINES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    pixel = tl.program_id(0) * LINES + tl.arange(0, LINES)
    exists = pixel < ny * nx
    pixel = tl.minimum(pixel, ny * nx - 1)
    i, j = pixel // nx, pixel % nx
    k = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    here = exists[:, None] & (k < nz)[None, :]
    k = tl.minimum(k, nz - 1)
    number = volume.dtype.element_ty
    x, y, z = j.to(number), i.to(number), k.to(number)
    total = tl.zeros((LINES, DEPTH), number)
    for v in range(n_views):
        P, Q = matrices + 12 * v, exact + 12 * v
        depth = 1.0 / _affine(P + 8, y, x, z)
        w = _affine(Q + 8, i, j, k)
        c = _near(_affine(P, y, x, z) * depth, columns)
        r = _near(_affine(P + 4, y, x, z) * depth, rows)
        across = (_affine(Q, i, j, k) - c * w).to(number) * unit * depth
        up = (_affine(Q + 4, i, j, k) - r * w).to(number) * unit * depth
        c, f = _split(c, tl.clamp(across, -columns - 2.0, columns + 2.0))
        r, g = _split(r, tl.clamp(up, -rows - 2.0, rows + 2.0))
        scale = depth * depth
        value = tl.zeros((LINES, DEPTH), number)
        for t in tl.static_range(4):
            a, b = c + t // 2, r + t % 2
            seen = here & (a >= 0) & (a < columns) & (b >= 0) & (b < rows)
            cell = (tl.cast(v, tl.int64) * columns + a) * rows + b
            share = (f if t // 2 == 1 else 1.0 - f) * (g if t % 2 == 1 else 1.0 - g)
            value = tl.fma(share, tl.load(projections + cell, mask=seen, other=0.0), value)
        total = tl.fma(scale, value, total)
    target = volume + (pixel.to(tl.int64) * nz)[:, None] + k[None, :]
    tl.store(target, total, mask=here)
