"""Joseph's projector for a stack of slices, and its transpose.

A ray that runs mainly along x visits every column ``j`` of pixels once, at the row
``r = r0 + dr j``, and takes ``(1 - f) v[i, j] + f v[i + 1, j]`` with ``i = floor(r)``,
``f = r - i``, times the length of its path per column; likewise along y.  The loops are those of
:mod:`.stack`.

References
----------
P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192-196, doi:10.1109/TMI.1982.4307572.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from medrecon.operators.kernels import stack

Array = NDArray[Any]

TAPS = 2  # pixels across that a ray weighs


def forward(
    volume: Array,
    rays: Array,
    views: Array,
    t: Array,
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
    rays, views
        Tables of :func:`medrecon.operators.rays.joseph_rays` and ``view_matrices``.
    t, lookup, marks, pattern
        Where the rays cross the detector's tangent, of :func:`medrecon.operators.rays.tangents`,
        with ``(t_min, step)`` as marks; here ``t`` is searched by bisection.
    """
    stack.run_forward(volume, rays, views, t, t, pattern, TAPS, sinogram)


def transpose(
    sinogram: Array,
    rays: Array,
    views: Array,
    t: Array,
    lookup: Array,
    marks: Array,
    pattern: Array,
    volume: Array,
) -> None:
    """Write ``volume[y, x, slice]`` from ``sinogram[view, column, slice]``, see :func:`forward`."""
    stack.run_transpose(sinogram, rays, views, t, t, pattern, TAPS, volume)
