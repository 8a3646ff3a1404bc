"""Patient, study and scanner in an MRD header under DICOM's keywords, read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ismrmrd import xsd
from xsdata.models.datatype import XmlDate, XmlTime

from medrecon.io.mrd_header import SIMULATED, text_of, user_parameter
from medrecon.study import Identity

_SUBJECT = {
    "patientName": "PatientName",
    "patientID": "PatientID",
    "patientBirthdate": "PatientBirthDate",
    "patientGender": "PatientSex",
    "patientWeight_kg": "PatientWeight",
}
_STUDY = {
    "studyInstanceUID": "StudyInstanceUID",
    "studyDate": "StudyDate",
    "studyTime": "StudyTime",
    "studyID": "StudyID",
    "studyDescription": "StudyDescription",
    "accessionNumber": "AccessionNumber",
    "referringPhysicianName": "ReferringPhysicianName",
    "bodyPartExamined": "BodyPartExamined",
}
_MEASUREMENT = {"patientPosition": "PatientPosition"}
_SYSTEM = {
    "systemVendor": "Manufacturer",
    "systemModel": "ManufacturerModelName",
    "deviceSerialNumber": "DeviceSerialNumber",
    "systemFieldStrength_T": "MagneticFieldStrength",
    "institutionName": "InstitutionName",
    "stationName": "StationName",
}


def identity_of(header: Any) -> Identity:
    """Collect what the header says of patient and study, under DICOM's keywords."""
    found: dict[str, str] = {}
    measurement = header.measurementInformation
    for part, names in (
        (header.subjectInformation, _SUBJECT),
        (header.studyInformation, _STUDY),
        (measurement, _MEASUREMENT),
        (header.acquisitionSystemInformation, _SYSTEM),
    ):
        for name, keyword in names.items():
            text = text_of(getattr(part, name, None))
            if text:
                found[keyword] = text
    for keyword in ("PatientBirthDate", "StudyDate"):
        if keyword in found:
            found[keyword] = found[keyword].replace("-", "")
    if "StudyTime" in found:
        found["StudyTime"] = found["StudyTime"].replace(":", "").partition("+")[0].rstrip("Z")
    return Identity(
        attributes=MappingProxyType(found),
        frame_of_reference_uid=text_of(getattr(measurement, "frameOfReferenceUID", None)),
        simulated=user_parameter(header, SIMULATED) == 1.0,
    )


def put_identity(header: xsd.ismrmrdHeader, identity: Identity) -> None:
    """Write what the standard has a place for; what it cannot hold is left out."""
    header.subjectInformation = xsd.subjectInformationType(**_values(identity, _SUBJECT))
    header.studyInformation = xsd.studyInformationType(**_values(identity, _STUDY))
    system = _values(identity, _SYSTEM)
    if system:
        header.acquisitionSystemInformation = xsd.acquisitionSystemInformationType(**system)
    position = identity.attributes.get("PatientPosition", "")
    if not position and not identity.frame_of_reference_uid:
        return  # the standard wants a position here, and none is known
    known = {position.value for position in xsd.patientPositionType}
    header.measurementInformation = xsd.measurementInformationType(
        patientPosition=xsd.patientPositionType(position if position in known else "HFS"),
        frameOfReferenceUID=identity.frame_of_reference_uid or None,
    )


def _values(identity: Identity, names: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, keyword in names.items():
        text = identity.attributes.get(keyword)
        if text:
            try:
                found[name] = _KINDS.get(name, str)(text)
            except ValueError:
                continue  # not a number, a date or a sex as the standard writes it
    return found


def _date(text: str) -> XmlDate:
    """``YYYYMMDD``."""
    if len(text) != 8:
        raise ValueError(text)
    return XmlDate(int(text[:4]), int(text[4:6]), int(text[6:]))


def _time(text: str) -> XmlTime:
    """``HHMMSS``, with or without a fraction."""
    whole, _, fraction = text.partition(".")
    if len(whole) != 6:
        raise ValueError(text)
    nanoseconds = int(fraction.ljust(9, "0")[:9]) if fraction else 0
    return XmlTime(int(whole[:2]), int(whole[2:4]), int(whole[4:]), nanoseconds)


def _sex(text: str) -> str:
    if text not in ("M", "F", "O"):
        raise ValueError(text)
    return text


_KINDS: Mapping[str, Callable[[str], Any]] = {
    "patientBirthdate": _date,
    "studyDate": _date,
    "studyTime": _time,
    "patientGender": _sex,
    "patientWeight_kg": float,
    "systemFieldStrength_T": float,
    "accessionNumber": int,
}
