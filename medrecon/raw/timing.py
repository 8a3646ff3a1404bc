"""Echo, repetition and inversion time and flip angle of each image, where a file lists several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

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
