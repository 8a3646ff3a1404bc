"""The container of Siemens raw data: measurements of a file, and headers of their readouts.

VB files hold one measurement; VD, VE and XA files begin with a table of several. Each is a text
protocol and a chain of readouts, whose binary layout and protocol syntax are those of twixtools.
The chain is walked here, because a damaged length must not end in a loop, and a chain that breaks
off must not pass for a complete scan.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from twixtools import hdr_def, mdh_def, twixprot

from medrecon.errors import UnreadableError

_VE_HEADER = np.dtype(mdh_def.Scan_header)
_VB_HEADER = np.dtype(mdh_def.VB17_header)
_CHANNEL_BYTES = np.dtype(mdh_def.Channel_header).itemsize
_SMALLEST = 10_240  # bytes; shorter files hold no measurement
_SAMPLE_BYTES = 8
_LENGTH = (1 << 25) - 1  # bits of the length in the first word of a readout
_BUFFER = re.compile(rb"(\w{4,})\x00(.{4})", re.DOTALL)
_NAME_BYTES = 48
_TALL_INDEX = re.compile(rb"\[\d{5,}\]")  # no protocol has lists of 10 000 entries
_PARTS = ("MeasYaps", "Meas", "Dicom")


@dataclass(frozen=True, eq=False)
class Measurement:
    """One measurement: its protocol and its readouts.

    Parameters
    ----------
    header
        Parts of the protocol by name (``MeasYaps``, ``Meas``, ``Dicom``), each a tree of values.
    table
        Headers of all readouts, in the order of acquisition; fields as in twixtools' ``mdh_def``.
    synchronous
        How many blocks of other signals (physiology) lay between them.
    """

    header: Mapping[str, Any]
    table: NDArray[Any]
    synchronous: int
    _bytes: NDArray[np.uint8]
    _offsets: NDArray[np.int64]
    _is_ve: bool

    def has(self, *flags: str) -> NDArray[np.bool_]:
        """Say which readouts carry any of the flags, by their names in ``mdh_def.mask_id``."""
        bits = np.uint64(sum(1 << mdh_def.mask_dict[flag] for flag in flags))
        found: NDArray[np.bool_] = (self.table["EvalInfoMask"] & bits) != 0
        return found

    def is_set(self, number: int, flag: str) -> bool:
        """Say whether one readout carries a flag."""
        return bool(int(self.table["EvalInfoMask"][number]) >> mdh_def.mask_dict[flag] & 1)

    def samples(self, number: int) -> NDArray[np.complex64]:
        """Read complex ``(channels, samples)`` of one readout."""
        head = self.table[number]
        channels, samples = int(head["UsedChannels"]), int(head["SamplesInScan"])
        start = int(self._offsets[number]) + (_VE_HEADER.itemsize if self._is_ve else 0)
        skip = _CHANNEL_BYTES if self._is_ve else _VB_HEADER.itemsize
        size = skip + _SAMPLE_BYTES * samples
        block = self._bytes[start : start + channels * size].reshape(channels, size)
        values: NDArray[np.complex64] = block[:, skip:].copy().view(np.complex64)
        return values


def read_measurements(path: Path) -> list[Measurement]:
    """Read headers and readout tables of all measurements of a file.

    Samples stay on disk until they are asked for.

    Raises
    ------
    UnreadableError
        If the file is missing, truncated, damaged or no twix file.
    """
    content = _mapped(path)
    first, second = struct.unpack_from("<II", content.data, 0)
    is_ve = first < 10_000 and 0 < second <= hdr_def.max_raidfile_entries
    spans = list(_raid_spans(content, second)) if is_ve else [(0, len(content))]
    return [_measurement(content, start, stop, is_ve, path) for start, stop in spans]


def _mapped(path: Path) -> NDArray[np.uint8]:
    try:
        size = path.stat().st_size
        if size < _SMALLEST:
            raise UnreadableError(f"{path} has {size} bytes, too few for a twix file.")
        return np.memmap(path, dtype=np.uint8, mode="r")
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error


def _raid_spans(content: NDArray[np.uint8], count: int) -> Iterator[tuple[int, int]]:
    entries = np.frombuffer(content, dtype=hdr_def.MultiRaidFileHeader, count=1)[0]["entry"]
    for entry in entries[:count]:
        start, length = int(entry["off_"]), int(entry["len_"])
        # writers that stream do not know the length of a lone measurement
        yield start, start + length if length else len(content)


def _measurement(
    content: NDArray[np.uint8], start: int, stop: int, is_ve: bool, path: Path
) -> Measurement:
    if not 0 <= start + 8 <= len(content):
        raise UnreadableError(
            f"{path}: a measurement should begin at byte {start}, the file has {len(content)}; it "
            "is truncated or no twix file."
        )
    length = struct.unpack_from("<I", content.data, start)[0]
    if length <= 8 or start + length > len(content):
        raise UnreadableError(
            f"{path}: the protocol should be {length} bytes long, the file has "
            f"{len(content) - start} after its beginning; it is truncated or no twix file."
        )
    header = _protocol(content[start : start + length].tobytes(), path)
    offsets, synchronous = _walk(content, start + length, min(stop, len(content)), is_ve, path)
    layout = _VE_HEADER if is_ve else _VB_HEADER
    rows = b"".join(content.data[at : at + layout.itemsize] for at in offsets.tolist())
    table = np.frombuffer(rows, dtype=layout) if rows else np.zeros(0, dtype=layout)
    return Measurement(header, table, synchronous, content, offsets, is_ve)


def _protocol(content: bytes, path: Path) -> dict[str, Any]:
    count, at = struct.unpack_from("<I", content, 4)[0], 8
    if _TALL_INDEX.search(content):
        raise UnreadableError(
            f"{path}: the protocol has lists of impossible length; is it damaged?"
        )
    header: dict[str, Any] = {}
    for _ in range(min(count, 64)):
        found = _BUFFER.search(content, at, at + _NAME_BYTES)
        if found is None:
            break
        size = struct.unpack("<I", found.group(2))[0]
        text = content[found.end() : found.end() + size].decode("latin1")
        at = found.end() + size
        name = found.group(1).decode("latin1")
        if name in _PARTS:
            try:
                header[name] = twixprot.parse_buffer(text)
            except Exception as error:  # a parser of free text: anything can come out of it
                raise UnreadableError(
                    f"{path}: the protocol part {name} cannot be parsed ({error})."
                ) from error
    missing = [name for name in _PARTS if not header.get(name)]
    if missing:
        raise UnreadableError(
            f"{path} is no twix file of a known version: its protocol lacks {', '.join(missing)}."
        )
    return header


def _walk(
    content: NDArray[np.uint8], at: int, stop: int, is_ve: bool, path: Path
) -> tuple[NDArray[np.int64], int]:
    """Find the offsets of all readouts, up to the end mark; count the blocks of other signals."""
    layout = _VE_HEADER if is_ve else _VB_HEADER
    mask_at, samples_at = (layout.fields[f][1] for f in ("EvalInfoMask", "SamplesInScan"))
    own, each = (layout.itemsize, _CHANNEL_BYTES) if is_ve else (0, layout.itemsize)
    end, other = (1 << mdh_def.mask_dict[flag] for flag in ("ACQEND", "SYNCDATA"))
    offsets: list[int] = []
    synchronous = 0
    view = content.data
    while at + layout.itemsize <= stop:
        (mask,) = struct.unpack_from("<Q", view, at + mask_at)
        if mask & end:
            return np.array(offsets, dtype=np.int64), synchronous
        if mask & other:
            length = struct.unpack_from("<I", view, at)[0] & _LENGTH
            synchronous += 1
        else:
            samples, channels = struct.unpack_from("<HH", view, at + samples_at)
            length = (own + channels * (each + _SAMPLE_BYTES * samples)) * bool(samples * channels)
            offsets.append(at)
        if length < layout.itemsize:
            raise UnreadableError(
                f"{path}: the readout at byte {at} has an impossible length; the file is damaged."
            )
        at += length
    raise UnreadableError(
        f"{path} is truncated: it breaks off after {len(offsets)} readouts, without the mark that "
        "ends a measurement; copy it from the scanner again."
    )
