"""Which DICOM attributes travel from a donor to a derived series, and how text is made legal."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pydicom.uid import generate_uid

from medrecon.study import Identity

PATIENT_AND_STUDY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Copied as they are: a derived series belongs to the patient and study of its source."""

SERIES = ("PatientPosition", "BodyPartExamined", "Laterality")
"""Copied where the donor has them."""

CT_SCAN = ("KVP",)
MR_SCAN = (
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "EchoTime",
    "EchoTrainLength",
    "RepetitionTime",
    "InversionTime",
    "FlipAngle",
    "MagneticFieldStrength",
)
EQUIPMENT = ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber")
"""The scanner; it becomes an item of ContributingEquipmentSequence."""

KEYWORDS = PATIENT_AND_STUDY + SERIES + CT_SCAN + MR_SCAN + EQUIPMENT

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", re.ASCII)
# Longest text of a value representation, characters (PS3.5 table 6.2-1).
_LONGEST = {"SH": 16, "LO": 64, "CS": 16, "PN": 64, "ST": 1024, "LT": 10240, "AS": 4, "DS": 16}


def legal_text(text: str, vr: str, *, several: bool = False) -> str:
    """Make text fit a value representation: no control characters, no separator, not too long.

    Parameters
    ----------
    text
        Any text.
    vr
        DICOM value representation, e.g. ``"LO"``.
    several
        Whether a backslash may separate several values.
    """
    if several and "\\" in text:
        return "\\".join(legal_text(part, vr) for part in text.split("\\"))
    kept = "".join(c if c.isprintable() else " " for c in text.replace("\\", "/"))
    return kept.strip()[: _LONGEST.get(vr, 64)].strip()


def with_uids(identity: Identity, seed: str) -> Identity:
    """Complete an identity with a study and a frame of reference, where it has none.

    Parameters
    ----------
    identity
        May lack ``StudyInstanceUID`` and ``frame_of_reference_uid``.
    seed
        What identifies the scan, e.g. the SHA-256 of its file. Equal seeds give equal UIDs, so all
        results of one scan share a study and a frame, and a second run makes the same ones.
    """
    attributes: Mapping[str, str] = identity.attributes
    if not attributes.get("StudyInstanceUID"):
        attributes = MappingProxyType(
            {**attributes, "StudyInstanceUID": derived_uid(seed, "study")}
        )
    frame = identity.frame_of_reference_uid or derived_uid(seed, "frame")
    return replace(identity, attributes=attributes, frame_of_reference_uid=frame)


def derived_uid(*parts: str) -> str:
    """UID that is a function of its parts alone."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return str(generate_uid(entropy_srcs=[digest]))


def is_uid(text: str) -> bool:
    """Whether the text is a legal DICOM UID."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None
