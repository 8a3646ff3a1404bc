"""From an array of k-space and what is known of it to a study; all readers of arrays end here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.grid import Grid
from medrecon.raw.plausible import Complex, live_coils, require_finite, warn_of_spikes
from medrecon.study import Identity, Study

_CARTESIAN = {False: "z, coil, y, x", True: "coil, z, y, x"}
_ALONG = {False: "z, coil, shot, sample", True: "coil, z, shot, sample"}


@dataclass(frozen=True, kw_only=True)
class KspaceArray:
    """An array of k-space, in the layout of :class:`~medrecon.study.Study`.

    Parameters
    ----------
    kspace
        Complex; Cartesian ``(z, coils, y, x)`` or, for 3D encoding, ``(coils, z, y, x)``; along a
        trajectory as :class:`~medrecon.geometry.NonCartesian` says. Samples that are exactly zero
        in all coils were not measured (on the Cartesian grid and for partitions of a stack).
    is_3d
        Whether z is encoded.
    grid
        The volume to reconstruct.
    path
        The file, named in errors.
    trajectory
        Positions of the samples, ``(shots, samples, 2 or 3)``; ``None``: Cartesian.
    sampled
        Which samples were measured, broadcastable to ``kspace`` without its coils; ``None``:
        those that are not zero.
    maps
        Coil sensitivities in the layout of :class:`~medrecon.study.Study`.
    noise_std, label, reference, identity, facts
        As in :class:`~medrecon.study.Study`.
    """

    kspace: NDArray[Any]
    is_3d: bool
    grid: Grid
    path: Path
    trajectory: NDArray[np.float64] | None = None
    sampled: NDArray[np.bool_] | None = None
    maps: NDArray[Any] | None = None
    noise_std: float | None = None
    label: str = ""
    reference: NDArray[np.float32] | None = None
    identity: Identity = field(default_factory=Identity)
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def study(self) -> Study:
        """Check the samples, find out which were measured, and leave dead coils out.

        Raises
        ------
        InconsistentError
            If samples are not finite, too many coils are dead, or maps do not fit.

        Warns
        -----
        UserWarning
            Where a dead coil is left out, or a spike is seen.
        """
        axis = 0 if self.is_3d else 1
        names = (_CARTESIAN if self.trajectory is None else _ALONG)[self.is_3d]
        if self.kspace.ndim == 3:
            names = "coil, shot, sample"
        require_finite(self.kspace, self.path, names)
        kspace: Complex = np.array(self.kspace, dtype=np.complex64, order="C")
        others = tuple(a for a in range(kspace.ndim) if a != axis)
        coils = live_coils(np.abs(kspace).sum(axis=others), self.path)
        if len(coils) < kspace.shape[axis]:
            kspace = kspace.take(coils, axis=axis)
        geometry = self._geometry(kspace, axis)
        if isinstance(geometry, Cartesian):
            warn_of_spikes(kspace, self.path)
        return Study(
            measurements=torch.from_numpy(kspace),
            geometry=geometry,
            grid=self.grid,
            noise_std=self.noise_std,
            identity=self.identity,
            source=self.path,
            reference=None if self.reference is None else torch.from_numpy(self.reference),
            label=self.label,
            maps=self._maps(coils, axis, self.kspace.shape[axis]),
            facts=self.facts,
        )

    def _geometry(self, kspace: Complex, axis: int) -> MRGeometry:
        if self.trajectory is None:
            sampled = (kspace != 0).any(axis=axis)
            if self.sampled is not None:
                sampled = np.broadcast_to(self.sampled, sampled.shape).copy()
                np.multiply(kspace, np.expand_dims(sampled, axis), out=kspace)
            if not self.is_3d and (sampled == sampled[0]).all():
                sampled = sampled[0]
            return Cartesian(mask=sampled, encoded=3 if self.is_3d else 2)
        wanted = self.trajectory.shape[:2]
        if kspace.shape[-2:] != wanted:
            raise InconsistentError(
                f"{self.path}: the trajectory has (shots, samples) = {wanted}, the k-space "
                f"{kspace.shape[-2:]}."
            )
        stack = self.is_3d and kspace.ndim == 4
        partitions = (kspace != 0).any(axis=(0, 2, 3)) if stack else None
        return NonCartesian(trajectory=self.trajectory, partitions=partitions)

    def _maps(self, coils: NDArray[np.intp], axis: int, total: int) -> torch.Tensor | None:
        if self.maps is None:
            return None
        expected = list(self.grid.shape)
        expected.insert(axis, total)
        if list(self.maps.shape[-4:]) != expected or self.maps.ndim not in (4, 5):
            raise InconsistentError(
                f"{self.path}: the coil maps have the shape {self.maps.shape}, but {expected} is "
                f"needed ({_CARTESIAN[self.is_3d]}), with a leading axis where there are several "
                "sets."
            )
        require_finite(self.maps, self.path, "coil maps")
        kept = self.maps.take(coils, axis=self.maps.ndim - 4 + axis)
        if kept.ndim == 5 and len(kept) == 1:
            kept = kept[0]
        return torch.from_numpy(np.ascontiguousarray(kept, dtype=np.complex64))


def matrix_within_reach(trajectory: NDArray[np.float64]) -> tuple[int, ...]:
    """Smallest even matrix, in array order, whose k-space holds all positions.

    >>> matrix_within_reach(np.array([[[0.0, -3.5], [2.0, 3.0]]]))
    (4, 8)
    """
    reach = np.abs(trajectory).max(axis=(0, 1))
    return tuple(max(1, 2 * math.ceil(round(float(r), 3))) for r in reach)
