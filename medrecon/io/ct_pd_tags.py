"""The private attributes of DICOM-CT-PD, decoded by what they must be, whatever a file says.

Writers leave the private value representations out (implicit VR, or UN), so that a reader gets
bytes: little-endian numbers, or text.  Names, numbers and meanings follow B. Chen et al.,
"Development and validation of an open data format for CT projection data", Med. Phys. 42 (2015)
6964, doi:10.1118/1.4935406, and the format's user manual, version 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medrecon.errors import UnreadableError
from medrecon.io.dicom_read import BROKEN


@dataclass(frozen=True)
class Attribute:
    """One attribute: its number, its name and what kind of value it holds."""

    tag: int
    name: str
    kind: Literal["float", "short", "text"]
    smallest: float = -math.inf
    largest: float = math.inf

    def __str__(self) -> str:
        """Name and number as the format's manual writes them."""
        return f"{self.name} ({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"


# Lengths beyond these bounds are no scanner, but bytes read in the wrong order.
ROWS = Attribute(0x70291010, "NumberofDetectorRows", "short", 1, 8192)
COLUMNS = Attribute(0x70291011, "NumberofDetectorColumns", "short", 1, 8192)
COLUMN_SPACING = Attribute(0x70291002, "DetectorElementTransverseSpacing", "float", 1e-3, 100)
ROW_SPACING = Attribute(0x70291006, "DetectorElementAxialSpacing", "float", 1e-3, 100)
SHAPE = Attribute(0x7029100B, "DetectorShape", "text")
ANGLE = Attribute(0x70311001, "DetectorFocalCenterAngularPosition", "float", -1e5, 1e5)
HEIGHT = Attribute(0x70311002, "DetectorFocalCenterAxialPosition", "float", -1e5, 1e5)
RADIUS = Attribute(0x70311003, "DetectorFocalCenterRadialDistance", "float", 1, 1e5)
SOURCE_TO_DETECTOR = Attribute(0x70311031, "ConstantRadialDistance", "float", 1, 1e5)
CENTRAL_ELEMENT = Attribute(0x70311033, "DetectorCentralElement", "float", -1e4, 1e4)
ANGLE_SHIFT = Attribute(0x7033100B, "SourceAngularPositionShift", "float", -1, 1)
HEIGHT_SHIFT = Attribute(0x7033100C, "SourceAxialPositionShift", "float", -100, 100)
RADIUS_SHIFT = Attribute(0x7033100D, "SourceRadialDistanceShift", "float", -100, 100)
SPOT_MODE = Attribute(0x7033100E, "FlyingFocalSpotMode", "text")
SPECTRA = Attribute(0x70331061, "NumberofSpectra", "short")
PHOTONS = Attribute(0x70331065, "PhotonStatistics", "float", 0, 1e12)
PROJECTION_GEOMETRY = Attribute(0x7037100A, "TypeofProjectionGeometry", "text")
LOGARITHM = Attribute(0x70391009, "LogFlag", "text")
WATER = Attribute(0x70411001, "WaterAttenuationCoefficient", "text")
OLD_WATER = Attribute(0x00180061, "HUCalibrationFactor", "text")


def present(header: Dataset, attribute: Attribute) -> bool:
    """Whether the header has the attribute with a value."""
    if attribute.tag not in header:
        return False
    try:
        value = header[attribute.tag].value
    except BROKEN:
        return True  # damaged; reading it says so
    if isinstance(value, bytes) and attribute.kind == "text":
        value = value.strip(b"\0 ")
    return value is not None and value not in ("", b"")


def numbers(header: Dataset, attribute: Attribute, file: Path, count: int) -> NDArray[np.float64]:
    """Exactly ``count`` finite numbers of an attribute, within its bounds.

    Raises
    ------
    UnreadableError
        If it is missing, of another length, or cannot be what it is called; names the tag.
    """
    value = _value(header, attribute, file)
    try:
        if isinstance(value, bytes):
            values = np.frombuffer(value, "<f4" if attribute.kind == "float" else "<u2")
        else:
            values = np.array([] if value is None else value, np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.size != count:
        size = f"{len(value)} bytes" if isinstance(value, bytes) else f"{values.size} values"
        raise UnreadableError(
            f"{file}: {attribute} holds {size} where {count} little-endian "
            f"{attribute.kind}(s) are expected."
        )
    inside = (values >= attribute.smallest) & (values <= attribute.largest)  # False for NaN
    if not inside.all():
        raise UnreadableError(
            f"{file}: {attribute} is no plausible value; its bytes may be in big-endian order or "
            "damaged."
        )
    return values.astype(np.float64)


def number(header: Dataset, attribute: Attribute, file: Path) -> float:
    """One number of an attribute; see :func:`numbers`."""
    return float(numbers(header, attribute, file, 1)[0])


def text(header: Dataset, attribute: Attribute, file: Path) -> str:
    """Upper-case text of an attribute, ``""`` where it is missing.

    Raises
    ------
    UnreadableError
        If it is no ASCII text.
    """
    if not present(header, attribute):
        return ""
    value = _value(header, attribute, file)
    try:
        told = value.decode("ascii") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise UnreadableError(f"{file}: {attribute} is no text.") from None
    return told.strip("\0 ").upper()


def decimal(header: Dataset, attribute: Attribute, file: Path) -> float | None:
    """Return a decimal string as a number, ``None`` where it is missing.

    Raises
    ------
    UnreadableError
        If it is no finite number.
    """
    told = text(header, attribute, file)
    if not told:
        return None
    try:
        value = float(told)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UnreadableError(f"{file}: {attribute} is no number.")
    return value


def _value(header: Dataset, attribute: Attribute, file: Path) -> Any:
    if attribute.tag not in header:
        raise UnreadableError(f"{file}: {attribute} is missing; without it there is no geometry.")
    try:
        return header[attribute.tag].value
    except BROKEN:
        raise UnreadableError(f"{file}: {attribute} is damaged or of a wrong length.") from None
