"""Where the rotation axis falls on a parallel-beam detector, estimated from the sinogram."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError

_FINEST = 0.1  # columns


def find_center(
    measurements: Tensor, angles: Sequence[float], *, search: float | None = None
) -> float:
    """Estimate the detector column onto which the rotation axis projects.

    A half turn, mirrored about the right column, continues itself to a full turn.  The Fourier
    transform of a full-turn sinogram is almost empty where the angular frequency exceeds the
    spatial one times the object's radius; a wrong column fills this double wedge.  The column
    with the emptiest wedge is the answer.

    Parameters
    ----------
    measurements
        Line integrals of a parallel beam, ``(z, views, columns)``; the middle slice is used.
    angles
        View angles in rad, evenly spread over a half turn (a full turn is cut to its half).
    search
        How far from the detector's middle to search, in columns; default: a tenth of its width.

    Returns
    -------
    float
        Column index, from 0; the middle of ``n`` columns is ``(n - 1) / 2``.

    Raises
    ------
    InconsistentError
        If the views do not cover a half turn evenly.

    References
    ----------
    N. T. Vo et al., "Reliable method for calculating the center of rotation in parallel-beam
    tomography", Opt. Express 22 (2014) 19078, doi:10.1364/OE.22.019078.
    """
    views = _half_turn(angles)
    sinogram = measurements[measurements.shape[0] // 2, :views].double().cpu().numpy()
    columns = sinogram.shape[1]
    wedge = _double_wedge(2 * views, columns)
    middle = (columns - 1) / 2
    reach, step = search or columns / 10, 1.0
    best = middle
    while True:
        trials = np.arange(best - reach, best + reach + step / 2, step)
        best = float(min(trials, key=lambda center: _energy(sinogram, center, wedge)))
        if step <= _FINEST:
            return best
        reach, step = step, step / 4 if step > 4 * _FINEST else _FINEST


def _half_turn(angles: Sequence[float]) -> int:
    """Count the leading views that make up a half turn."""
    steps = np.diff(np.asarray(angles, np.float64))
    if len(steps) < 8 or not np.allclose(steps, steps.mean(), rtol=0.02):
        raise InconsistentError(
            "The rotation centre can only be estimated from evenly spaced views; give it instead."
        )
    views = round(math.pi / abs(float(steps.mean())))
    # A last view at 180 degrees repeats the first one mirrored; one missing view does no harm.
    if len(angles) < views - 1:
        raise InconsistentError(
            f"The views cover {math.degrees(abs(angles[-1] - angles[0])):.1f} degrees; a half turn "
            "is needed to estimate the rotation centre, so give it instead."
        )
    return min(views, len(angles))


def _double_wedge(views: int, columns: int) -> NDArray[np.bool_]:
    """Frequencies that no object inside the detector can have."""
    angular = np.abs(np.fft.fftfreq(views) * views)[:, None]
    spatial = np.abs(np.fft.fftfreq(columns))[None]
    return np.asarray(angular > 2 * np.pi * (columns / 2) * spatial + 2)


def _energy(sinogram: NDArray[np.float64], center: float, wedge: NDArray[np.bool_]) -> float:
    columns = np.arange(sinogram.shape[1])
    mirrored = [np.interp(2 * center - columns, columns, view) for view in sinogram]
    spectrum = np.fft.fft2(np.vstack([sinogram, mirrored]))
    return float(np.abs(spectrum[wedge]).mean())
