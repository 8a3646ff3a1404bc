"""One file of DICOM-CT-PD: the scanner it describes, where it stood, and its projection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.io import ct_pd_tags as tags
from medrecon.io.dicom_read import BROKEN, is_dicom

_SLOPE = tags.Attribute(0x00281053, "RescaleSlope", "text")
_INTERCEPT = tags.Attribute(0x00281052, "RescaleIntercept", "text")
_INSTANCE = tags.Attribute(0x00200013, "InstanceNumber", "text")
_SHAPES = ("CYLINDRICAL", "FLAT")
_SPOT_MODES = ("FFSNONE", "FFSZ", "FFSXY", "FFSXYZ")
_WATER_PER_MM = (0.005, 0.1)  # from 511 keV to 20 keV; outside, the unit is another


@dataclass(frozen=True, kw_only=True)
class Detector:
    """What all files of a scan have to agree on; columns and rows as the format counts them."""

    rows: int
    columns: int
    row_spacing: float
    column_spacing: float
    shape: str
    source_to_detector: float
    central_column: float
    central_row: float
    spot_mode: str
    stored: tuple[int, int]
    signed: bool
    maker: str
    position: str
    water: float | None

    @property
    def is_transposed(self) -> bool:
        """Whether the pixels run along the rows first, as the public library stores them."""
        return self.stored != (self.rows, self.columns)


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Where one view was taken, rad and mm of the format's frame, and how its values scale."""

    file: Path
    detector: Detector
    instance: int
    series: str
    angle: float
    height: float
    radius: float
    shift: tuple[float, float, float]  # of the focal spot: angle, height, radius
    slope: float
    intercept: float
    photons: NDArray[np.float32] | None  # incident quanta per column


def has_view(file: Path) -> bool:
    """Whether a file is DICOM with a gantry angle of this format."""
    if not is_dicom(file):
        return False
    try:
        wanted = [tags.ANGLE.tag, tags.ROWS.tag]
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=wanted)
        return tags.ANGLE.tag in header and tags.ROWS.tag in header
    except (InvalidDicomError, *BROKEN):
        return False


def view_of(header: Dataset, file: Path) -> View:
    """Read the geometry of one view.

    Raises
    ------
    UnreadableError
        If an attribute is missing, of a wrong length, or no plausible number; names the tag.
    InconsistentError
        If the scanner is of a kind that is not supported.
    """
    _require_supported(header, file)
    detector = _detector(header, file)
    number = tags.number
    shifts = (tags.ANGLE_SHIFT, tags.HEIGHT_SHIFT, tags.RADIUS_SHIFT)
    spot = [number(header, s, file) if tags.present(header, s) else 0.0 for s in shifts]
    photons = None
    if tags.present(header, tags.PHOTONS):
        photons = tags.numbers(header, tags.PHOTONS, file, detector.columns).astype(np.float32)
    slope, intercept = _scale(header, file)
    return View(
        file=file,
        detector=detector,
        instance=_instance(header, file),
        series=str(header.get("SeriesInstanceUID", "")),
        angle=number(header, tags.ANGLE, file),
        height=number(header, tags.HEIGHT, file),
        radius=number(header, tags.RADIUS, file),
        shift=(spot[0], spot[1], spot[2]),
        slope=slope,
        intercept=intercept,
        photons=photons,
    )


def projection_of(view: View) -> NDArray[np.float32]:
    """Line integrals of one view, ``(rows, columns)`` as the format counts them.

    Raises
    ------
    UnreadableError
        If the pixels are missing, truncated or damaged.
    """
    rows, columns = view.detector.stored
    try:
        content = bytes(pydicom.dcmread(view.file).PixelData)
    except (InvalidDicomError, *BROKEN):
        raise UnreadableError(f"{view.file}: the pixels are missing or damaged.") from None
    if len(content) not in (2 * rows * columns, 2 * rows * columns + 1):
        raise UnreadableError(
            f"{view.file} is truncated: {2 * rows * columns} bytes of pixels are declared, "
            f"{len(content)} are there."
        )
    kind = "<i2" if view.detector.signed else "<u2"
    stored = np.frombuffer(content[: 2 * rows * columns], kind).reshape(rows, columns)
    detector = stored.T if view.detector.is_transposed else stored
    values: NDArray[np.float32] = (detector * view.slope + view.intercept).astype(np.float32)
    return values


def _require_supported(header: Dataset, file: Path) -> None:
    syntax = UID(str(header.file_meta.TransferSyntaxUID))
    if not syntax.is_little_endian:
        raise UnreadableError(
            f"{file} is in big-endian order, in which {tags.ANGLE} cannot be told; convert it "
            "(dcmconv +te)."
        )
    if syntax.is_compressed:
        raise UnreadableError(f"{file}: compressed projections are not supported (dcmdjpeg).")
    if tags.text(header, tags.SHAPE, file) not in _SHAPES:
        raise InconsistentError(
            f"{file}: {tags.SHAPE} has to be CYLINDRICAL or FLAT; other detectors are not "
            "supported, nor approximated."
        )
    if tags.text(header, tags.SPOT_MODE, file) not in ("", *_SPOT_MODES):
        raise InconsistentError(
            f"{file}: {tags.SPOT_MODE} has to be one of {', '.join(_SPOT_MODES)}."
        )
    if tags.present(header, tags.SPECTRA) and tags.number(header, tags.SPECTRA, file) != 1:
        raise InconsistentError(
            f"{file}: {tags.SPECTRA} is not 1; scans of several spectra are not supported."
        )
    if tags.text(header, tags.PROJECTION_GEOMETRY, file) not in ("", "FANBEAM"):
        raise InconsistentError(f"{file}: {tags.PROJECTION_GEOMETRY} has to be FANBEAM.")
    if tags.text(header, tags.LOGARITHM, file) not in ("", "YES"):
        raise InconsistentError(
            f"{file}: {tags.LOGARITHM} says that the values are counts; take their logarithm."
        )
    if int(header.get("NumberOfFrames", 1) or 1) != 1:
        raise UnreadableError(f"{file}: several views in one file are not supported.")


def _detector(header: Dataset, file: Path) -> Detector:
    number = tags.number
    rows = int(number(header, tags.ROWS, file))
    columns = int(number(header, tags.COLUMNS, file))
    central = tags.numbers(header, tags.CENTRAL_ELEMENT, file, 2)
    return Detector(
        rows=rows,
        columns=columns,
        row_spacing=number(header, tags.ROW_SPACING, file),
        column_spacing=number(header, tags.COLUMN_SPACING, file),
        shape=tags.text(header, tags.SHAPE, file),
        source_to_detector=number(header, tags.SOURCE_TO_DETECTOR, file),
        central_column=float(central[0]),
        central_row=float(central[1]),
        spot_mode=tags.text(header, tags.SPOT_MODE, file),
        stored=_stored(header, rows, columns, file),
        signed=int(header.get("PixelRepresentation", 0) or 0) == 1,
        maker=str(header.get("Manufacturer", "")).upper().split(" ")[0][:16],
        position=str(header.get("PatientPosition", "") or "").strip().upper()[:16],
        water=_water(header, file),
    )


def _stored(header: Dataset, rows: int, columns: int, file: Path) -> tuple[int, int]:
    """Shape of the pixel matrix, which may be the detector's or its transpose."""
    try:
        stored = int(header.Rows), int(header.Columns)
        bits, samples = int(header.BitsAllocated), int(header.get("SamplesPerPixel", 1) or 1)
    except BROKEN:
        raise UnreadableError(f"{file}: Rows, Columns or BitsAllocated is missing.") from None
    if bits != 16 or samples != 1:
        raise UnreadableError(f"{file}: projections have to be stored in 16 bits.")
    if stored not in ((rows, columns), (columns, rows)):
        raise InconsistentError(
            f"{file}: {stored[0]} x {stored[1]} pixels do not fit a detector of {rows} rows and "
            f"{columns} columns ({tags.ROWS}, {tags.COLUMNS})."
        )
    if 2 * rows * columns > file.stat().st_size:
        raise UnreadableError(
            f"{file} is truncated: {2 * rows * columns} bytes of pixels are declared, the file "
            f"has {file.stat().st_size}."
        )
    return stored


def _scale(header: Dataset, file: Path) -> tuple[float, float]:
    slope = tags.decimal(header, _SLOPE, file)
    intercept = tags.decimal(header, _INTERCEPT, file)
    if slope is None or intercept is None or slope == 0:
        raise InconsistentError(
            f"{file}: RescaleSlope or RescaleIntercept is missing, or the slope is 0; without "
            "them pixels are no line integrals."
        )
    return slope, intercept


def _instance(header: Dataset, file: Path) -> int:
    instance = tags.decimal(header, _INSTANCE, file)
    if instance is None:
        raise UnreadableError(f"{file}: {_INSTANCE} is missing, so views cannot be ordered.")
    return int(instance)


def _water(header: Dataset, file: Path) -> float | None:
    for attribute in (tags.WATER, tags.OLD_WATER):
        value = tags.decimal(header, attribute, file)
        if value is not None:
            low, high = _WATER_PER_MM
            if not low <= value <= high:
                raise InconsistentError(
                    f"{file}: {attribute} is {value:g}, no attenuation of water in 1/mm."
                )
            return value
    return None
