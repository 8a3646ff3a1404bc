"""Spokes and interleaves of one image: sorted, compared between slices, averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.raw.images import Image
from medrecon.raw.scan import Complex, Encoding, Readout

_SAME = 1e-4  # of the trajectory's reach: positions this close are the same

Plane = tuple[int, int]
"""Counter of the slice, and place of the partition along z (0 where none are encoded)."""


@dataclass(frozen=True, kw_only=True)
class Shots:
    """All readouts of an image along one trajectory.

    Parameters
    ----------
    planes
        Readouts of every plane, in the order of the trajectory, one average after the other.
    trajectory
        ``(shots, samples, 2 or 3)`` of one average, cycles per encoded field of view.
    averages
        How often it was measured.
    """

    planes: Mapping[Plane, Sequence[Readout]]
    trajectory: NDArray[np.float64]
    averages: int

    @property
    def is_stack(self) -> bool:
        """Whether the trajectory lies in the plane (z, if encoded, by Cartesian steps)."""
        return int(self.trajectory.shape[-1]) == 2

    def mean(self, plane: Plane) -> Complex:
        """Averaged samples of one plane, ``(coils, shots, samples)``."""
        data = np.stack([readout.data for readout in self.planes[plane]], axis=1)
        coils, _, samples = data.shape
        split = data.reshape(coils, self.averages, -1, samples)
        mean: Complex = split.mean(axis=1)
        return mean


def shots_of(image: Image, path: Path) -> Shots:
    """Sort the readouts of an image.

    Readouts are ordered by average, segment and line; those of all slices (or partitions) must
    run along the same trajectory. Averages along one trajectory are averaged, others kept apart.

    Raises
    ------
    InconsistentError
        If positions are missing, not finite, or not the same in all planes.
    """
    encoding = image.encoding
    readouts = _in_plane(image.readouts, encoding, path)
    planes: dict[Plane, list[Readout]] = defaultdict(list)
    flat = _columns(readouts[0]) == 2
    for number, readout in enumerate(readouts):
        z = _partition(readout, encoding, number, path) if encoding.is_3d and flat else 0
        planes[readout.slice, z].append(readout)
    for shots in planes.values():
        shots.sort(key=lambda r: (r.average, r.partition, r.segment, r.line))
    trajectory = _common_trajectory(planes, path)
    first = next(iter(planes.values()))
    averages = len({readout.average for readout in first})
    if averages > 1:
        parts = (
            trajectory.reshape(averages, -1, *trajectory.shape[1:])
            if not (len(trajectory) % averages)
            else trajectory[None]
        )
        if len(parts) == averages and all(_same(part, parts[0]) for part in parts):
            return Shots(planes=planes, trajectory=parts[0], averages=averages)
    return Shots(planes=planes, trajectory=trajectory, averages=1)


def _positions(readout: Readout) -> NDArray[np.float64]:
    assert readout.trajectory is not None  # _in_plane has refused those without
    return readout.trajectory


def _columns(readout: Readout) -> int:
    return int(_positions(readout).shape[1])


def _in_plane(readouts: Sequence[Readout], encoding: Encoding, path: Path) -> list[Readout]:
    """Drop the column of kz where z is not encoded, or by the partition's counter only."""
    for readout in readouts:
        k = readout.trajectory
        wanted = readout.data.shape[1]
        if k is None or k.ndim != 2 or k.shape[0] != wanted or k.shape[1] not in (2, 3):
            shape = "none" if k is None else f"an array of shape {k.shape}"
            raise InconsistentError(
                f"{path}: a {encoding.trajectory} readout of {wanted} samples (slice "
                f"{readout.slice}, line {readout.line}) needs as many positions, but has {shape}."
            )
    if len({_columns(readout) for readout in readouts}) > 1:
        raise InconsistentError(f"{path}: some readouts have 2 coordinates, others 3.")
    if _columns(readouts[0]) == 2:
        return list(readouts)
    if encoding.is_3d and any(_positions(readout)[:, 0].any() for readout in readouts):
        return list(readouts)
    return [replace(readout, trajectory=_positions(readout)[:, 1:]) for readout in readouts]


def _partition(readout: Readout, encoding: Encoding, number: int, path: Path) -> int:
    z = encoding.matrix[0] // 2 + readout.partition - encoding.center[0]
    if not 0 <= z < encoding.matrix[0]:
        raise InconsistentError(
            f"{path}: imaging readout {number} has the partition {readout.partition}, outside the "
            f"{encoding.matrix[0]} encoded with their centre at {encoding.center[0]}."
        )
    return z


def _common_trajectory(
    planes: Mapping[Plane, Sequence[Readout]], path: Path
) -> NDArray[np.float64]:
    common: NDArray[np.float64] | None = None
    for (number, partition), shots in planes.items():
        own = np.stack([_positions(shot) for shot in shots])
        if not np.isfinite(own).all():
            raise InconsistentError(
                f"{path}: the trajectory of slice {number} has positions that are NaN or infinite."
            )
        if common is None:
            common = own
        elif own.shape != common.shape or not _same(own, common):
            raise InconsistentError(
                f"{path}: the spokes of slice {number}, partition {partition} ({len(own)}) are not "
                f"those of the first slice ({len(common)}); all slices and partitions must be "
                "sampled along the same trajectory."
            )
    assert common is not None  # an image has readouts
    return common


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    reach = float(np.abs(b).max())
    return bool(np.abs(a - b).max() <= _SAME * max(reach, 1.0))
