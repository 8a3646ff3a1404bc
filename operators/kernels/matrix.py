"""A stored matrix, applied to a stack of slices: its rows gather, and so do its transpose's.

Rows are compressed: entries ``rows[r]`` to ``rows[r + 1]`` of ``columns`` and ``values`` belong to
row ``r``.  Both directions take the arrays of the matrix and then those of its transpose.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from medrecon.operators.kernels.compile import kernel, launch, prange
from medrecon.operators.kernels.lanes import gather_all, padded, room, strip

Array = NDArray[Any]


def forward(
    volume: Array,
    rows: Array,
    columns: Array,
    values: Array,
    rows_t: Array,
    columns_t: Array,
    values_t: Array,
    sinogram: Array,
) -> None:
    """Write ``sinogram[view, column, slice]`` from ``volume[y, x, slice]``."""
    _multiply(rows, columns, values, volume, sinogram)


def transpose(
    sinogram: Array,
    rows: Array,
    columns: Array,
    values: Array,
    rows_t: Array,
    columns_t: Array,
    values_t: Array,
    volume: Array,
) -> None:
    """Write ``volume[y, x, slice]`` from ``sinogram[view, column, slice]``."""
    _multiply(rows_t, columns_t, values_t, sinogram, volume)


def _multiply(rows: Array, columns: Array, values: Array, source: Array, target: Array) -> None:
    x = padded(source)
    y = room(target, x.shape[2])
    launch(multiply, rows, columns, values, x.reshape(-1), x.shape[2], y.reshape(-1))
    strip(y, target)


@kernel
def multiply(rows: Array, columns: Array, values: Array, x: Array, lanes: int, y: Array) -> None:
    """Write ``y = M x`` for ``x[column, slice]`` and ``y[row, slice]``, both flattened."""
    for r in prange(len(rows) - 1):
        first, last, at = rows[r], rows[r + 1], r * lanes
        y[at : at + lanes] = 0
        gather_all(y, at, x, columns, values, first, last, lanes)
