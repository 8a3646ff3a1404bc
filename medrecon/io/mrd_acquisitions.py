"""The table of an MRD file: which acquisition is what, and its samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.raw.scan import Encoding, NoiseScan, Readout
from medrecon.raw.slices import SlicePose

_TICK = 2.5e-3  # s, of the acquisition's time stamp
_DIRECTIONS = ("slice_dir", "phase_dir", "read_dir")
_COUNTERS = ("contrast", "phase", "repetition", "set", "average", "segment", "slice")
_NEEDED = {
    "flags", "idx", "position", "number_of_samples", "active_channels", "discard_pre",
    "discard_post", "center_sample", "encoding_space_ref", "trajectory_dimensions",
    "sample_time_us", "acquisition_time_stamp", *_DIRECTIONS,
}  # fmt: skip
_LEFT_OUT = {
    "navigator": (ismrmrd.ACQ_IS_NAVIGATION_DATA,),
    "feedback": (ismrmrd.ACQ_IS_HPFEEDBACK_DATA, ismrmrd.ACQ_IS_RTFEEDBACK_DATA),
    "dummy": (ismrmrd.ACQ_IS_DUMMYSCAN_DATA,),
    "surface coil correction": (ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,),
    "phase stabilisation": (
        ismrmrd.ACQ_IS_PHASE_STABILIZATION,
        ismrmrd.ACQ_IS_PHASE_STABILIZATION_REFERENCE,
    ),
}


@dataclass(frozen=True)
class Kinds:
    """Rows of the table by what they are; each row is of one kind.

    Parameters
    ----------
    imaging, calibration, navigators, noise
        Indices in the order of acquisition: of the images (embedded calibration lines among
        them), of a separate calibration scan, of lines for phase correction, without signal.
    left_out
        How many of which other kind there are.
    """

    imaging: NDArray[np.intp]
    calibration: NDArray[np.intp]
    navigators: NDArray[np.intp]
    noise: NDArray[np.intp]
    left_out: Mapping[str, int]


class Acquisitions:
    """Rows of an MRD table, as readouts.

    Parameters
    ----------
    table
        The dataset ``data``.
    path
        The file, named in messages.

    Raises
    ------
    UnreadableError
        If it is no table of acquisitions.
    """

    def __init__(self, table: NDArray[Any], path: Path) -> None:
        names = table.dtype.names or ()
        if "head" not in names or "data" not in names:
            raise UnreadableError(f"{path}: 'data' is not a table of MRD acquisitions.")
        self._head: NDArray[Any] = table["head"].reshape(-1)
        self._data: NDArray[Any] = table["data"].reshape(-1)
        self._traj: NDArray[Any] | None = table["traj"].reshape(-1) if "traj" in names else None
        self._path = path
        missing = _NEEDED - set(self._head.dtype.names or ())
        missing |= {"kspace_encode_step_1", "kspace_encode_step_2", *_COUNTERS} - set(
            (self._head["idx"].dtype.names or ()) if "idx" not in missing else ()
        )
        if missing:
            raise UnreadableError(f"{path}: the acquisition headers lack {sorted(missing)}.")

    def kinds(self, embedded: Sequence[bool]) -> Kinds:
        """Tell the rows apart by their flags.

        Parameters
        ----------
        embedded
            For every encoding, whether its calibration lines are part of the image.

        Raises
        ------
        InconsistentError
            If none makes an image, or one refers to an encoding that is not there.
        """
        free = np.ones(len(self._head), dtype=bool)

        def take(chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
            rows = np.flatnonzero(chosen & free)
            free[rows] = False
            return rows

        noise = take(self._has(ismrmrd.ACQ_IS_NOISE_MEASUREMENT))
        left_out = {name: len(take(self._has(*flags))) for name, flags in _LEFT_OUT.items()}
        self._check_encodings(np.flatnonzero(free), len(embedded))
        navigators = take(self._has(ismrmrd.ACQ_IS_PHASECORR_DATA))
        calibration = self._has(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
        calibration &= ~self._has(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
        references = np.minimum(self._head["encoding_space_ref"], len(embedded) - 1)
        separate = take(calibration & ~np.array(embedded)[references])
        imaging = np.flatnonzero(free)
        if not len(imaging):
            raise InconsistentError(
                f"{self._path} holds no imaging data: {len(free)} acquisitions, all of them noise, "
                "navigator or other scans."
            )
        return Kinds(imaging, separate, navigators, noise, left_out)

    def is_flat_stack(self, encoding: int, rows: NDArray[np.intp]) -> bool:
        """Whether rows of an encoding count several slices, but no partition."""
        idx = self._head["idx"][rows][self._head["encoding_space_ref"][rows] == encoding]
        return bool(len(np.unique(idx["slice"])) > 1 and not idx["kspace_encode_step_2"].any())

    def readouts(self, rows: NDArray[np.intp], encodings: Sequence[Encoding]) -> Iterator[Readout]:
        """Translate rows; positions on trajectories stay in the file's unit and order."""
        reverse = self._has(ismrmrd.ACQ_IS_REVERSE)
        for row in rows.tolist():
            head = self._head[row]
            encoding = encodings[int(head["encoding_space_ref"])]
            cartesian = encoding.trajectory in ("cartesian", "epi")
            samples = self.samples(row)
            center = int(head["center_sample"]) - int(head["discard_pre"])
            if cartesian and head["center_sample"] == 0 and samples.shape[1] == encoding.matrix[2]:
                center = encoding.matrix[2] // 2  # converters write 0 where they do not know
                if reverse[row]:
                    center = samples.shape[1] - 1 - center
            idx = head["idx"]
            yield Readout(
                data=samples,
                line=int(idx["kspace_encode_step_1"]),
                partition=int(idx["kspace_encode_step_2"]),
                center=center,
                pose=SlicePose(
                    *(head[name].astype(np.float64) for name in ("position", *_DIRECTIONS))
                ),
                **{name: int(idx[name]) for name in _COUNTERS},
                encoding=int(head["encoding_space_ref"]),
                reverse=bool(reverse[row]),
                dwell=float(head["sample_time_us"]),
                time=float(head["acquisition_time_stamp"]) * _TICK,
                trajectory=None if cartesian else self._trajectory(row),
            )

    def samples(self, row: int) -> NDArray[np.complex64]:
        """Complex ``(coils, samples)`` of one row, without the discarded ends.

        Raises
        ------
        InconsistentError
            If the row holds another number of samples than it says, or discards all.
        """
        head = self._head[row]
        coils, samples = int(head["active_channels"]), int(head["number_of_samples"])
        values = np.ascontiguousarray(self._data[row], dtype=np.float32)
        if coils < 1 or values.size != 2 * coils * samples:
            raise InconsistentError(
                f"{self._path}: acquisition {row} says {coils} coils x {samples} samples, but "
                f"holds {values.size / 2:g} complex numbers."
            )
        kept = self._kept(row)
        if kept.start >= kept.stop:
            raise InconsistentError(
                f"{self._path}: acquisition {row} discards all of its {samples} samples."
            )
        return values.view(np.complex64).reshape(coils, samples)[:, kept]

    def noise(
        self, rows: NDArray[np.intp], imaging: NDArray[np.intp], relative_bandwidth: float
    ) -> NoiseScan | None:
        """Lay the noise readouts end to end; those of the image's number of coils, if any are.

        Readouts of another bandwidth than the first are scaled to it.
        """
        if not len(rows):
            return None
        coils = int(self._head["active_channels"][imaging[0]])
        fitting = rows[self._head["active_channels"][rows] == coils]
        rows = fitting if len(fitting) else rows[:1]
        dwell = self._head["sample_time_us"][rows].astype(float)
        scale = np.sqrt(dwell / dwell[0]) if (dwell > 0).all() else np.ones(len(rows))
        parts = [
            self.samples(row) * np.float32(factor)
            for row, factor in zip(rows.tolist(), scale, strict=True)
        ]
        return NoiseScan(
            data=np.concatenate(parts, axis=1),
            dwell=float(dwell[0]),
            imaging_dwell=float(self._head["sample_time_us"][imaging[0]]),
            relative_bandwidth=relative_bandwidth,
            readouts=len(rows),
        )

    def _has(self, *flags: int) -> NDArray[np.bool_]:
        """Which rows carry any of the flags (MRD counts bits from 1)."""
        bits = np.uint64(sum(1 << (flag - 1) for flag in flags))
        found: NDArray[np.bool_] = (self._head["flags"].astype(np.uint64) & bits) != 0
        return found

    def _check_encodings(self, rows: NDArray[np.intp], count: int) -> None:
        references = self._head["encoding_space_ref"][rows]
        if len(references) and int(references.max()) >= count:
            raise InconsistentError(
                f"{self._path}: the readouts refer to encoding {int(references.max())}, the header "
                f"has {count}."
            )

    def _kept(self, row: int) -> slice:
        head = self._head[row]
        samples = int(head["number_of_samples"])
        return slice(int(head["discard_pre"]), samples - int(head["discard_post"]))

    def _trajectory(self, row: int) -> NDArray[np.float64] | None:
        """Read the positions of the kept samples, ``(samples, dimensions)``, x first."""
        head = self._head[row]
        dimensions, samples = int(head["trajectory_dimensions"]), int(head["number_of_samples"])
        if self._traj is None or not dimensions:
            return None
        values = np.asarray(self._traj[row], dtype=np.float64).reshape(-1)
        if values.size != dimensions * samples:
            raise InconsistentError(
                f"{self._path}: acquisition {row} says {samples} positions of {dimensions} "
                f"coordinates, but holds {values.size} numbers."
            )
        return values.reshape(samples, dimensions)[self._kept(row)]
