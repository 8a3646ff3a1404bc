"""Whether k-space can be what it is said to be; all MR readers ask here."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError

Complex = NDArray[np.complex64]

_FEW = 0.1  # share of dead coils from which on they are not just dropped
_FAR = 0.25  # of the matrix: where the strongest sample cannot be the centre of k-space


def require_finite(kspace: Complex, path: Path, axes: str) -> None:
    """Raise :class:`InconsistentError` with count and first place of NaN or infinite samples.

    Parameters
    ----------
    kspace
        Samples.
    path
        The file they came from.
    axes
        Names of the axes for the message, e.g. ``"slice, coil, y, x"``.
    """
    bad = ~np.isfinite(kspace)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InconsistentError(
            f"{path}: {int(bad.sum())} k-space samples are NaN or infinite, the first at "
            f"({axes}) = {first}; repair the file or leave those readouts out."
        )


def live_coils(energy: NDArray[np.floating], path: Path) -> NDArray[np.intp]:
    """Find the coils that received anything.

    Parameters
    ----------
    energy
        Sum of squares (or any sum of magnitudes) of every coil.
    path
        The file they came from.

    Raises
    ------
    InconsistentError
        If all coils, or a tenth of them or more, are zero throughout.

    Warns
    -----
    UserWarning
        Names the coils that are dropped.
    """
    dead = np.flatnonzero(energy == 0)
    if len(dead) == len(energy):
        raise InconsistentError(f"{path}: all k-space samples are zero.")
    if len(dead) >= _FEW * len(energy) and len(dead):
        raise InconsistentError(
            f"{path}: {len(dead)} of {len(energy)} coils are zero throughout ({dead.tolist()}), "
            "too many to go on without them; is the file complete?"
        )
    if len(dead):
        warnings.warn(
            f"{path}: coil {int(dead[0])} is zero throughout and is left out."
            if len(dead) == 1
            else f"{path}: coils {dead.tolist()} are zero throughout and are left out.",
            stacklevel=2,
        )
    return np.flatnonzero(energy)


def warn_of_spikes(kspace: Complex, path: Path) -> None:
    """Warn where the strongest sample lies far from the centre of k-space.

    A spike, or a k-space whose centre is not where it should be.

    Parameters
    ----------
    kspace
        Centred, encoded axes last: two for ``(z, coils, y, x)``.
    path
        The file it came from.
    """
    place = np.unravel_index(int(np.argmax(np.abs(kspace))), kspace.shape)
    for index, n in zip(place[-2:], kspace.shape[-2:], strict=True):
        if abs(int(index) - n // 2) > _FAR * n + 1:
            warnings.warn(
                f"{path}: the strongest k-space sample lies at (y, x) = "
                f"{tuple(map(int, place[-2:]))} of {kspace.shape[-2:]}, far from the centre: a "
                "spike, or a wrong centre.",
                stacklevel=2,
            )
            return
