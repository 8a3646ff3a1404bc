"""Fields of view off the isocentre along a readout that is sampled on the gradient's ramps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medrecon.preprocessing.epi import ramp_positions
from medrecon.raw.scan import Encoding, Readout


def modulated(readout: Readout, encoding: Encoding, shift: float) -> Readout:
    """Put the field of view of a ramp-sampled readout where the receiver meant it to be.

    Receivers move the field of view by the frequency that belongs to ``shift`` on the gradient's
    flat top, and hold it on the ramps, where the gradient is weaker. The phase that is too much is
    taken back. Readouts without sampling on ramps come back as they are.

    Parameters
    ----------
    readout
        The readout, in the order of acquisition.
    encoding
        Its encoding.
    shift
        By how much the receiver moved the field of view along the readout, mm.
    """
    if encoding.trapezoid is None or shift == 0:
        return readout
    samples = readout.data.shape[1]
    k = ramp_positions(samples, encoding.matrix[2], **vars(encoding.trapezoid))
    held = float(np.diff(k).max()) * (np.arange(samples) - (samples - 1) / 2)
    phase = 2 * np.pi * shift / encoding.fov[2] * (held - k)
    factor = np.exp((-1j if readout.reverse else 1j) * phase).astype(np.complex64)
    return replace(readout, data=readout.data * factor)
