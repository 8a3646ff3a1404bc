"""When samples were taken, and the timing of each image where a file lists several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from medrecon.raw.images import Image
from medrecon.raw.scan import RawScan
from medrecon.study import Identity

_KEYWORDS = {
    "echo_times_ms": "EchoTime",
    "repetition_times_ms": "RepetitionTime",
    "inversion_times_ms": "InversionTime",
    "flip_angles_deg": "FlipAngle",
}


def of_contrast(scan: RawScan, name: str, image: Image) -> float | None:
    """Value of a list of ``scan.facts`` for the image's contrast; the only one serves for all."""
    values: Sequence[float] = scan.facts.get(name) or []
    number = image.counters["contrast"] - 1
    if len(values) == 1:
        return float(values[0])
    return float(values[number]) if number < len(values) else None


def identity_of_image(scan: RawScan, image: Image) -> Identity:
    """Identity of the scan with the timing of this image under DICOM's keywords."""
    found = {
        keyword: str(round(value, 6))
        for name, keyword in _KEYWORDS.items()
        if (value := of_contrast(scan, name, image)) is not None
    }
    attributes = {**scan.identity.attributes, **found}
    return replace(scan.identity, attributes=MappingProxyType(attributes))


def sample_times(
    scan: RawScan, image: Image, samples: int, center: int, *, every: float = 1.0
) -> NDArray[np.float64] | None:
    """Time of every sample of a readout after the excitation, s.

    Parameters
    ----------
    scan, image
        What was measured.
    samples
        How many times.
    center
        The sample at the echo.
    every
        Measured samples for each of them: the oversampling that was taken off.

    Returns
    -------
    ndarray or None
        ``None`` where the file tells no echo time or no time per sample.
    """
    echo, dwell = of_contrast(scan, "echo_times_ms", image), image.readouts[0].dwell
    if echo is None or dwell <= 0:
        return None
    index = np.arange(samples, dtype=np.float64) - center
    times: NDArray[np.float64] = echo * 1e-3 + index * every * dwell * 1e-6
    return times
