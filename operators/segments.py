"""Time segmentation: an exponential of field times time as a short sum of products.

``exp(-2 pi i f t) ~ sum_l b_l(t) exp(-2 pi i f tau_l)`` at ``L`` equally spaced times ``tau_l``.
The interpolators ``b_l`` are the least-squares ones over the histogram of the field, which asks
for accuracy where there are voxels.

References
----------
Man, Pauly, Macovski, Multifrequency interpolation for fast off-resonance correction, Magn Reson
Med 37 (1997), doi:10.1002/mrm.1910370523; Sutton, Noll, Fessler, Fast, iterative image
reconstruction for MRI in the presence of field inhomogeneities, IEEE Trans Med Imaging 22 (2003),
doi:10.1109/TMI.2002.808360.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError

_MOST = 512  # segments; nobody waits for more
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
        Root mean square error over the voxels at the worst sample; the exponential has modulus 1.
    """

    centres: Array
    weights: NDArray[np.complexfloating]
    error: float

    def __len__(self) -> int:
        return len(self.centres)


def histogram(field: Array, duration: float) -> tuple[Array, Array]:
    """Frequencies in Hz and the share of voxels at each, as fine as the duration (s) asks for."""
    low, high = float(field.min()), float(field.max())
    bins = 64 + int(np.ceil((high - low) * duration * _PER_CYCLE))
    frequencies = np.linspace(low, high, bins)
    step = (high - low) / (bins - 1) or 1.0
    counts = np.bincount(np.rint((field.ravel() - low) / step).astype(np.int64), minlength=bins)
    occupied = counts > 0
    return frequencies[occupied], counts[occupied] / field.size


def differences(frequencies: Array, shares: Array, duration: float) -> tuple[Array, Array]:
    """Histogram of the difference between any two voxels' frequencies: symmetric about 0."""
    gaps = np.subtract.outer(frequencies, frequencies).ravel()
    pairs = np.multiply.outer(shares, shares).ravel()
    reach = float(np.abs(gaps).max())
    bins = 32 + int(np.ceil(reach * duration * _PER_CYCLE))
    index = np.rint(gaps / (reach or 1.0) * bins).astype(np.int64) + bins
    counts = np.bincount(index, weights=pairs, minlength=2 * bins + 1)
    symmetric: Array = (counts + counts[::-1]) / 2
    occupied = symmetric > 0
    return np.linspace(-reach, reach, 2 * bins + 1)[occupied], symmetric[occupied]


def segment(frequencies: Array, shares: Array, times: Array, error: float) -> Segments:
    """Find the fewest segments that keep the error.

    Parameters
    ----------
    frequencies, shares
        Histogram of the field: Hz, and the share of voxels at each.
    times
        Of the samples, s.
    error
        What is asked for, root mean square over the voxels at the worst sample.

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
        # denser towards both ends, or interpolators of thousands would amplify every other error
        nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        centres = (start + end) / 2 - (end - start) / 2 * nodes
        if _solve(frequencies, shares, some, centres)[1] <= error:
            weights, reached = _solve(frequencies, shares, times, centres)
            return Segments(centres, weights, reached)
    raise InconsistentError(
        f"The field map spans {np.ptp(frequencies):.4g} Hz, {cycles:.4g} cycles during the "
        f"readout, which cannot be segmented to an error of {error:.1g}: check its unit (Hz) and "
        "mask out what is not the object, or allow a larger error."
    )


def _solve(
    frequencies: Array, shares: Array, times: Array, centres: Array
) -> tuple[NDArray[np.complexfloating], float]:
    """Least-squares interpolators ``(segments, samples)`` and their error at the worst sample."""
    weight = np.sqrt(shares)[:, None]
    basis = weight * np.exp(-2j * np.pi * np.outer(frequencies, centres))
    target = weight * np.exp(-2j * np.pi * np.outer(frequencies, times))
    weights = np.linalg.lstsq(basis, target, rcond=None)[0]
    residual = np.sqrt((np.abs(basis @ weights - target) ** 2).sum(axis=0).max())
    return weights, float(residual)
