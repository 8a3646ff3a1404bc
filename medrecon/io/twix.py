"""Read Siemens twix raw data (``.dat``; VB, VD, VE and XA) in the layout that twixtools knows.

Position and orientation come from the header of every readout: the quaternion's rotation has the
columns phase, read and slice direction, in the patient's LPS frame (dSag to the left, dCor to
posterior, dTra to the head). With them the inverse FFT of an in-vivo head scan has its forehead
where the directions say; left and right follow from the rotation being proper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, MedreconError, UnreadableError
from medrecon.io import twix_protocol as protocol
from medrecon.io.twix_encoding import (
    encoding_of,
    reference_encoding,
    refuse_what_cannot_be_reconstructed,
)
from medrecon.io.twix_file import Measurement, read_measurements
from medrecon.raw.assemble import assemble
from medrecon.raw.offcentre import modulated
from medrecon.raw.scan import Encoding, NoiseScan, RawScan, Readout
from medrecon.raw.slices import SlicePose
from medrecon.study import Study

_TICK = 2.5e-3  # s, of the clock in readout headers
_NOISE_US = 7680.0  # duration of a noise readout within a measurement: 130 Hz per sample

# What a readout is for, by its flags; the first that fits.
_KINDS = (
    ("noise", ("NOISEADJSCAN",)),
    ("navigator", ("PHASCOR",)),
    ("phase stabilisation", ("PHASESTABSCAN", "REFPHASESTABSCAN")),
    ("feedback", ("RTFEEDBACK", "HPFEEDBACK")),
    ("free induction decay", ("noname60",)),
    ("dummy", ("RETRO_DUMMYSCAN",)),
    ("single-band reference", ("SLICE_ACCEL_REFSCAN", "SLICE_ACCEL_PHASCOR")),
)
_IGNORED = [kind for kind, _ in _KINDS[2:]]


def read_twix(path: Path) -> tuple[Study, ...]:
    """Read a Siemens twix file.

    The last measurement of the file makes the images; noise scans of any measurement whiten them.
    Echo trains are interpolated and phase-corrected (see :mod:`medrecon.raw.epi`).

    Parameters
    ----------
    path
        The ``.dat`` file.

    Returns
    -------
    tuple of Study
        One per echo, repetition, set, phase and slab. Centred k-space ``(z, coils, y, x)``, or
        ``(coils, z, y, x)`` for 3D encoding.

    Raises
    ------
    UnreadableError
        If the file is missing, truncated, damaged, or no twix file of a known version.
    InconsistentError
        If the scan is not Cartesian, excites several slices together, holds no images, or its
        parts do not fit each other.

    Warns
    -----
    UserWarning
        Where the protocol does not describe the readouts (sequences made outside the scanner's own
        software), or position and orientation are missing.
    """
    return assemble(read_twix_scan(path))


def read_twix_scan(path: Path) -> RawScan:
    """Read all readouts of a twix file, as they were acquired; see :func:`read_twix`."""
    measurements = read_measurements(path)
    measurement = measurements[-1]
    kinds = _kinds(measurement)
    if not (kinds == "image").any():
        found = ", ".join(f"{n} {kind}" for kind, n in Counter(kinds.tolist()).items()) or "none"
        raise InconsistentError(f"{path} holds no imaging data; its readouts: {found}.")
    try:
        return _scan(measurements, kinds, path)
    except MedreconError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UnreadableError(
            f"{path}: the twix protocol lacks what a reconstruction needs ({error})."
        ) from error


def _kinds(measurement: Measurement) -> NDArray[np.object_]:
    kinds: NDArray[np.object_] = np.full(len(measurement.table), "image", dtype=object)
    reference = measurement.has("PATREFSCAN") & ~measurement.has("PATREFANDIMASCAN")
    kinds[reference] = "calibration"
    for name, flags in reversed(_KINDS):
        kinds[measurement.has(*flags)] = name
    return kinds


def _scan(measurements: Sequence[Measurement], kinds: NDArray[np.object_], path: Path) -> RawScan:
    measurement = measurements[-1]
    header = measurement.header
    refuse_what_cannot_be_reconstructed(header, path)
    at = {kind: np.flatnonzero(kinds == kind) for kind in set(kinds.tolist())}
    none = np.zeros(0, dtype=np.intp)
    encoding = encoding_of(measurement, at["image"], path)
    readouts = [_readout(measurement, i, encoding) for i in at["image"]]
    encodings: tuple[Encoding, ...] = (encoding,)
    calibration: list[Readout] = []
    if "calibration" in at:
        samples = readouts[0].data.shape[1]
        own = reference_encoding(measurement, at["calibration"], encoding, samples)
        encodings = encodings if own is None else (encoding, own)
        calibration = _calibration(measurement, at["calibration"], encoding, own)
    ignored = {kind: len(found) for kind, found in at.items() if kind in _IGNORED}
    return RawScan(
        encodings=encodings,
        readouts=readouts,
        path=path,
        calibration=calibration,
        navigators=[_readout(measurement, i, encoding) for i in at.get("navigator", none)],
        ignored=MappingProxyType({**ignored, "physiology": measurement.synchronous}),
        noise=_noise(measurements),
        identity=protocol.identity(header),
        facts=MappingProxyType({**protocol.facts(header), "measurements": len(measurements)}),
    )


def _readout(measurement: Measurement, number: np.intp, encoding: Encoding) -> Readout:
    head = measurement.table[number]
    counter, cut = head["Counter"], head["CutOff"]
    data = measurement.samples(int(number))
    total = data.shape[1]
    first, last = int(cut["Pre"]), total - int(cut["Post"])
    if first >= last:
        raise ValueError(f"readout {number} cuts off all of its {total} samples")
    reverse = measurement.is_set(int(number), "REFLECT")
    center = (int(head["CenterCol"]) or total // 2) - first
    if reverse:  # CenterCol counts in the direction of +k
        center = last - first - 1 - center
    readout = Readout(
        data=data[:, first:last],
        line=int(counter["Lin"]),
        partition=int(counter["Par"]),
        slice=int(counter["Sli"]),
        center=center,
        pose=_pose(head["SliceData"]),
        contrast=int(counter["Eco"]),
        phase=int(counter["Phs"]),
        repetition=int(counter["Rep"]),
        set=int(counter["Set"]),
        average=int(counter["Ave"]),
        segment=int(counter["Seg"]),
        reverse=reverse,
        dwell=protocol.dwell_time(measurement.header),
        time=float(head["TimeStamp"]) * _TICK,
    )
    return modulated(readout, encoding, float(head["ReadOutOffcentre"]))


def _calibration(
    measurement: Measurement, found: NDArray[np.intp], encoding: Encoding, own: Encoding | None
) -> list[Readout]:
    if own is not None:
        return [replace(_readout(measurement, i, own), encoding=1) for i in found]
    readouts = []
    for i in found:
        head, readout = measurement.table[i], _readout(measurement, i, encoding)
        line = encoding.center[1] - (int(head["CenterLin"]) or encoding.center[1])
        partition = encoding.center[0] - (int(head["CenterPar"]) or encoding.center[0])
        readouts.append(
            replace(readout, line=readout.line + line, partition=readout.partition + partition)
        )
    return readouts


def _pose(slice_data: Any) -> SlicePose:
    """Directions from the quaternion (w, x, y, z); zero where the quaternion is."""
    w, x, y, z = (float(q) for q in slice_data["Quaternion"])
    norm = w * w + x * x + y * y + z * z
    s = 2 / norm if norm > 0.5 else 0.0
    one = 1.0 if s else 0.0
    phase = (one - s * (y * y + z * z), s * (x * y + z * w), s * (x * z - y * w))
    read = (s * (x * y - z * w), one - s * (x * x + z * z), s * (y * z + x * w))
    normal = (s * (x * z + y * w), s * (y * z - x * w), one - s * (x * x + y * y))
    place = slice_data["SlicePos"]
    position = tuple(float(place[name]) for name in ("Sag", "Cor", "Tra"))
    return SlicePose(*(np.array(v, dtype=np.float64) for v in (position, normal, phase, read)))


def _noise(measurements: Sequence[Measurement]) -> NoiseScan | None:
    for measurement in measurements:
        found = np.flatnonzero(measurement.has("NOISEADJSCAN"))
        if not len(found):
            continue
        blocks = [measurement.samples(int(i)) for i in found]
        blocks = [block for block in blocks if len(block) == len(blocks[0])]
        imaging = measurements[-1]
        return NoiseScan(
            data=np.concatenate(blocks, axis=1),
            dwell=_noise_dwell(measurement, imaging, blocks[0].shape[1]),
            imaging_dwell=protocol.dwell_time(imaging.header),
            readouts=len(blocks),
        )
    return None


def _noise_dwell(measurement: Measurement, imaging: Measurement, samples: int) -> float:
    """Time per sample, us: the header describes images, so noise within their scan has its own."""
    return (
        _NOISE_US / samples if measurement is imaging else protocol.dwell_time(measurement.header)
    )
