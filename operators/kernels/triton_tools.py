"""What the Triton kernels share: fixed-point coordinates, tiles, and how they are started.

Numbers
-------
Where a ray crosses a column of pixels decides its weights, ``r = r0 + dr q``.  In float32 at
``r`` = 500 that position is good to 3e-5 pixels only, and whether a compiler fuses the product
with the sum would make the two directions of a projector differ.  In float64 most GPUs are 32 to
64 times slower.  Positions are therefore integers in units of 2^-32 pixels (int64): sums are
exact in any order, the whole part is a shift and the rest a mask, so both directions see the same
weight to the last bit and it differs from the exact one by no more than 2^-32 q.

All else that both directions work out (magnification, shadows along z) is written once, as a
function that both inline, with fused multiply-adds where they are meant and the compiler's own
fusion switched off.

Every output element is summed by one thread in an order that does not depend on the tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

FRACTION = 32  # bits below the point
ROUNDING = 1e-9  # what is this little longer than a whole number of intervals meets no more
FARTHEST = 2.0**30  # pixels; what lies farther from the grid is as good as there


def jit(function: Callable[..., Any]) -> Any:
    """``triton.jit`` with a type."""
    return triton.jit(function)


def fixed(values: Array) -> NDArray[np.int64]:
    """Round to units of 2^-32."""
    near = np.clip(values, -FARTHEST, FARTHEST)
    return np.rint(np.ldexp(near, FRACTION)).astype(np.int64)


def block(table: Array, most: float) -> tuple[NDArray[np.int64], float]:
    """Round to integers of a common unit, a power of 2, in which ``2 most`` is below 2^62.

    What is affine in a pixel's indices is then exact but for the rounding of its coefficients,
    with more bits than double precision, and so are differences of such numbers.
    """
    exponent = 61 - math.frexp(most)[1]
    return np.rint(np.ldexp(table, exponent)).astype(np.int64), 2.0**-exponent


def single(table: Array) -> NDArray[np.float32]:
    """Round to single precision."""
    return table.astype(np.float32)


def double(table: Array) -> Array:
    """Keep or convert to double precision."""
    return table.astype(np.float64)


def precision(x: Tensor) -> Callable[[Array], NDArray[Any]]:
    """Return the function that rounds a table to the precision of the data."""
    return single if x.dtype == torch.float32 else double


@dataclass(frozen=True)
class Tile:
    """Work of one program: ``lines`` rays or pixels times ``depth`` slices, rows or voxels.

    On a GPU one warp and one line are best where the innermost axis fills them: what is worked
    out in the plane is then the same number in all threads, serves eight elements in each, and
    taps that weigh nothing are skipped by the whole warp.
    """

    depth: int
    lines: int = 1
    warps: int = 1


def tile(preferred: Tile, depth: int, x: Tensor) -> Tile:
    """Fit a tile to data whose innermost axis has ``depth`` elements.

    What a shallow stack leaves free goes to more lines.  The interpreter pays per operation, not
    per element: it gets large tiles.
    """
    inner = min(preferred.depth, triton.next_power_of_2(depth))
    if not x.is_cuda:
        return Tile(inner, max(1, min(64, 4096 // inner)))
    if inner >= 32:
        return Tile(inner, preferred.lines, preferred.warps)
    return Tile(inner, 128 // inner, 4)


def taps(step: float) -> int:
    """Count the unit intervals that one of length ``step`` can meet, up to rounding."""
    return math.ceil(step - ROUNDING) + 1


def start(
    kernel: Any, grid: tuple[int, ...], *arguments: object, warps: int, **static: object
) -> None:
    """Launch without the compiler's own fusion of products and sums."""
    kernel[grid](*arguments, **static, num_warps=warps, enable_fp_fusion=False)


@jit
def share(x, number: tl.constexpr):
    """Convert a fixed-point number from 0 to 1, with every bit that ``number`` can hold."""
    if number == tl.float64:
        value = x.to(tl.float64) * (1.0 / 4294967296.0)
    else:
        value = (x >> 8).to(tl.int32).to(tl.float32) * (1.0 / 16777216.0)
    return value


@jit
def ratio(part, whole, number: tl.constexpr):
    """``part / whole`` of fixed-point numbers, ``part`` at most 1."""
    return share(part, number) / (whole.to(number) * (1.0 / 4294967296.0))


@jit
def linear_weight(r, p, number: tl.constexpr):
    """``max(0, 1 - |r - p|)`` of a fixed-point position and an index."""
    one: tl.constexpr = 4294967296
    return share(tl.maximum(one - tl.abs(r - (p.to(tl.int64) << 32)), 0), number)


@jit
def some(hit, LINES: tl.constexpr):
    """Whether a tap is worth its while: skipped if no line of the program needs it.

    Only one line's answer comes for free; more of them would have to wait for each other.
    """
    return tl.max(hit.to(tl.int32), 0) > 0 if LINES == 1 else True


@jit
def add_product(w, x, total):
    """``total + w x`` with one rounding; ``w`` per line, ``x`` and ``total`` per line and depth."""
    return tl.fma(tl.broadcast_to(w[:, None], total.shape), x, total)
