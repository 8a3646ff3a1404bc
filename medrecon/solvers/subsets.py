"""Ordered subsets: every n-th view makes a subset, visited in an order that spreads directions."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from medrecon.errors import UsageError
from medrecon.geometry import CTGeometry, FanBeam, ParallelBeam

Order = Callable[[int], tuple[int, ...]]
"""The order of visits: a permutation of ``range(n)``."""

_GOLDEN = (math.sqrt(5) - 1) / 2


def as_measured(count: int) -> tuple[int, ...]:
    """One subset after the other; neighbours see nearly the same, so progress is slow."""
    return tuple(range(count))


def bit_reversed(count: int) -> tuple[int, ...]:
    """Reverse the bits of 0, 1, 2, ...: every next subset halves the widest gap.

    References
    ----------
    Guan and Gordon 1994, doi:10.1088/0031-9155/39/11/013 (access orders for ART).

    Examples
    --------
    >>> bit_reversed(8)
    (0, 4, 2, 6, 1, 5, 3, 7)
    """
    bits = max(1, (count - 1).bit_length())
    reverse = (int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits))
    return tuple(k for k in reverse if k < count)


def golden_angle(count: int) -> tuple[int, ...]:
    """Step on by the golden section of the whole: every prefix is spread out evenly.

    References
    ----------
    Koehler, A projection access scheme for iterative reconstruction based on the golden section,
    IEEE Nuclear Science Symposium 2004.

    Examples
    --------
    >>> golden_angle(8)
    (0, 5, 2, 7, 4, 1, 6, 3)
    """
    position = [(k * _GOLDEN) % 1 for k in range(count)]
    rank = {k: place for place, k in enumerate(sorted(range(count), key=position.__getitem__))}
    return tuple(rank[k] for k in range(count))


def view_axis(geometry: CTGeometry) -> int:
    """Axis of the views in measurements: -2 slice by slice, -3 for an area detector."""
    return -2 if isinstance(geometry, ParallelBeam | FanBeam) else -3


def split_geometry(geometry: CTGeometry, count: int) -> tuple[CTGeometry, ...]:
    """Divide a scan into ``count`` scans of every ``count``-th view, ``geometry[s::count]``.

    Raises
    ------
    UsageError
        If there are fewer views than subsets.
    """
    views = geometry.views
    if not 1 <= count <= views:
        raise UsageError(f"A scan of {views} views has 1 to {views} subsets, not {count}.")
    return tuple(geometry[s::count] for s in range(count))


def split_views(values: Tensor, geometry: CTGeometry, count: int) -> tuple[Tensor, ...]:
    """Divide measurements, or weights of the same shape, as :func:`split_geometry` does views."""
    axis = view_axis(geometry) % values.ndim
    return tuple(values[(slice(None),) * axis + (slice(s, None, count),)] for s in range(count))
