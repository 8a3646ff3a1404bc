"""How much of k-space was left out, and whether the header says the same."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.raw.scan import Encoding

_AGREES = 0.2  # largest relative difference between claim and measurement


def acceleration_facts(mask: NDArray[np.bool_], encoding: Encoding, path: Path) -> dict[str, Any]:
    """Compare what was measured with what the header claims.

    Parameters
    ----------
    mask
        Measured samples ``(z, y, x)``.
    encoding
        The header's claim.
    path
        The file.

    Returns
    -------
    dict
        ``measured``: samples of the full k-space over those measured; ``step``: distance of the
        lines outside the calibration region along (z, y); ``claimed`` along (z, y).

    Warns
    -----
    UserWarning
        Where the header claims an acceleration that neither the step nor the count of samples
        agrees with.
    """
    measured = float(mask.size / mask.sum())
    lines: NDArray[np.bool_] = np.asarray(mask.any(axis=-1))
    steps = (
        _step(np.asarray(lines.any(axis=1))) if encoding.is_3d else 1,
        _step(np.asarray(lines.any(axis=0)) if encoding.is_3d else lines[0]),
    )
    claimed = encoding.acceleration
    total = claimed[0] * claimed[1]
    found = (measured, float(steps[0] * steps[1]))
    if total > 1 and not any(abs(total - f) <= _AGREES * total for f in found):
        warnings.warn(
            f"{path}: the header claims an acceleration of {total:g}, but every "
            f"{found[1]:g}{_ordinal(int(found[1]))} line (1 sample of {measured:.2f}) was "
            "measured; what was measured counts.",
            stacklevel=2,
        )
    return {"measured": round(measured, 3), "step": [*steps], "claimed": [*claimed]}


def _step(lines: NDArray[np.bool_]) -> int:
    """Most frequent distance of neighbouring lines that are not adjacent; 1 where all are."""
    gaps = np.diff(np.flatnonzero(lines))
    wide = gaps[gaps > 1]
    return int(np.bincount(wide).argmax()) if len(wide) else 1


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
