"""A DICOM series as a volume: one stack of single-frame CT or MR slices.

Messages name tags and counts, never values that could identify a patient; pydicom's own warnings
quote values and are therefore silenced here.
"""

from __future__ import annotations

import logging
import math
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pydicom
import torch
from numpy.typing import NDArray
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medrecon.errors import InconsistentError, MedreconError, ResourceError, UnreadableError
from medrecon.io.dicom_attributes import KEYWORDS, is_uid
from medrecon.io.dicom_geometry import SlicePlane, stack_slices
from medrecon.study import Identity
from medrecon.volume import Unit, Volume

MAX_BYTES = 16 * 2**30
"""Default cap of a series in memory, bytes."""
_MAX_FILES = 50_000
_MAX_COMPRESSION = 1000
_AIR_HU = -1000.0
BROKEN = (
    AttributeError,
    BytesLengthException,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom raises on damaged files."""


def read_dicom_series(
    path: Path, *, series_number: int | None = None, max_bytes: int = MAX_BYTES
) -> tuple[Volume, Identity]:
    """Read one CT or MR series.

    CT becomes HU by RescaleSlope and RescaleIntercept (pixels marked as padding become air); MR
    becomes arbitrary units by RealWorldValueMapping or RescaleSlope where present.

    Parameters
    ----------
    path
        A folder (searched with its subfolders) or one file.
    series_number
        Which series, where the folder holds several.
    max_bytes
        Refuse series that need more memory, bytes.

    Returns
    -------
    volume : Volume
        float32 ``(z, y, x)``; z grows along the slices' normal, whatever the order of the files.
    identity : Identity
        Patient, study and frame of reference, to be the donor of a derived series.

    Raises
    ------
    UnreadableError
        If there is no DICOM image, a file is damaged, or its encoding is not supported.
    InconsistentError
        If there are several series, or the slices are no regular stack (missing, doubled, tilted,
        unequally spaced), or a needed attribute is missing or impossible.
    ResourceError
        If the series is too large.
    """
    try:
        with discreet():
            volume, identity, derived = _read(path, series_number, max_bytes)
    except MedreconError:
        raise
    except BROKEN:  # pydicom converts lazily: damage may show wherever an attribute is looked at
        raise UnreadableError(
            f"{path}: a DICOM attribute is damaged; copy the series again from its source."
        ) from None
    if derived:
        warnings.warn(
            f"{path}: the series is itself derived or synthetic; results inherit that.",
            stacklevel=2,
        )
    return volume, identity


def _read(path: Path, series_number: int | None, max_bytes: int) -> tuple[Volume, Identity, bool]:
    where = f"{path}"
    chosen = _choose(_headers(path), series_number, path)
    modality = _modality(chosen, where)
    first = next(iter(chosen.values()))
    planes = [_plane(header, file) for file, header in chosen.items()]
    grid, order = stack_slices(planes, where)
    for file, plane in zip(chosen, planes, strict=True):
        _require_room(file, plane.shape)
    needed = 4 * math.prod(grid.shape)
    if needed > max_bytes:
        raise ResourceError(
            f"{where}: the series needs {needed / 2**30:.1f} GiB, more than the "
            f"{max_bytes / 2**30:.1f} GiB allowed."
        )
    files = list(chosen)
    data = np.empty(grid.shape, np.float32)
    for z, index in enumerate(order):
        data[z] = _values(files[index], planes[index].shape, modality)
    unit = Unit.HU if modality == "CT" else Unit.ARBITRARY
    volume = Volume(torch.from_numpy(data), grid, unit)
    return volume, identity_of(first, where), _is_derived(first)


@contextmanager
def discreet() -> Iterator[None]:
    """Keep pydicom from quoting values (a patient's name) in warnings and in the log."""
    log = logging.getLogger("pydicom")
    before = log.disabled
    log.disabled = True
    try:
        with warnings.catch_warnings(action="ignore"), disable_value_validation():
            yield
    finally:
        log.disabled = before


def is_dicom(path: Path) -> bool:
    """Whether a file is marked as DICOM (``DICM`` at byte 128)."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _headers(path: Path) -> dict[Path, Dataset]:
    """Headers of all image files; other files in a folder are passed over."""
    if not path.exists():
        raise UnreadableError(f"{path} does not exist.")
    if path.is_file():
        if not is_dicom(path):
            raise UnreadableError(
                f"{path} is not a DICOM file (no DICM mark); if it is raw pixels or an old file "
                "without a header, convert it first."
            )
        return {path: read_header(path)}
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    if len(files) > _MAX_FILES:
        raise ResourceError(f"{path} holds {len(files)} files; give the folder of one series.")
    headers = {file: read_header(file) for file in files if is_dicom(file)}
    images = {file: header for file, header in headers.items() if "Rows" in header}
    if not images:
        raise UnreadableError(
            f"{path} holds no DICOM image ({len(files)} files, {len(headers)} of them DICOM)."
        )
    return images


def read_header(file: Path) -> Dataset:
    """Everything of a DICOM file but its pixels.

    Raises
    ------
    UnreadableError
        If the file is damaged, or deflated.
    """
    try:
        meta = pydicom.filereader.read_file_meta_info(file)
        syntax = meta.get("TransferSyntaxUID")
        if syntax is None:
            raise UnreadableError(f"{file}: TransferSyntaxUID is missing.")
        if syntax == DeflatedExplicitVRLittleEndian:
            # pydicom would inflate it whole: 3 MB on disk can be 3 GB in memory.
            raise UnreadableError(
                f"{file}: deflated DICOM is not supported; convert it (dcmconv +te)."
            )
        return pydicom.dcmread(file, stop_before_pixels=True)
    except UnreadableError:
        raise
    except (InvalidDicomError, *BROKEN):
        raise UnreadableError(
            f"{file}: the DICOM header is damaged or truncated; copy it again from its source."
        ) from None


def _choose(
    headers: dict[Path, Dataset], series_number: int | None, path: Path
) -> dict[Path, Dataset]:
    keys = {
        file: (_integer(header, "SeriesNumber"), str(header.get("SeriesInstanceUID", "")))
        for file, header in headers.items()
    }
    wanted = [key for key in keys.values() if series_number is None or key[0] == series_number]
    counts = Counter(wanted)
    if len(counts) == 1:
        (key,) = counts
        return {file: header for file, header in headers.items() if keys[file] == key}
    listed = "; ".join(
        f"series {number}: {count} images"
        for (number, _), count in sorted(Counter(keys.values()).items())
    )
    if not counts:
        raise InconsistentError(f"{path} has no series number {series_number}; it holds {listed}.")
    raise InconsistentError(f"{path} holds several series ({listed}); choose one by its number.")


def _modality(headers: dict[Path, Dataset], where: str) -> str:
    found = {str(header.get("Modality", "")) for header in headers.values()}
    if len(found) != 1 or not found <= {"CT", "MR"}:
        shown = ", ".join(ascii(m[:16]) for m in sorted(found)) or "none"
        raise InconsistentError(f"{where}: expected one modality, CT or MR, got {shown}.")
    return found.pop()


def _plane(header: Dataset, file: Path) -> SlicePlane:
    if _integer(header, "NumberOfFrames", 1) != 1:
        raise UnreadableError(
            f"{file}: multi-frame DICOM is not supported; convert it to single frames or NIfTI."
        )
    if _integer(header, "SamplesPerPixel", 1) != 1:
        raise InconsistentError(f"{file}: a colour image, where grey values are needed.")
    orientation = np.array(_numbers(header, "ImageOrientationPatient", 6, file))
    row, column = _numbers(header, "PixelSpacing", 2, file)
    if not (row > 0 and column > 0):
        raise InconsistentError(
            f"{file}: PixelSpacing is {row} x {column} mm; it must be positive."
        )
    return SlicePlane(
        position=np.array(_numbers(header, "ImagePositionPatient", 3, file)),
        along=orientation[:3],
        down=orientation[3:],
        spacing=(row, column),
        shape=(_integer(header, "Rows"), _integer(header, "Columns")),
        thickness=_thickness(header),
    )


def _thickness(header: Dataset) -> float | None:
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        try:
            value = float(header.get(keyword) or 0)
        except (TypeError, ValueError):
            continue
        if math.isfinite(value) and value > 0:
            return value
    return None


def _values(file: Path, shape: tuple[int, int], modality: str) -> NDArray[np.float32]:
    try:
        ds = pydicom.dcmread(file)
        _require_pixels(ds, file)
        pixels = ds.pixel_array
    except UnreadableError:
        raise
    except (InvalidDicomError, *BROKEN):
        raise UnreadableError(
            f"{file}: the pixels are damaged, or their encoding is not supported (JPEG 2000 and "
            "JPEG-LS need pylibjpeg)."
        ) from None
    if pixels.shape != shape:
        raise UnreadableError(f"{file}: pixels of shape {pixels.shape}, the header says {shape}.")
    slope, intercept = _scale(ds, modality, file)
    values: NDArray[np.float32] = (pixels * np.float64(slope) + intercept).astype(np.float32)
    if modality == "CT" and "PixelPaddingValue" in ds:
        padding = pixels == ds.PixelPaddingValue
        values[padding & (values < _AIR_HU)] = _AIR_HU
    return values


def _require_room(file: Path, shape: tuple[int, int]) -> None:
    rows, columns = shape
    if rows < 1 or columns < 1:
        raise InconsistentError(f"{file}: Rows and Columns must be positive, got {shape}.")
    stored = file.stat().st_size
    if rows * columns > _MAX_COMPRESSION * stored:
        raise UnreadableError(
            f"{file} declares {rows} x {columns} pixels in a file of {stored} bytes; "
            "it is truncated or made up."
        )


def _require_pixels(ds: Dataset, file: Path) -> None:
    if "PixelData" not in ds:
        raise UnreadableError(f"{file}: PixelData is missing.")
    if not ds.file_meta.TransferSyntaxUID.is_compressed:
        expected = int(ds.Rows) * int(ds.Columns) * int(ds.BitsAllocated) // 8
        if len(ds.PixelData) < expected:
            raise UnreadableError(
                f"{file} is truncated: {expected} bytes of pixels are declared, "
                f"{len(ds.PixelData)} are there."
            )


def _scale(ds: Dataset, modality: str, file: Path) -> tuple[float, float]:
    """Slope and intercept from stored integers to values."""
    if modality == "CT":
        if str(ds.get("RescaleType", "HU") or "HU") not in ("HU", "US"):
            raise InconsistentError(f"{file}: RescaleType is not HU.")
        (slope,) = _numbers(ds, "RescaleSlope", 1, file)
        (intercept,) = _numbers(ds, "RescaleIntercept", 1, file)
    elif "RealWorldValueSlope" in (ds.get("RealWorldValueMappingSequence") or [{}])[0]:
        mapping = ds.RealWorldValueMappingSequence[0]
        (slope,) = _numbers(mapping, "RealWorldValueSlope", 1, file)
        (intercept,) = _numbers(mapping, "RealWorldValueIntercept", 1, file)
    elif "RescaleSlope" in ds:
        (slope,) = _numbers(ds, "RescaleSlope", 1, file)
        (intercept,) = _numbers(ds, "RescaleIntercept", 1, file)
    else:
        return 1.0, 0.0
    if slope == 0:
        raise InconsistentError(f"{file}: the rescale slope is 0.")
    return slope, intercept


def _numbers(ds: Dataset, keyword: str, count: int, file: Path) -> list[float]:
    """Return exactly ``count`` finite numbers of an attribute; its name is told, not its value."""
    try:
        value = ds[keyword].value
        numbers = [float(v) for v in (value if count > 1 else [value])]
    except (KeyError, *BROKEN):
        numbers = []
    if len(numbers) != count or not all(math.isfinite(n) for n in numbers):
        raise InconsistentError(
            f"{file}: {keyword} is missing or is not {count} finite number(s); it is needed."
        )
    return numbers


def _integer(header: Dataset, keyword: str, default: int = 0) -> int:
    try:
        return int(header.get(keyword, default) or default)
    except (TypeError, ValueError):
        return default


def identity_of(header: Dataset, where: str) -> Identity:
    """Patient, study and frame of reference of a header; ``where`` it came from, for the error.

    Raises
    ------
    UnreadableError
        If a UID is illegal.
    """
    attributes = {}
    for keyword in KEYWORDS:
        try:
            value = header.get(keyword)
        except BROKEN:
            continue
        if value is None or value == "":
            continue
        several = isinstance(value, pydicom.multival.MultiValue)
        attributes[keyword] = "\\".join(map(str, value)) if several else str(value)
    frame = str(header.get("FrameOfReferenceUID", "") or "")
    for name, uid in (
        ("FrameOfReferenceUID", frame),
        ("StudyInstanceUID", attributes.get("StudyInstanceUID", "")),
    ):
        if uid and not is_uid(uid):
            raise UnreadableError(f"{where}: {name} is not a legal DICOM UID.")
    return Identity(
        attributes=MappingProxyType(attributes),
        frame_of_reference_uid=frame,
        simulated=str(header.get("SyntheticData", "")) == "YES",
    )


def _is_derived(header: Dataset) -> bool:
    kind = header.get("ImageType")
    derived = isinstance(kind, pydicom.multival.MultiValue) and kind[0] == "DERIVED"
    return derived or str(header.get("SyntheticData", "")) == "YES"
