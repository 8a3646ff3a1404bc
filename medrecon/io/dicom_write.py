"""A reconstruction as a DICOM series: derived, marked, and every slice where it belongs.

CT Image Storage or MR Image Storage, one file per slice.  ImagePositionPatient is the centre of the
first voxel; slices of a left-handed grid are right because every slice carries its own position.
The same volume and texts make the same bytes and UIDs; anything else makes other UIDs.
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import highdicom as hd
import numpy as np
import torch
from numpy.typing import NDArray
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import DSfloat, validate_value

import medrecon
from medrecon.errors import InconsistentError, OutputError
from medrecon.io.dicom_attributes import (
    CT_SCAN,
    EQUIPMENT,
    MR_SCAN,
    PATIENT_AND_STUDY,
    SERIES,
    derived_uid,
    is_uid,
    legal_text,
)
from medrecon.study import Identity
from medrecon.volume import Unit, Volume

MANUFACTURER = "OpenSource medrecon"
"""Starts with no vendor's prefix (SI GE HI ME PH TO CA CP UI BR MR HY): converters match on it."""

_MR_PEAK = 32767  # largest stored MR value; still positive for viewers that read it as signed
_PHASE_SLOPE = math.pi / 32767  # rad per step: the same for every phase series
_WITH_PRIOR = "(AI) NOT FOR DIAGNOSTIC USE"
_CLASSICAL = "RESEARCH USE"
_KINDS = {Unit.HU: "AXIAL", Unit.RADIAN: "P"}
_UNPAIRED = re.compile(
    "ABDOMEN|ABDOMENPELVIS|BRAIN|CHEST|CHESTABDOMEN|CHESTABDPELVIS|CSPINE|HEAD|HEADNECK|HEART|JAW|"
    "LIVER|LSPINE|NECK|PELVIS|SKULL|SPINE|SSPINE|TSPINE|WHOLEBODY"
)


@dataclass(frozen=True, kw_only=True)
class DerivedSeries:
    """What a derived series says about itself.

    Parameters
    ----------
    modality
        ``"CT"`` (voxels in HU) or ``"MR"``.
    description
        Name of the method, e.g. ``"medrecon DDS"``; the research mark is appended to it.
    uses_prior
        Whether a learned prior took part. Chooses the mark: "(AI) NOT FOR DIAGNOSTIC USE", or
        "RESEARCH USE" for classical methods.
    derivation
        How the image was made: operator, prior, weights' hash, seed, steps; up to 1024 characters.
    number
        SeriesNumber; from 9000 on, beyond what scanners use.
    protocol_name
        Name of the protocol.
    algorithm
        CT only: short name written as ConvolutionKernel, up to 16 characters.
    window
        Lowest and highest shown value, in the volume's unit; ``None``: from -160 to 240 HU in CT,
        from 0 to the 99.5th percentile in MR, the whole turn for phase.
    """

    modality: Literal["CT", "MR"]
    description: str
    uses_prior: bool
    derivation: str = ""
    number: int = 9001
    protocol_name: str = ""
    algorithm: str = ""
    window: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Stored:
    """Integer pixels and the line that turns them into values: value = slope * stored + 0."""

    pixels: NDArray[np.int16] | NDArray[np.uint16]
    slope: float


def write_dicom_series(
    volume: Volume, folder: Path, *, series: DerivedSeries, identity: Identity
) -> list[Path]:
    """Write one file per slice, ``000001.dcm`` onwards, in the order of the z index.

    CT: int16 HU, slope 1 (rounding error at most 0.5 HU).  MR: 16-bit integers with one factor for
    the whole series, which stands in RealWorldValueMappingSequence (the MR module has no rescale
    slope): value = slope * stored.  Phase (a volume in rad): int16 from -32767 to 32767 for -pi to
    pi, image type P, with the factor in RescaleSlope too, as scanners write it for phase, and with
    the unit rad, so that no reader takes the integers for an angle.

    Parameters
    ----------
    volume
        Real voxels ``(z, y, x)``; CT in HU.
    folder
        Where to write; made if missing. For outputs that appear whole or not at all make it inside
        an :class:`medrecon.io.outputs.OutputFolder`.
    series
        What the series says about itself.
    identity
        Patient, study and frame of reference; what is missing stays empty or becomes new.

    Returns
    -------
    list of pathlib.Path
        The files, one per slice.

    Raises
    ------
    InconsistentError
        If unit and modality do not fit, a voxel is not finite, or a UID is not legal.
    OutputError
        If a file cannot be written.
    """
    _check(volume, series, identity)
    stored = _STORE[volume.unit](volume) if volume.unit in _STORE else _scaled(volume)
    shared = _shared(volume, series, identity, stored)
    digest = _digest(shared, stored.pixels, volume)
    shared.SeriesInstanceUID = derived_uid(digest, "series")
    if "StudyInstanceUID" not in shared:
        shared.StudyInstanceUID = derived_uid(digest, "study")
    shared.FrameOfReferenceUID = identity.frame_of_reference_uid or derived_uid(digest, "frame")
    try:
        folder.mkdir(exist_ok=True)
        return [
            _write_slice(shared, stored.pixels[z], volume, z, digest, folder)
            for z in range(volume.grid.shape[0])
        ]
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.") from error


def _check(volume: Volume, series: DerivedSeries, identity: Identity) -> None:
    if (series.modality == "CT") != (volume.unit is Unit.HU):
        raise InconsistentError(
            f"A {series.modality} series cannot hold voxels in {volume.unit.value}; "
            "CT is written in HU, MR in arbitrary unit or, its phase, in rad."
        )
    if volume.data.is_complex() or not bool(torch.isfinite(volume.data).all()):
        raise InconsistentError(
            "DICOM needs real, finite voxels; some are complex, NaN or infinite."
        )
    if max(volume.grid.shape[1:]) > 65535:
        raise InconsistentError(f"DICOM rows and columns end at 65535, got {volume.grid.shape}.")
    for name, uid in (
        ("StudyInstanceUID", identity.attributes.get("StudyInstanceUID", "")),
        ("FrameOfReferenceUID", identity.frame_of_reference_uid),
    ):
        if uid and not is_uid(uid):
            raise InconsistentError(f"The identity's {name} is not a legal DICOM UID.")


def _hounsfield(volume: Volume) -> _Stored:
    """HU as they are, rounded; the range of int16 is far wider than HU."""
    values = np.rint(volume.data.detach().cpu().double().numpy())
    outside = int(np.count_nonzero(np.abs(values) > 32767))
    if outside:
        warnings.warn(f"{outside} voxels beyond 32767 HU were clipped in DICOM.", stacklevel=3)
    return _Stored(np.clip(values, -32767, 32767).astype("<i2"), 1.0)


def _scaled(volume: Volume) -> _Stored:
    values = volume.data.detach().cpu().double().numpy()
    slope = float(np.abs(values).max()) / _MR_PEAK or 1.0
    kind = "<i2" if values.min() < 0 else "<u2"
    return _Stored(np.rint(values / slope).astype(kind), slope)


def _angles(volume: Volume) -> _Stored:
    """Phase in even steps over the whole turn; angles beyond it are wrapped."""
    values = volume.data.detach().cpu().double().numpy()
    wrapped = np.angle(np.exp(1j * values))
    return _Stored(np.rint(wrapped / _PHASE_SLOPE).astype("<i2"), _PHASE_SLOPE)


_STORE = {Unit.HU: _hounsfield, Unit.RADIAN: _angles}


def _shared(volume: Volume, series: DerivedSeries, identity: Identity, stored: _Stored) -> Dataset:
    """Everything but what differs from slice to slice and the UIDs."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = CTImageStorage if series.modality == "CT" else MRImageStorage
    _add_patient_and_study(ds, identity)
    _add_series(ds, series, identity)
    ds.ImageType = ["DERIVED", "SECONDARY", _KINDS.get(volume.unit, "M")]
    _add_equipment(ds, series, identity)
    _add_geometry(ds, volume)
    _add_pixel_description(ds, stored.pixels)
    if series.modality == "CT":
        _add_ct(ds, series, identity)
    else:
        _add_mr(ds, volume, stored, identity)
    _add_window(ds, volume, series, stored)
    return ds


def _add_patient_and_study(ds: Dataset, identity: Identity) -> None:
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    ):
        setattr(ds, keyword, "")  # type 2: present, empty where unknown
    _copy(ds, identity, PATIENT_AND_STUDY)


def _add_series(ds: Dataset, series: DerivedSeries, identity: Identity) -> None:
    mark = _WITH_PRIOR if series.uses_prior else _CLASSICAL
    name = legal_text(series.description, "LO")[: 63 - len(mark)].strip()
    ds.Modality = series.modality
    ds.SeriesNumber = series.number
    ds.SeriesDescription = f"{name} {mark}".strip()
    if series.protocol_name:
        ds.ProtocolName = legal_text(series.protocol_name, "LO")
    ds.PatientPosition = ""  # orientation is told by ImageOrientationPatient, never guessed here
    ds.PositionReferenceIndicator = ""
    _copy(ds, identity, SERIES)
    if "Laterality" not in ds and not _UNPAIRED.fullmatch(ds.get("BodyPartExamined", "")):
        ds.Laterality = ""  # required, though it may be empty, unless the part is known as single
    ds.ContentQualification = "RESEARCH"
    if identity.simulated:
        ds.SyntheticData = "YES"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    if series.derivation:
        ds.DerivationDescription = legal_text(series.derivation, "ST")


def _add_equipment(ds: Dataset, series: DerivedSeries, identity: Identity) -> None:
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = "medrecon"
    ds.SoftwareVersions = medrecon.__version__
    ours = hd.ContributingEquipment(
        MANUFACTURER,
        codes.DCM.ProcessingEquipment,
        manufacturer_model_name="medrecon",
        software_versions=medrecon.__version__,
        contribution_description=legal_text(series.derivation, "ST") or None,
    )
    ds.ContributingEquipmentSequence = [ours]
    if identity.attributes.get("Manufacturer"):
        scanner = Dataset()
        _copy(scanner, identity, EQUIPMENT)
        scanner.PurposeOfReferenceCodeSequence = [
            hd.sr.CodedConcept.from_code(codes.DCM.AcquisitionEquipment)
        ]
        ds.ContributingEquipmentSequence = [scanner, ours]


def _add_geometry(ds: Dataset, volume: Volume) -> None:
    _, down, along = volume.grid.directions
    dz, dy, dx = volume.grid.spacing
    ds.ImageOrientationPatient = [_decimal(v) for v in (*along, *down)]
    ds.PixelSpacing = [_decimal(dy), _decimal(dx)]  # between rows, then between columns
    ds.SliceThickness = _decimal(dz)
    ds.SpacingBetweenSlices = _decimal(dz)


def _add_pixel_description(ds: Dataset, pixels: NDArray[np.generic]) -> None:
    _, ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")


def _add_ct(ds: Dataset, series: DerivedSeries, identity: Identity) -> None:
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
    ds.KVP, ds.AcquisitionNumber = None, None
    if series.algorithm:
        ds.ConvolutionKernel = legal_text(series.algorithm, "SH")
    _copy(ds, identity, CT_SCAN)


def _add_mr(ds: Dataset, volume: Volume, stored: _Stored, identity: Identity) -> None:
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "RM", "NONE", ""
    ds.MRAcquisitionType = ""
    ds.EchoTime, ds.EchoTrainLength, ds.RepetitionTime = None, None, None
    ds.AcquisitionNumber = None
    _copy(ds, identity, MR_SCAN)
    mapping = Dataset()
    mapping.RealWorldValueFirstValueMapped = int(stored.pixels.min())
    mapping.RealWorldValueLastValueMapped = int(stored.pixels.max())
    mapping.RealWorldValueIntercept = 0.0
    mapping.RealWorldValueSlope = stored.slope
    mapping.LUTExplanation = "value as reconstructed"
    mapping.LUTLabel = "medrecon"
    unit = codes.UCUM.Radian if volume.unit is Unit.RADIAN else codes.UCUM.NoUnits
    mapping.MeasurementUnitsCodeSequence = [hd.sr.CodedConcept.from_code(unit)]
    ds.RealWorldValueMappingSequence = [mapping]
    if volume.unit is Unit.RADIAN:
        ds.RescaleIntercept, ds.RescaleSlope = 0, _decimal(stored.slope)
        ds.RescaleType = "rad"


def _add_window(ds: Dataset, volume: Volume, series: DerivedSeries, stored: _Stored) -> None:
    if series.window is not None:
        low, high = series.window
    elif series.modality == "CT":
        low, high = -160.0, 240.0
    elif volume.unit is Unit.RADIAN:
        low, high = -math.pi, math.pi
    else:
        low, high = 0.0, float(np.percentile(stored.pixels, 99.5)) * stored.slope
    # windows are meant in rescaled values, which magnitudes have none of
    step = 1.0 if "RescaleSlope" in ds else stored.slope
    ds.WindowCenter = _decimal((low + high) / 2 / step)
    ds.WindowWidth = _decimal(max((high - low) / step, 1.0))


def _write_slice(
    shared: Dataset,
    pixels: NDArray[np.generic],
    volume: Volume,
    z: int,
    digest: str,
    folder: Path,
) -> Path:
    ds = Dataset()
    ds.update(shared)
    ds.InstanceNumber = z + 1
    ds.SOPInstanceUID = derived_uid(digest, "instance", str(z))
    position = volume.grid.affine @ [z, 0, 0, 1]
    ds.ImagePositionPatient = [_decimal(v) for v in position[:3]]
    ds.add_new("PixelData", "OW", pixels.tobytes())
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{z + 1:06d}.dcm"
    ds.preamble = bytes(128)  # a preamble can make the file a program as well
    ds.save_as(path, enforce_file_format=True)
    return path


def _digest(shared: Dataset, pixels: NDArray[np.generic], volume: Volume) -> str:
    """SHA-256 of the whole content, so that another content never gets a known UID."""
    content = hashlib.sha256(np.ascontiguousarray(pixels).tobytes())
    content.update(repr(volume.grid).encode())
    content.update(shared.to_json().encode())
    return content.hexdigest()


def _copy(ds: Dataset, identity: Identity, keywords: tuple[str, ...]) -> None:
    for keyword in keywords:
        value = _legal(keyword, identity.attributes.get(keyword, ""))
        if value:
            setattr(ds, keyword, value)


def _legal(keyword: str, value: str) -> str | DSfloat:
    """Give back what a copied value says as far as its representation allows, else nothing."""
    vr = dictionary_VR(keyword)
    text = legal_text(value, vr, several=vr != "DS")
    if vr == "CS":
        text = text.upper()
    try:
        if vr == "DS":
            return _decimal(float(value)) if value else ""
        for part in text.split("\\"):
            validate_value(vr, part, RAISE)
    except ValueError:
        return ""
    return text


def _decimal(value: float) -> DSfloat:
    """Decimal string of at most 16 characters, the precision DICOM has."""
    return DSfloat(float(value) + 0.0, auto_format=True)
