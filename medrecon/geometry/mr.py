"""Where k-space was sampled: on the Cartesian grid, or along a trajectory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError


@dataclass(frozen=True, kw_only=True, eq=False)
class Cartesian:
    """Which samples of a centred Cartesian k-space were measured.

    The sample at index ``n // 2`` of every encoded axis is the centre of k-space.

    Parameters
    ----------
    mask
        Boolean; shape ``(y, x)`` for slice-wise 2D encoding with one pattern for all slices, or
        ``(z, y, x)`` for 3D encoding or for a pattern of its own in every slice.
    encoded
        How many axes are encoded by Fourier: 2 or 3; 0: as many as the mask has.
    times
        Time of every sample of a readout (along x) after the excitation's centre, s, ``(x,)``;
        ``None`` where not known. Needed for off-resonance only.

    Raises
    ------
    InconsistentError
        If the mask is not boolean, has other axes, or is empty (in one slice), or the times do
        not fit it.
    """

    mask: NDArray[np.bool_]
    encoded: int = 0
    times: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.mask.ndim not in (2, 3) or self.mask.dtype != np.bool_:
            raise InconsistentError(
                f"A Cartesian mask is boolean with 2 or 3 axes, got {self.mask.dtype} with shape "
                f"{self.mask.shape}."
            )
        object.__setattr__(self, "encoded", self.encoded or self.mask.ndim)
        if self.encoded not in (2, 3) or self.encoded > self.mask.ndim:
            raise InconsistentError(
                f"A Cartesian scan encodes 2 or 3 axes, and no more than its mask has "
                f"({self.mask.ndim}); got {self.encoded}."
            )
        if not self.mask.any():
            raise InconsistentError("The Cartesian mask is empty: no k-space sample was measured.")
        if self.is_per_slice and not self.mask.any(axis=(1, 2)).all():
            empty = int(np.flatnonzero(~self.mask.any(axis=(1, 2)))[0])
            raise InconsistentError(f"The mask of slice {empty} is empty: nothing was measured.")
        if self.times is not None and self.times.shape != self.mask.shape[-1:]:
            raise InconsistentError(
                f"Readouts of {self.mask.shape[-1]} samples need as many times, got "
                f"{self.times.shape}."
            )

    @property
    def is_3d(self) -> bool:
        """Whether all three axes are encoded (otherwise slice by slice)."""
        return self.encoded == 3

    @property
    def is_per_slice(self) -> bool:
        """Whether every slice has a pattern of its own."""
        return self.mask.ndim > self.encoded

    @property
    def coil_axis(self) -> int:
        """Where the coils stand: 1 in ``(z, coils, y, x)``, 0 in ``(coils, z, y, x)``."""
        return 0 if self.is_3d else 1

    @property
    def samples(self) -> NDArray[np.bool_]:
        """The mask with axes that broadcast to the measurements."""
        return self.mask[:, None] if self.is_per_slice else self.mask

    @property
    def acceleration(self) -> float:
        """Number of samples of full k-space over the number measured."""
        return float(self.mask.size / self.mask.sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class NonCartesian:
    """Where on a trajectory k-space was sampled: radial, spiral, stacks of them, or 3D.

    A position is given in **cycles per field of view**: the sample ``k`` multiplies the voxel at
    index ``j`` by ``exp(-2 pi i k (j - n // 2) / n)``, so integers are the samples of
    :class:`Cartesian`, 0 is the centre, and ``-n/2 <= k < n/2`` is what the grid can tell apart.
    The field of view is that of the image grid. Other libraries' units and orders of axes are
    converted in :mod:`medrecon.geometry.trajectory`.

    Measurements are ``(z, coils, shots, samples)`` for slice-wise encoding,
    ``(coils, z, shots, samples)`` for a stack (zero where a partition was not measured), and
    ``(coils, shots, samples)`` for a 3D trajectory.

    Parameters
    ----------
    trajectory
        float64 ``(shots, samples, 2)`` with the last axis ``(ky, kx)``, or ``(shots, samples, 3)``
        with ``(kz, ky, kx)``.
    partitions
        Boolean ``(z,)``: the stack's Cartesian steps along z that were measured, centre at
        ``z // 2``; ``None`` where z is not encoded, or is part of the trajectory.
    times
        Time of every sample after the excitation's centre, s, ``(samples,)``; ``None`` where not
        known. Needed for off-resonance only.

    Raises
    ------
    InconsistentError
        If shapes do not fit, or a position is not finite.
    """

    trajectory: NDArray[np.float64]
    partitions: NDArray[np.bool_] | None = None
    times: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        shape = self.trajectory.shape
        if len(shape) != 3 or shape[-1] not in (2, 3) or 0 in shape:
            raise InconsistentError(
                f"A trajectory has the shape (shots, samples, 2 or 3), got {shape}."
            )
        object.__setattr__(self, "trajectory", np.asarray(self.trajectory, dtype=np.float64))
        bad = ~np.isfinite(self.trajectory).all(axis=-1)
        if bad.any():
            shot, sample = (int(i) for i in np.argwhere(bad)[0])
            raise InconsistentError(
                f"{int(bad.sum())} positions of the trajectory are NaN or infinite, the first at "
                f"shot {shot}, sample {sample}."
            )
        if self.partitions is not None and (
            shape[-1] != 2 or self.partitions.ndim != 1 or not self.partitions.any()
        ):
            raise InconsistentError(
                "Partitions are a boolean (z,) with at least one measured step, and belong to a "
                "trajectory in the plane."
            )
        if self.times is not None and self.times.shape != shape[1:2]:
            raise InconsistentError(
                f"A trajectory of {shape[1]} samples needs as many times, got {self.times.shape}."
            )

    @property
    def is_3d(self) -> bool:
        """Whether z is encoded too (otherwise slice by slice)."""
        return self.partitions is not None or self.trajectory.shape[-1] == 3

    @property
    def is_stack(self) -> bool:
        """Whether z is encoded by Cartesian steps, apart from the trajectory."""
        return self.partitions is not None

    @property
    def coil_axis(self) -> int:
        """Where the coils stand in measurements and maps: 1 slice-wise, 0 where z is encoded."""
        return 0 if self.is_3d else 1

    @property
    def shots(self) -> int:
        """Number of spokes or interleaves."""
        return int(self.trajectory.shape[0])

    @property
    def samples_per_shot(self) -> int:
        """Number of samples of one shot."""
        return int(self.trajectory.shape[1])

    @cached_property
    def reach(self) -> tuple[float, ...]:
        """Largest ``|k|`` along each axis of the trajectory, cycles per field of view."""
        return tuple(float(r) for r in np.abs(self.trajectory).max(axis=(0, 1)))


MRGeometry = Cartesian | NonCartesian
