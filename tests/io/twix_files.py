"""Twix files as scanners write them, small: protocol, readouts and the mark that ends them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twixtools import hdr_def, mdh_def

PROTOCOL: dict[str, Any] = {
    "sKSpace.lBaseResolution": 16,
    "sKSpace.lPhaseEncodingLines": 12,
    "sKSpace.lPartitions": 1,
    "sKSpace.ucTrajectory": "0x1",
    "sSliceArray.asSlice[0].dThickness": 5.0,
    "sSliceArray.asSlice[0].dPhaseFOV": 180.0,
    "sSliceArray.asSlice[0].dReadoutFOV": 240.0,
    "sRXSPEC.alDwellTime[0]": 5000,
    "lContrasts": 2,
    "alTE[0]": 3000,
    "alTE[1]": 6000,
    "alTR[0]": 50000,
}
MEAS: dict[str, Any] = {"iPEFTLength": 12, "flReadoutOSFactor": 2.0}
DICOM: dict[str, Any] = {"SoftwareVersions": "syngo MR E11", "flReadoutOSFactor": 2.0}


@dataclass
class Line:
    """One readout: complex ``(channels, samples)``, flags, counters and other header fields."""

    data: NDArray[np.complex64]
    flags: Sequence[str] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fields: Mapping[str, Any] = field(default_factory=dict)


def header_bytes(
    protocol: Mapping[str, Any] = PROTOCOL,
    meas: Mapping[str, Any] = MEAS,
    dicom: Mapping[str, Any] = DICOM,
) -> bytes:
    """A measurement's protocol, of the parts that a reader needs."""
    ascconv = "".join(f"{name}\t = \t{value}\n" for name, value in protocol.items())
    parts = {
        "Dicom": _xprotocol(dicom),
        "Meas": _xprotocol(meas),
        "MeasYaps": f"### ASCCONV BEGIN ###\n{ascconv}\n### ASCCONV END ###",
    }
    body = struct.pack("<I", len(parts))
    for name, text in parts.items():
        encoded = text.encode() + b"\0"
        body += name.encode() + b"\0" + struct.pack("<I", len(encoded)) + encoded
    body += b"\0" * (10_240 - 4 - len(body))  # protocols are long, which tells VB from VD
    return struct.pack("<I", len(body) + 4) + body


def _xprotocol(values: Mapping[str, Any]) -> str:
    found = []
    for name, value in values.items():
        kind = "String" if isinstance(value, str) else "Double"
        text = " ".join(map(str, value)) if isinstance(value, list) else value
        text = f'"{text}"' if kind == "String" else text
        found.append(f'<Param{kind}."{name}">  {{ {text} }}')
    return "<XProtocol>\n{\n" + "\n".join(found) + "\n}\n"


def measurement_bytes(
    lines: Sequence[Line], header: bytes | None = None, *, is_ve: bool = True, ended: bool = True
) -> bytes:
    """One measurement: protocol, readouts, end mark."""
    content = header_bytes() if header is None else header
    for line in lines:
        content += _line_bytes(line, is_ve)
    if ended:
        end = _mdh(Line(np.zeros((0, 0), np.complex64), ("ACQEND",)), is_ve)
        size = len(bytes(end)) + 160
        end.FlagsAndDMALength = size
        content += bytes(end) + b"\0" * 160
    return content


def write_twix(path: Path, *measurements: bytes, is_ve: bool = True, lengths: bool = True) -> Path:
    """A file of several measurements (VD and later), or of one (VB)."""
    if not is_ve:
        path.write_bytes(measurements[0] + b"\0" * max(0, 10_240 - len(measurements[0])))
        return path
    table = np.zeros(1, dtype=hdr_def.MultiRaidFileHeader)[0]
    table["hdr"]["count_"] = len(measurements)
    content = b"\0" * 10_240
    for number, measurement in enumerate(measurements):
        table["entry"][number]["off_"] = len(content)
        table["entry"][number]["len_"] = len(measurement) if lengths else 0
        content += measurement + b"\0" * (-len(measurement) % 512)
    path.write_bytes(table.tobytes() + content[len(table.tobytes()) :])
    return path


def _line_bytes(line: Line, is_ve: bool) -> bytes:
    mdh = bytes(_mdh(line, is_ve))
    channels = np.ascontiguousarray(line.data, dtype=np.complex64)
    if is_ve:
        channel = bytes(mdh_def.Channel_header())
        return mdh + b"".join(channel + row.tobytes() for row in channels)
    return b"".join(mdh + row.tobytes() for row in channels)


def _mdh(line: Line, is_ve: bool) -> Any:
    mdh = mdh_def.Scan_header() if is_ve else mdh_def.VB17_header()
    mdh.UsedChannels, mdh.SamplesInScan = line.data.shape
    mdh.CenterCol = line.data.shape[1] // 2
    for flag in line.flags:
        mdh_def.add_flag(mdh, flag)
    for name, value in line.counters.items():
        setattr(mdh.Counter, name, value)
    place = mdh.SliceData.SlicePos
    place.Sag, place.Cor, place.Tra = line.position
    mdh.SliceData.Quaternion[:] = (0.5**0.5, 0.0, 0.0, 0.5**0.5)
    for name, value in line.fields.items():
        target, _, attribute = name.rpartition(".")
        setattr(getattr(mdh, target) if target else mdh, attribute, value)
    return mdh
