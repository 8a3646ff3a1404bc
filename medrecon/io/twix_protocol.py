"""What the protocol of a twix file says: encoding, readout gradient, times, identity.

Names are those of the protocol: ``MeasYaps`` is what the sequence was told, ``Meas`` what image
reconstruction is told, ``Dicom`` what goes into image headers. Anything may be missing or empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from medrecon.raw.scan import Trapezoid
from medrecon.study import Identity

Header = Mapping[str, Any]

_TRAPEZOIDAL = 2  # of alRegridMode; 1 is none, 4 sinusoidal
_INVERTING = (1, 2)  # of ucInversion: slice-selective or not
_SEX = {1: "F", 2: "M", 3: "O"}


def number(value: Any, default: float = 0.0) -> float:
    """Read a number; where it is absent, empty or not finite, the default.

    Of a list, the first entry.
    """
    if isinstance(value, list):
        value = value[0] if value else None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return float(default)
    return found if math.isfinite(found) else float(default)


def flag(value: Any) -> int:
    """Read an integer that may be written in hexadecimal, 0 where it is none."""
    try:
        return int(value, 0) if isinstance(value, str) else int(value)
    except (TypeError, ValueError):
        return 0


def oversampling(header: Header) -> float:
    """Factor by which the readout is oversampled, 2 where the protocol does not say."""
    factor = header["Dicom"].get("flReadoutOSFactor") or header["Meas"].get("flReadoutOSFactor")
    return number(factor, 2.0)


def phase_oversampling(header: Header) -> tuple[float, float]:
    """Share of the field of view that is added along z and y."""
    k = header["MeasYaps"]["sKSpace"]
    along_z = number(k.get("dSliceOversamplingForDialog"), number(header["Dicom"].get("flSliceOS")))
    along_y = number(k.get("dPhaseOversamplingForDialog"), number(header["Dicom"].get("flPhaseOS")))
    return along_z, along_y


def acceleration(header: Header) -> tuple[float, float]:
    """Undersampling along z and y that the protocol says."""
    pat = header["MeasYaps"].get("sPat", {})
    factors = (number(pat.get(name), 1.0) for name in ("lAccelFact3D", "lAccelFactPE"))
    along_z, along_y = (max(1.0, factor) for factor in factors)
    return along_z, along_y


def trapezoid(header: Header, samples: int, cut: int = 0) -> Trapezoid | None:
    """Describe the readout gradient that is sampled on its ramps; ``None`` where there are none.

    Parameters
    ----------
    header
        The protocol.
    samples
        Samples of a readout, as acquired.
    cut
        How many of them are cut off at the beginning.

    Raises
    ------
    ValueError
        If the gradient is of another shape than a trapezoid.
    """
    meas = header["Meas"]
    mode = int(number(meas.get("alRegridMode"), 1))
    if mode < _TRAPEZOIDAL:
        return None
    if mode > _TRAPEZOIDAL:
        raise ValueError(f"alRegridMode is {mode}: not a trapezoidal readout gradient")
    dwell = number(meas.get("aflRegridADCDuration")) / samples
    return Trapezoid(
        ramp_up=number(meas.get("alRegridRampupTime")),
        flat_top=number(meas.get("alRegridFlattopTime")),
        ramp_down=number(meas.get("alRegridRampdownTime")),
        delay=number(meas.get("alRegridDelaySamplesTime")) + cut * dwell,
        dwell=dwell,
    )


def dwell_time(header: Header) -> float:
    """Time per (oversampled) sample, us; 0 where the protocol does not say."""
    return number(header["MeasYaps"].get("sRXSPEC", {}).get("alDwellTime")) * 1e-3


def multiband(header: Header) -> int:
    """How many slices were excited together."""
    return int(number(header["MeasYaps"].get("sSliceAcceleration", {}).get("lMultiBandFactor"), 1))


def facts(header: Header) -> dict[str, Any]:
    """Tell software and timing, plain values; lists are per contrast or hold one for all."""
    yaps = header["MeasYaps"]
    contrasts = max(1, int(number(yaps.get("lContrasts"), 1)))
    names = {
        "echo_times_ms": ("alTE", 1e-3, contrasts),
        "repetition_times_ms": ("alTR", 1e-3, 1),
        "inversion_times_ms": ("alTI", 1e-3, 1),
        "flip_angles_deg": ("adFlipAngleDegree", 1.0, 1),
    }
    found: dict[str, Any] = {"format": "Siemens twix"}
    software = header["Dicom"].get("SoftwareVersions")
    if software:
        found["software"] = str(software)
    if flag(yaps.get("sPrepPulses", {}).get("ucInversion")) not in _INVERTING:
        del names["inversion_times_ms"]
    for name, (key, unit, count) in names.items():
        listed = yaps.get(key)
        values = [number(v) * unit for v in (listed if isinstance(listed, list) else [])[:count]]
        if values and all(v > 0 for v in values):
            found[name] = values
    return found


def identity(header: Header) -> Identity:
    """Collect patient and scanner as DICOM attributes, of what is there."""
    dicom = header["Dicom"]
    found = {
        "PatientName": dicom.get("tPatientName"),
        "PatientSex": _SEX.get(int(number(dicom.get("lPatientSex")))),
        "PatientPosition": dicom.get("tPatientPosition"),
        "BodyPartExamined": dicom.get("tBodyPartExamined"),
        "StudyDescription": dicom.get("tStudyDescription"),
        "Manufacturer": dicom.get("Manufacturer"),
        "ManufacturerModelName": dicom.get("ManufacturersModelName"),
        "SoftwareVersions": dicom.get("SoftwareVersions"),
        "MagneticFieldStrength": dicom.get("flMagneticFieldStrength"),
        "MRAcquisitionType": dicom.get("tMRAcquisitionType"),
    }
    texts = {keyword: str(value) for keyword, value in found.items() if value not in (None, "")}
    return Identity(attributes=MappingProxyType(texts))
