"""Distance-driven projector for a stack of slices, and its transpose.

On column ``j`` of pixels (row ``i``, if the ray is steeper) a detector cell casts the shadow
``[e, f]``; pixel ``i`` has the share ``|[e, f] & [i, i + 1]| / (f - e)`` of it, times the length
of the central ray per column.  Where cells are wider than pixels this is the mean over the cell
that a detector measures; where they are narrower it sees the edges of the pixels.  The loops are
those of :mod:`.stack`.

References
----------
B. De Man, S. Basu, Phys. Med. Biol. 49 (2004) 2463-2475, doi:10.1088/0031-9155/49/11/024.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels import stack

Array = NDArray[Any]


def forward(
    volume: Array,
    shadows: Array,
    views: Array,
    edges: Array,
    lookup: Array,
    marks: Array,
    pattern: Array,
    sinogram: Array,
) -> None:
    """Write ``sinogram[view, column, slice]`` from ``volume[y, x, slice]``.

    Parameters
    ----------
    volume, sinogram
        Float32 or float64, contiguous.
    shadows
        ``(along_x, e0, de, f0, df, length)`` per view and column, of
        :func:`medrecon.operators.rays.shadow_rays` and ``plane_lengths``.
    views
        Table of :func:`medrecon.operators.rays.view_matrices`.
    edges, lookup, marks, pattern
        Where the cells' edges cross the detector's tangent, of
        :func:`medrecon.operators.rays.tangents`, with ``(t_min, step)`` as marks; here the edges
        are searched by bisection.
    """
    low, high = edges[:, :-1].copy(), edges[:, 1:].copy()
    taps = most_taps(shadows, volume.shape)
    stack.run_forward(volume, shadows, views, low, high, pattern, taps, sinogram)


def transpose(
    sinogram: Array,
    shadows: Array,
    views: Array,
    edges: Array,
    lookup: Array,
    marks: Array,
    pattern: Array,
    volume: Array,
) -> None:
    """Write ``volume[y, x, slice]`` from ``sinogram[view, column, slice]``, see :func:`forward`."""
    low, high = edges[:, :-1].copy(), edges[:, 1:].copy()
    taps = most_taps(shadows, volume.shape)
    stack.run_transpose(sinogram, shadows, views, low, high, pattern, taps, volume)


def most_taps(shadows: Array, shape: tuple[int, ...]) -> int:
    """Most pixels across that the shadow of a cell touches anywhere in an image."""
    ends = np.array([0.0, max(shape[:2])])[:, None, None]
    width = np.abs(shadows[..., 3] - shadows[..., 1] + (shadows[..., 4] - shadows[..., 2]) * ends)
    return int(width.max()) + 2
