"""Shares of pixels in the shadows of detector cells, for the footprint kernels on a GPU."""

from __future__ import annotations

import numpy as np
import triton.language as tl
from numpy.typing import NDArray

from medrecon.operators.kernels.engine import remembered
from medrecon.operators.kernels.triton_tools import fixed, jit, ratio, taps

Array = NDArray[np.float64]


def positions(shadows: Array) -> NDArray[np.int64]:
    """Both edges at the first step and their slopes, fixed point, and 1 for a ray along x."""
    return np.concatenate([fixed(shadows[..., 1:5]), shadows[..., :1] > 0], -1)


def widest_shadow(shadows: Array, ny: int, nx: int) -> int:
    """Count the pixels that a cell's shadow can meet in one step."""

    def count() -> int:
        e0, de, f0, df = np.moveaxis(shadows[..., 1:5], -1, 0)
        ends = [np.abs(f0 - e0 + (df - de) * q).max() for q in (0, max(ny, nx) - 1)]
        return taps(float(max(ends)))

    return remembered(shadows, ("widest", ny, nx), count)


@jit
def share_of(shadow, q, p, number: tl.constexpr):
    """Share of the pixels in the shadow of a cell; ``shadow`` points to its positions."""
    e = tl.load(shadow) + tl.load(shadow + 1) * q
    f = tl.load(shadow + 2) + tl.load(shadow + 3) * q
    return meet(e, f, p, number)


@jit
def meet(e, f, p, number: tl.constexpr):
    """Share of pixel ``p`` in the shadow from ``e`` to ``f``."""
    low, high = tl.minimum(e, f), tl.maximum(e, f)
    left = p.to(tl.int64) << 32
    common = tl.minimum(high, left + 4294967296) - tl.maximum(low, left)
    # A shadow that the detector's rim squeezed to nothing weighs nothing.
    return ratio(tl.maximum(common, 0), tl.maximum(high - low, 1), number)
