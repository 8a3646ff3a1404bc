"""Time segmentation: an exponential of field times time as a short sum of products.

``exp(-2 pi i f t) ~ sum_l b_l(t) exp(-2 pi i f tau_l)`` at ``L`` times ``tau_l`` that lie denser
towards both ends of the readout (Chebyshev's). The interpolators ``b_l`` are the least-squares
ones over the histogram of the field, which asks for most accuracy where there are most voxels.

References
----------
Man, Pauly, Macovski, Multifrequency interpolation for fast off-resonance correction, Magn Reson
Med 37 (1997), doi:10.1002/mrm.1910370523; Sutton, Noll, Fessler, Fast, iterative image
reconstruction for MRI in the presence of field inhomogeneities, IEEE Trans Med Imaging 22 (2003),
doi:10.1109/TMI.2002.808360.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError

_MOST = 512  # segments; nobody waits for more
_LARGEST = 2.0  # interpolator
_PER_CYCLE = 16  # histogram bins per cycle that the field's range winds over the readout

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Segments:
    """A segmentation and how exact it is.

    Parameters
    ----------
    centres
        Times ``tau_l`` in s, ``(segments,)``.
    weights
        Interpolators ``b_l(t)``, ``(segments, samples)``; real where the histogram is symmetric.
    error
        Root mean square over the histogram at the worst sample; the exponential has modulus 1.
    """

    centres: Array
    weights: NDArray[np.complex128]
    error: float

    def __len__(self) -> int:
        return len(self.centres)


def histogram(field: Array, duration: float) -> tuple[Array, Array]:
    """Weigh the frequencies from the lowest to the highest, as finely as the duration asks for.

    Half of the weight is the share of voxels at each frequency, half is spread evenly: the few
    voxels near air, where the field is at its worst, count too.

    Parameters
    ----------
    field
        Hz, any shape.
    duration
        Of the readout, s.

    Returns
    -------
    (frequencies, weights)
        Equally spaced, Hz; the weights' sum is 1.
    """
    low, high = float(field.min()), float(field.max())
    if low == high:
        return np.array([low]), np.ones(1)
    bins = 64 + math.ceil(min((high - low) * duration, _MOST) * _PER_CYCLE)
    index = np.rint((field.ravel() - low) / (high - low) * (bins - 1)).astype(np.int64)
    shares = np.bincount(index, minlength=bins) / field.size
    return np.linspace(low, high, bins), (shares + 1 / bins) / 2


def differences(frequencies: Array, weights: Array) -> tuple[Array, Array]:
    """Weigh the differences between any two frequencies of a :func:`histogram` likewise.

    Symmetric about 0, which makes the interpolators real.
    """
    reach = float(np.ptp(frequencies))
    pairs: Array = np.correlate(weights, weights, mode="full")
    symmetric = (pairs + pairs[::-1]) / 2
    return np.linspace(-reach, reach, len(pairs)), (symmetric + 1 / len(pairs)) / 2


def segment(frequencies: Array, weights: Array, times: Array, error: float) -> Segments:
    """Find the fewest segments that keep the error.

    Parameters
    ----------
    frequencies, weights
        Histogram of the field, Hz, and weights of sum 1.
    times
        Of the samples, s.
    error
        What is asked for, root mean square over the histogram at the worst sample.

    Raises
    ------
    InconsistentError
        If the field winds too often during the readout, or the error is below what double
        precision gives.
    """
    start, end = float(times.min()), float(times.max())
    cycles = float(np.ptp(frequencies)) * (end - start)
    some = times[np.linspace(0, len(times) - 1, min(len(times), 128)).astype(np.int64)]
    fewest = max(1, int(cycles))
    for count in range(fewest, min(_MOST, 2 * fewest + 64)):
        # equally spaced ones would need interpolators of thousands, which amplify other errors
        nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        centres = (start + end) / 2 - (end - start) / 2 * nodes
        if not _good(*_interpolators(frequencies, weights, some, centres), error):
            continue
        found, reached = _interpolators(frequencies, weights, times, centres)
        if _good(found, reached, error):
            return Segments(centres, found, reached)
    raise InconsistentError(
        f"The field map spans {np.ptp(frequencies):.4g} Hz, {cycles:.4g} cycles during the "
        f"readout, which cannot be segmented to an error of {error:.1g}: check its unit (Hz) and "
        "mask out what is not the object, or allow a larger error."
    )


def _good(found: NDArray[np.complex128], reached: float, error: float) -> bool:
    return reached <= error and bool(np.abs(found).max() < _LARGEST)


def _interpolators(
    frequencies: Array, weights: Array, times: Array, centres: Array
) -> tuple[NDArray[np.complex128], float]:
    """Least-squares interpolators ``(segments, samples)`` and their error at the worst sample."""
    root = np.sqrt(weights)[:, None]
    basis = root * np.exp(-2j * np.pi * np.outer(frequencies, centres))
    target = root * np.exp(-2j * np.pi * np.outer(frequencies, times))
    found = np.linalg.lstsq(basis, target, rcond=None)[0]
    residual = np.sqrt((np.abs(basis @ found - target) ** 2).sum(axis=0).max())
    return found, float(residual)
