"""The XML header of an MRD (ISMRMRD) file, as values."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any
from xml.parsers import expat

from ismrmrd import xsd

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.grid import Triple
from medrecon.raw.scan import Encoding, Trajectory, Trapezoid

_MAX_BYTES = 4 * 2**20

SIMULATED = "medrecon_simulated"
NOISE_STD = "medrecon_noise_std"
"""User parameters that this package writes and reads."""

_TIMING = {
    "echo_times_ms": "TE",
    "repetition_times_ms": "TR",
    "inversion_times_ms": "TI",
    "flip_angles_deg": "flipAngle_deg",
}
_TRAJECTORIES: dict[str, Trajectory] = {
    "cartesian": "cartesian",
    "epi": "epi",
    "radial": "radial",
    "goldenangle": "radial",
    "spiral": "spiral",
}


def parse_header(text: bytes | str, path: Path) -> Any:
    """Parse and check the XML header.

    Returns
    -------
    ismrmrd.xsd.ismrmrdHeader
        With at least one encoding.

    Raises
    ------
    UnreadableError
        If it is no MRD header: not XML, too large, with a DTD (entities are refused unexpanded),
        or without an encoding.
    """
    raw = (text.encode() if isinstance(text, str) else text).rstrip(b"\0")
    if len(raw) > _MAX_BYTES:
        raise UnreadableError(f"{path}: the MRD header has {len(raw)} bytes; it is damaged.")
    if b"\0" in raw:  # UTF-16 would hide what is looked for below
        raise UnreadableError(f"{path}: the MRD header is not UTF-8 text.")
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        raise UnreadableError(f"{path}: the MRD header declares XML entities, which is refused.")
    try:
        expat.ParserCreate().Parse(raw, True)  # says where; the library's own parser mends silently
    except expat.ExpatError as error:
        raise UnreadableError(f"{path}: the MRD header is not valid XML ({error}).") from error
    try:
        with warnings.catch_warnings(action="ignore"):  # of words that the standard does not know
            header = xsd.CreateFromDocument(raw)
    except Exception as error:  # the parser's own errors share no base class
        where = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableError(
            f"{path}: the MRD header does not follow the standard's schema ({where})."
        ) from error
    if not header.encoding:
        raise UnreadableError(f"{path}: the MRD header describes no encoding; it is incomplete.")
    return header


def encodings_of(header: Any, path: Path) -> tuple[Encoding, ...]:
    """Read all encoded spaces.

    The measured resolution is kept: along x the reconstructed field of view is used (readout
    oversampling), along y and z the encoded one; interpolation by zero filling is not repeated.

    Raises
    ------
    InconsistentError
        If one is incomplete.
    """
    return tuple(_encoding(encoding, path) for encoding in header.encoding)


def _encoding(encoding: Any, path: Path) -> Encoding:
    space, limits = encoding.encodedSpace, encoding.encodingLimits
    if space is None or space.matrixSize is None or space.fieldOfView_mm is None:
        raise InconsistentError(f"{path}: the MRD header has no complete encoded space.")
    matrix, fov = _matrix(space.matrixSize), _lengths(space.fieldOfView_mm)
    recon = encoding.reconSpace
    recon_size = recon.matrixSize if recon is not None else None
    recon_fov = recon.fieldOfView_mm if recon is not None else None
    wanted = _matrix(recon_size) if recon_size is not None else (0, 0, 0)
    parallel = encoding.parallelImaging
    factor = parallel.accelerationFactor if parallel is not None else None
    return Encoding(
        matrix=matrix,
        fov=fov,
        readout_fov=float(recon_fov.x) if recon_fov is not None else fov[2],
        center=(
            _center(limits.kspace_encoding_step_2 if limits is not None else None, matrix[0]),
            _center(limits.kspace_encoding_step_1 if limits is not None else None, matrix[1]),
        ),
        is_3d=matrix[0] > 1,
        trajectory=_TRAJECTORIES.get(text_of(encoding.trajectory) or "cartesian", "other"),
        trapezoid=trapezoid_of(encoding),
        acceleration=(
            (1.0, 1.0)
            if factor is None
            else (
                float(max(1, factor.kspace_encoding_step_2 or 1)),
                float(max(1, factor.kspace_encoding_step_1 or 1)),
            )
        ),
        recon_matrix=wanted if min(wanted) > 0 else None,  # some converters leave it empty
        recon_fov=_lengths(recon_fov) if recon_fov is not None else None,
    )


def trapezoid_of(encoding: Any) -> Trapezoid | None:
    """Readout gradient of an EPI encoding from its trajectory's description, times in us.

    The names are those that the converter from Siemens raw data writes; without all of them there
    is no trapezoid.
    """
    description = encoding.trajectoryDescription
    if description is None:
        return None
    found = {
        parameter.name: float(parameter.value)
        for parameter in (*description.userParameterLong, *description.userParameterDouble)
    }
    names = ("rampUpTime", "flatTopTime", "rampDownTime", "acqDelayTime")
    samples, dwell = found.get("numSamples", 0.0), found.get("dwellTime", 0.0)
    if not set(names) <= set(found) or (dwell <= 0 and samples <= 0):
        return None
    up, flat, down, delay = (found[name] for name in names)
    if min(up, flat, down, delay) < 0 or up + flat + down <= 0:
        return None
    if dwell <= 0:  # sampling centred on the gradient
        dwell = (up + flat + down - 2 * delay) / samples
    return (
        Trapezoid(ramp_up=up, flat_top=flat, ramp_down=down, delay=delay, dwell=dwell)
        if dwell > 0
        else None
    )


def calibration_is_embedded(header: Any, index: int) -> bool:
    """Whether calibration lines are part of the same image (and not a scan of their own)."""
    parallel = header.encoding[index].parallelImaging
    mode = parallel.calibrationMode if parallel is not None else None
    return text_of(mode) == "embedded"


def relative_noise_bandwidth(header: Any) -> float:
    """Effective over nominal bandwidth of the receiver; 1 where the header does not say."""
    system = header.acquisitionSystemInformation
    value = system.relativeReceiverNoiseBandwidth if system is not None else None
    return float(value) if value is not None and 0 < value <= 1 else 1.0


def user_parameter(header: Any, name: str) -> float | None:
    """Value of a user parameter of type double; ``None`` where it is not there."""
    parameters = header.userParameters
    for parameter in parameters.userParameterDouble if parameters is not None else []:
        if parameter.name == name:
            return float(parameter.value)
    return None


def user_text(header: Any, name: str) -> str | None:
    """Value of a user parameter of type string; ``None`` where it is not there."""
    parameters = header.userParameters
    for parameter in parameters.userParameterString if parameters is not None else []:
        if parameter.name == name:
            return str(parameter.value)
    return None


def timing_of(header: Any) -> dict[str, list[float]]:
    """Collect echo, repetition and inversion times (ms) and flip angles (degrees)."""
    sequence = header.sequenceParameters
    found = {
        name: [float(v) for v in getattr(sequence, key, None) or () if math.isfinite(float(v))]
        for name, key in _TIMING.items()
    }
    return {name: values for name, values in found.items() if values}


def _matrix(size: Any) -> tuple[int, int, int]:
    return int(size.z), int(size.y), int(size.x)


def _lengths(fov: Any) -> Triple:
    return float(fov.z), float(fov.y), float(fov.x)


def _center(limit: Any, size: int) -> int:
    """Counter of the k-space centre; the middle of the matrix where the header does not say.

    A limit of which all three numbers are zero says nothing about an axis of many samples.
    """
    if limit is None or (size > 1 and limit.maximum == 0 and not limit.center):
        return size // 2
    return int(limit.center)


def text_of(value: Any) -> str:
    """Take a header's value, or the first of a list, as text; ``""`` where there is none."""
    if isinstance(value, list):
        value = value[0] if value else None
    value = getattr(value, "value", value)
    return "" if value is None else str(value)
