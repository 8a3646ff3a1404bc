"""Read Siemens twix raw data (``.dat``; VB, VD, VE and XA) through twixtools.

Position and orientation come from the header of every readout: the quaternion's rotation has the
columns phase, read and slice direction, in the patient's LPS frame (dSag to the left, dCor to
posterior, dTra to the head). With them the inverse FFT of an in-vivo head scan has its forehead
where the directions say; left and right follow from the rotation being proper.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import twixtools

from medrecon.errors import InconsistentError, MedreconError, UnreadableError
from medrecon.raw.assemble import assemble
from medrecon.raw.scan import Encoding, NoiseScan, RawScan, Readout
from medrecon.raw.slices import SlicePose
from medrecon.study import Identity, Study

_CARTESIAN = 1
_SINGLE = {"Eco": "echo", "Rep": "repetition", "Set": "set", "Phs": "phase"}
_HEADER_BYTES = 10_240  # shorter files hold no measurement
_SEX = {1: "F", 2: "M", 3: "O"}


def read_twix(path: Path) -> Study:
    """Read a Siemens twix file.

    The last measurement of the file makes the image; noise scans of any measurement whiten it.

    Parameters
    ----------
    path
        The ``.dat`` file.

    Returns
    -------
    Study
        Centred k-space ``(z, coils, y, x)``, or ``(coils, z, y, x)`` for 3D encoding.

    Raises
    ------
    UnreadableError
        If the file is missing, truncated or no twix file.
    InconsistentError
        If the scan is not a Cartesian scan of one image, or its parts do not fit each other.

    Warns
    -----
    UserWarning
        Where the header does not describe the readouts (sequences made outside the scanner's own
        software), or position and orientation are missing.
    """
    measurements = _load(path)
    header = measurements[-1]["hdr"]
    blocks = [block for block in measurements[-1]["mdb"] if block.is_image_scan()]
    if not blocks:
        raise InconsistentError(f"{path} holds no imaging data (only noise or other scans).")
    try:
        _refuse_what_is_not_one_image(blocks, header, path)
        scan = RawScan(
            encodings=(_encoding(blocks, header, path),),
            readouts=[_readout(block) for block in blocks],
            path=path,
            noise=_noise(measurements),
            identity=_identity(header),
        )
    except MedreconError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableError(
            f"{path}: the twix header lacks what a reconstruction needs ({error})."
        ) from error
    return assemble(scan)[0]


def _load(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error
    if size < _HEADER_BYTES:
        raise UnreadableError(f"{path} has {size} bytes, too few for a twix file.")
    try:
        with _quiet():
            measurements: Sequence[Mapping[str, Any]] = twixtools.read_twix(
                str(path), parse_pmu=False, parse_geometry=False, verbose=False
            )
    except Exception as error:  # a parser of binary data: anything can come out of a broken file
        raise UnreadableError(
            f"{path} is no twix file, or is truncated ({type(error).__name__})."
        ) from error
    if not measurements or not all(m.get("mdb") and m["hdr"].get("MeasYaps") for m in measurements):
        raise UnreadableError(f"{path} is no twix file, or holds no complete measurement.")
    return measurements


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep twixtools' prints and warnings to itself."""
    nowhere = io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        warnings.simplefilter("ignore")
        yield


def _refuse_what_is_not_one_image(blocks: list[Any], header: Mapping[str, Any], path: Path) -> None:
    reverse = sum(block.is_flag_set("REFLECT") for block in blocks)
    if reverse:
        raise InconsistentError(
            f"{path}: {reverse} of {len(blocks)} readouts run backwards (EPI or bipolar echoes); "
            "they need a phase correction first, which is not done here."
        )
    trajectory = header["MeasYaps"]["sKSpace"].get("ucTrajectory", _CARTESIAN)
    if trajectory != _CARTESIAN:
        raise InconsistentError(
            f"{path}: the trajectory (ucTrajectory {trajectory}) is not Cartesian; only Cartesian "
            "scans can be reconstructed."
        )
    for counter, name in _SINGLE.items():
        found = sorted({int(getattr(block.mdh.Counter, counter)) for block in blocks})
        if len(found) > 1:
            raise InconsistentError(
                f"{path} holds {len(found)} values of '{name}' ({found[:6]}); split the file, one "
                "image is reconstructed at a time."
            )


def _encoding(blocks: list[Any], header: Mapping[str, Any], path: Path) -> Encoding:
    k = header["MeasYaps"]["sKSpace"]
    field = header["MeasYaps"]["sSliceArray"]["asSlice"][0]
    first = blocks[0].mdh
    samples = blocks[0].data.shape[-1]
    lines = 1 + max(int(block.mdh.Counter.Lin) for block in blocks)
    partitions = 1 + max(int(block.mdh.Counter.Par) for block in blocks)
    oversampling = _number(header["Dicom"].get("flReadoutOSFactor"), 2.0)
    width = round(int(k["lBaseResolution"]) * oversampling)
    height = int(_number(header["Meas"].get("iPEFTLength"), k["lPhaseEncodingLines"]))
    depth = int(k.get("lPartitions", 1)) if partitions > 1 else 1
    stretch = (
        1 + _number(header["Dicom"].get("flSliceOS"), 0.0) if partitions > 1 else 1.0,
        1 + _number(header["Dicom"].get("flPhaseOS"), 0.0),
    )
    if samples > width or lines > height or partitions > depth:
        warnings.warn(
            f"{path}: the header announces {height} lines of {width} samples, the file holds "
            f"{lines} lines of {samples}; the sizes are taken from the data and the field of view "
            "from the header, so check the voxel size.",
            stacklevel=2,
        )
        depth, height, width = max(depth, partitions), lines, samples
    return Encoding(
        matrix=(depth, height, width),
        fov=(
            float(field["dThickness"]) * stretch[0],
            float(field["dPhaseFOV"]) * stretch[1],
            float(field["dReadoutFOV"]) * oversampling,
        ),
        readout_fov=float(field["dReadoutFOV"]),
        center=(int(first.CenterPar) or depth // 2, int(first.CenterLin) or height // 2),
        is_3d=partitions > 1,
    )


def _readout(block: Any) -> Readout:
    mdh = block.mdh
    before, after = int(mdh.CutOff.Pre), int(mdh.CutOff.Post)
    data = np.ascontiguousarray(block.data, dtype=np.complex64)
    center = int(mdh.CenterCol) or data.shape[1] // 2
    return Readout(
        data=data[:, before : data.shape[1] - after],
        line=int(mdh.Counter.Lin),
        partition=int(mdh.Counter.Par),
        slice=int(mdh.Counter.Sli),
        center=center - before,
        pose=_pose(mdh.SliceData),
    )


def _pose(slice_data: Any) -> SlicePose:
    """Directions from the quaternion (w, x, y, z); zero where the quaternion is."""
    w, x, y, z = (float(q) for q in slice_data.Quaternion)
    norm = w * w + x * x + y * y + z * z
    s = 2 / norm if norm > 0.5 else 0.0
    one = 1.0 if s else 0.0
    phase = (one - s * (y * y + z * z), s * (x * y + z * w), s * (x * z - y * w))
    read = (s * (x * y - z * w), one - s * (x * x + z * z), s * (y * z + x * w))
    normal = (s * (x * z + y * w), s * (y * z - x * w), one - s * (x * x + y * y))
    place = slice_data.SlicePos
    position = (place.Sag, place.Cor, place.Tra)
    return SlicePose(*(np.array(v, dtype=np.float64) for v in (position, normal, phase, read)))


def _noise(measurements: Sequence[Mapping[str, Any]]) -> NoiseScan | None:
    for measurement in measurements:
        blocks = [b for b in measurement["mdb"] if b.is_flag_set("NOISEADJSCAN")]
        if blocks:
            return NoiseScan(
                data=np.concatenate([b.data for b in blocks], axis=1).astype(np.complex64),
                dwell=_dwell(measurement["hdr"]),
                imaging_dwell=_dwell(measurements[-1]["hdr"]),
            )
    return None


def _dwell(header: Mapping[str, Any]) -> float:
    """Time per (oversampled) sample, ns; 0 where the header does not say."""
    times = header["MeasYaps"].get("sRXSPEC", {}).get("alDwellTime", [])
    return _number(times[0] if times else None, 0.0)


def _identity(header: Mapping[str, Any]) -> Identity:
    dicom = header["Dicom"]
    found = {
        "PatientName": dicom.get("tPatientName"),
        "PatientSex": _SEX.get(int(_number(dicom.get("lPatientSex"), 0))),
        "PatientPosition": dicom.get("tPatientPosition"),
        "BodyPartExamined": dicom.get("tBodyPartExamined"),
        "StudyDescription": dicom.get("tStudyDescription"),
        "Manufacturer": dicom.get("Manufacturer"),
        "ManufacturerModelName": dicom.get("ManufacturersModelName"),
        "SoftwareVersions": dicom.get("SoftwareVersions"),
        "MagneticFieldStrength": dicom.get("flMagneticFieldStrength"),
        "MRAcquisitionType": dicom.get("tMRAcquisitionType"),
        **_timing(header["MeasYaps"]),
    }
    texts = {keyword: str(value) for keyword, value in found.items() if value not in (None, "")}
    return Identity(attributes=MappingProxyType(texts))


def _timing(protocol: Mapping[str, Any]) -> dict[str, str]:
    """Repetition and echo time (given in us, wanted in ms) and flip angle."""
    names = {"RepetitionTime": ("alTR", 1e-3), "EchoTime": ("alTE", 1e-3)}
    names["FlipAngle"] = ("adFlipAngleDegree", 1.0)
    values = {key: (protocol.get(name) or [None], unit) for key, (name, unit) in names.items()}
    return {
        key: f"{_number(value[0], 0.0) * unit:g}"
        for key, (value, unit) in values.items()
        if _number(value[0], 0.0) > 0
    }


def _number(value: Any, default: float) -> float:
    """Read a header's number; where it is absent, empty or not finite, the default."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return float(default)
    return number if math.isfinite(number) else float(default)
