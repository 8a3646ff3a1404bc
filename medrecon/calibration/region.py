"""The fully sampled middle of k-space, from which coil maps are calibrated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
