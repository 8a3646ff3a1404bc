"""Which detector columns can see a pixel: the search that the transposes on a GPU begin with.

A pixel's neighbours (or its corners) bound how far along the detector's tangent a ray can pass and
still weigh something.  The search only has to find every such column: it runs in single
precision, with a margin, and what it finds too much weighs exactly 0.  The number of columns is
a constant of the compiled kernel, worked out here for the whole scan.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.engine import on_device, remembered
from medrecon.operators.kernels.triton_tools import jit

Array = NDArray[np.float64]
Index = NDArray[np.int32]

MARGIN = 0.01  # columns, far above the rounding of single precision


@dataclass(frozen=True, eq=False)
class Search:
    """A scan's tables for the search, see :class:`medrecon.operators.rays.Tangents`.

    Parameters
    ----------
    views
        Maps from pixel to tangent, ``(views, 2, 3)``.
    t
        Where the columns' rays, or the edges between columns, cross the tangent,
        ``(patterns, n)``, increasing along the second axis.
    lookup, marks
        First index at each mark and beyond; the marks' ``(t_min, step)`` per pattern.
    pattern
        Which pattern a view has, ``(views,)``.
    pixels
        ``(ny, nx)``.
    neighbours
        1 if a pixel's influence ends at its neighbours' centres, 0.5 at its own edges.
    """

    views: Array
    t: Array
    lookup: Index
    marks: Array
    pattern: Index
    pixels: tuple[int, int]
    neighbours: float

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return the kernels' arguments ``views, lookup, marks, patterns``."""
        return (
            on_device(self.views, device, _single),
            on_device(self.lookup, device, np.asarray),
            on_device(self.marks, device, _scales),
            on_device(self.pattern, device, np.asarray),
        )

    @property
    def constants(self) -> dict[str, Any]:
        """The kernels' constants ``NEIGHBOURS``, ``TAPS`` and ``CURVED``."""
        return remembered(self.views, (self.pixels, self.neighbours, id(self.t)), self._constants)

    def _constants(self) -> dict[str, Any]:
        even = np.arange(self.t.shape[1])
        curved = len(self.t) > 1 or not np.array_equal(self.t[0] - self.t[0, 0], even)
        width = 2 * (widest(self.views, *self.pixels, self.neighbours) + MARGIN)
        slack = float(self.marks[:, 1].max()) if curved else 0.0
        taps = most_columns(self.t, width + slack)
        return {"NEIGHBOURS": self.neighbours, "TAPS": taps, "CURVED": curved}


def _single(table: Array) -> NDArray[np.float32]:
    return table.astype(np.float32)


def _scales(marks: Array) -> NDArray[np.float32]:
    """Where the look-up begins, and its entries per column."""
    return np.stack([marks[:, 0], 1 / marks[:, 1]], -1).astype(np.float32)


def widest(views: Array, ny: int, nx: int, neighbours: float) -> float:
    """Bound how far from a pixel's centre on the tangent rays see it, in columns.

    Parameters
    ----------
    views
        Maps from pixel to tangent, ``(views, 2, 3)``.
    ny, nx
        Pixels.
    neighbours
        1 if a pixel's influence ends at its neighbours' centres, 0.5 at its own edges.

    Notes
    -----
    Along an index the position ``A / B`` moves by ``(A_k - u B_k) / (B +- B_k)``; over the grid
    ``u`` and ``B`` are extreme at its corners.
    """
    corners = np.array([(1.0, j, i) for j, i in itertools.product((0, nx - 1), (0, ny - 1))])
    A, B = views[:, 0] @ corners.T, views[:, 1] @ corners.T
    u = A / B
    moves = [
        np.abs(views[:, 0, k] - end * views[:, 1, k])
        for k, end in itertools.product((1, 2), (u.min(1), u.max(1)))
    ]
    least = B.min(1) - neighbours * np.abs(views[:, 1, 1:]).max(1)
    return float((neighbours * np.max(moves, axis=0) / least).max())


def most_columns(t: Array, width: float) -> int:
    """Count columns (or edges) in the fullest window of a detector's tangent.

    Parameters
    ----------
    t
        Positions ``(patterns, n)``, increasing along the second axis.
    width
        Of the window, in columns.
    """
    span = width + 1e-6
    counts = [np.searchsorted(row, row + span, side="right") - np.arange(row.size) for row in t]
    return int(np.max(counts))


@jit
def lowest(view, i, j, NEIGHBOURS: tl.constexpr):
    """Lower end on the tangent of what sees pixels ``(i, j)``; ``view`` points to A and B."""
    a0, a1, a2 = tl.load(view), tl.load(view + 1), tl.load(view + 2)
    b0, b1, b2 = tl.load(view + 3), tl.load(view + 4), tl.load(view + 5)
    x, y = j.to(tl.float32), i.to(tl.float32)
    depth = b0 + b1 * x + b2 * y
    centre = (a0 + a1 * x + a2 * y) / depth
    move = NEIGHBOURS * tl.maximum(tl.abs(a1 - centre * b1), tl.abs(a2 - centre * b2))
    reach = move / (depth - NEIGHBOURS * tl.maximum(tl.abs(b1), tl.abs(b2)))
    return centre - reach - 0.01  # MARGIN


@jit
def first_column(low, lookup, marks, patterns, view, n, CURVED: tl.constexpr):
    """First column (or edge) at ``low`` or beyond; on a curved detector perhaps one entry early."""
    if CURVED:
        pattern = tl.load(patterns + view)
        entry = (low - tl.load(marks + 2 * pattern)) * tl.load(marks + 2 * pattern + 1)
        # Rounded down before it is an integer, and bounded before that: far pixels are far.
        entry = tl.minimum(tl.maximum(tl.floor(entry), 0.0), n - 1.0).to(tl.int32)
        first = tl.load(lookup + pattern * n + entry)
    else:
        bounded = tl.minimum(tl.maximum(low - tl.load(marks), 0.0), n + 0.0)
        first = tl.ceil(bounded).to(tl.int32)
    return first
