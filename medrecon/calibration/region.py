"""The fully sampled middle of k-space, from which coil maps are calibrated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError

Box = tuple[slice, ...]


def calibration_region(mask: NDArray[np.bool_]) -> Box:
    """Find the fully sampled box around the centre of k-space.

    It grows from the centre by one line on one side after the other until no side can grow, so
    that it is about square where there is room, and may be lopsided (partial Fourier).

    Parameters
    ----------
    mask
        Boolean, ``(y, x)`` or ``(z, y, x)``, centre at ``n // 2``.

    Returns
    -------
    tuple of slice
        One per axis; all empty where the centre itself was not measured.

    Examples
    --------
    >>> mask = np.zeros((9, 6), dtype=bool)
    >>> mask[3:6] = True
    >>> calibration_region(mask)
    (slice(3, 6, None), slice(0, 6, None))
    """
    low = [n // 2 for n in mask.shape]
    if not mask[tuple(low)]:
        return tuple(slice(c, c) for c in low)
    high = [c + 1 for c in low]
    growing = True
    while growing:
        growing = False
        for axis, n in enumerate(mask.shape):
            for side in (-1, 1):
                line = low[axis] - 1 if side < 0 else high[axis]
                box = [slice(a, b) for a, b in zip(low, high, strict=True)]
                box[axis] = slice(line, line + 1)
                if 0 <= line < n and mask[tuple(box)].all():
                    low[axis] -= side < 0
                    high[axis] += side > 0
                    growing = True
    return tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def middle(region: slice, n: int, lines: int) -> slice:
    """At most ``lines`` of a region, nearest to ``n // 2``.

    Examples
    --------
    >>> middle(slice(10, 40), 50, 8)
    slice(21, 29, None)
    >>> middle(slice(24, 40), 50, 8)
    slice(24, 32, None)
    """
    start = max(region.start, n // 2 - lines // 2)
    stop = min(region.stop, start + lines)
    return slice(max(region.start, stop - lines), stop)


def check_lines(found: int, kernel: int, where: str) -> None:
    """Refuse a calibration region that is narrower than a neighbourhood and two more.

    Raises
    ------
    InconsistentError
        Says how many lines there are, how many are needed, and what else can be done.
    """
    if found < kernel + 2:
        raise InconsistentError(
            f"Coil maps need at least {kernel + 2} fully sampled lines around the centre of "
            f"k-space, found {found} {where}; give maps or a separate calibration scan, or "
            "measure calibration lines."
        )
