"""CT geometries said view by view: any source path, any detector pose, and how to move them.

Start from a scanner's own terms (``ConeBeam(...).vectors()``) or from projection matrices, then
compose: ``geometry.translated(...).rotated(...).detector_turned(...)``; each step is a new value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry.base import Scan, Vector, vector
from medrecon.geometry.frames import Frames, unit

Array = NDArray[np.float64]

_SMALLEST_SINE = 1e-3  # of the angle between rows and columns, or between a ray and the detector


def _tuples(rows: NDArray[np.float64]) -> tuple[Vector, ...]:
    return tuple(vector(row) for row in rows.tolist())


def _rotation(axis: Array, angle: Array) -> Array:
    """Rodrigues' matrices ``(n, 3, 3)`` of unit axes ``(n, 3)`` and angles ``(n,)`` in rad."""
    x, y, z = axis.T
    zero = np.zeros_like(x)
    K = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
    s, c = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.asarray(np.eye(3) + s * K + (1 - c) * (K @ K))


@dataclass(frozen=True, kw_only=True, repr=False)
class _Vectors(Scan):
    """A detector pose for every view."""

    BEAM: ClassVar[str]  # the field that says where rays come from

    detectors: tuple[Vector, ...]
    """Position of the detector's middle for each view, LPS mm."""
    column_steps: tuple[Vector, ...]
    """Step from one column to the next at the detector's middle, mm."""
    row_steps: tuple[Vector, ...]
    """Step from one row to the next, mm."""
    rows: int
    """Detector cells along the row steps."""

    def __post_init__(self) -> None:
        for name in self.PER_VIEW:
            self._vectors(name)
        self._positive("rows", "columns")
        u, v = np.array(self.column_steps), np.array(self.row_steps)
        area = np.linalg.norm(np.cross(u, v), axis=1)
        sizes = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
        if not (area > _SMALLEST_SINE * sizes).all():
            bad = int(np.argmin(area > _SMALLEST_SINE * sizes))
            raise InconsistentError(
                f"{type(self).__name__}: rows and columns of view {bad} are parallel or have no "
                "length; check column_steps and row_steps."
            )

    def translated(self, by: Vector | Sequence[Vector]) -> Self:
        """Move source and detector by a vector, or by one per view (jitter); LPS mm."""
        shift = np.broadcast_to(np.array(by, np.float64), (self.views, 3))
        moved: dict[str, Any] = {"detectors": _tuples(np.array(self.detectors) + shift)}
        if self.BEAM == "sources":
            moved["sources"] = _tuples(np.array(getattr(self, self.BEAM)) + shift)
        return replace(self, **moved)

    def rotated(self, axis: Vector, angle: float | Sequence[float]) -> Self:
        """Turn the whole scanner about an axis through the origin by rad (or rad per view).

        A gantry tilt is a turn about x.
        """
        R = _rotation(
            np.broadcast_to(unit(np.array(axis, np.float64)), (self.views, 3)),
            np.broadcast_to(np.asarray(angle, np.float64), (self.views,)),
        )
        turned: dict[str, Any] = {
            name: _tuples(np.einsum("vij,vj->vi", R, np.array(getattr(self, name))))
            for name in self.PER_VIEW
        }
        return replace(self, **turned)

    def detector_shifted(self, *, columns: ArrayLike = 0.0, rows: ArrayLike = 0.0) -> Self:
        """Move the detector along its rows and columns by mm, the same or one per view."""
        across = np.broadcast_to(np.asarray(columns, np.float64), (self.views,))[:, None]
        up = np.broadcast_to(np.asarray(rows, np.float64), (self.views,))[:, None]
        shift = across * unit(np.array(self.column_steps)) + up * unit(np.array(self.row_steps))
        return replace(self, detectors=_tuples(np.array(self.detectors) + shift))

    def detector_turned(
        self, *, in_plane: ArrayLike = 0.0, tilt: ArrayLike = 0.0, slant: ArrayLike = 0.0
    ) -> Self:
        """Turn the detector about its middle, by rad, the same or one per view.

        ``in_plane`` turns it about its normal (skew), ``tilt`` about its rows' direction u,
        ``slant`` about its columns' direction v; in this order, right-handed.
        """
        u, v = np.array(self.column_steps), np.array(self.row_steps)
        turns = (
            (unit(np.cross(u, v)), in_plane),
            (unit(u), tilt),
            (unit(v), slant),
        )
        for axis, angle in turns:
            R = _rotation(axis, np.broadcast_to(np.asarray(angle, np.float64), (self.views,)))
            u, v = np.einsum("vij,vj->vi", R, u), np.einsum("vij,vj->vi", R, v)
        return replace(self, column_steps=_tuples(u), row_steps=_tuples(v))

    def _poses(self, towards: Array) -> dict[str, Any]:
        """Fields of :class:`Frames` that do not depend on the beam; ``towards`` the source."""
        u, v = np.array(self.column_steps), np.array(self.row_steps)
        normal = unit(np.cross(u, v))
        facing = (normal * unit(towards)).sum(1)
        if not (np.abs(facing) > _SMALLEST_SINE).all():
            bad = int(np.argmin(np.abs(facing)))
            raise InconsistentError(
                f"{type(self).__name__}: in view {bad} the rays run along the detector; check its "
                "steps."
            )
        return {
            "foot": np.array(self.detectors),
            "u": u,
            "v": v,
            "normal": normal * np.sign(facing)[:, None],
            "c0": np.full(self.views, (self.columns - 1) / 2),
            "r0": np.full(self.views, (self.rows - 1) / 2),
        }


@dataclass(frozen=True, kw_only=True, repr=False)
class ConeVectors(_Vectors):
    """Cone beam with any source path and any detector pose.

    Parameters
    ----------
    sources
        Focal spot of each view, LPS mm.
    detectors
        Middle of the detector, index ``((rows - 1) / 2, (columns - 1) / 2)``, of each view, mm.
    column_steps, row_steps
        Vectors from one cell to the next at the middle, mm.
    rows, columns
        Detector cells.
    detector_radius
        Radius of a detector that is bent along its rows (its axis along the row steps, on the
        source's side), mm; infinite: flat.
    """

    PER_VIEW: ClassVar[tuple[str, ...]] = ("sources", "detectors", "column_steps", "row_steps")
    BEAM: ClassVar[str] = "sources"

    sources: tuple[Vector, ...]
    detector_radius: float = math.inf

    def __post_init__(self) -> None:
        super().__post_init__()
        self._scalars("detector_radius")
        if self.detector_radius <= 0:
            raise InconsistentError(
                f"ConeVectors.detector_radius must be positive, got {self.detector_radius}."
            )
        self.frames()

    @classmethod
    def from_frames(cls, frames: Frames) -> Self:
        """Take the poses of any divergent geometry."""
        if frames.source is None:
            raise InconsistentError("Parallel rays have no source; use ParallelVectors.")
        return cls(sources=_tuples(frames.source), detector_radius=frames.radius, **_pose(frames))

    @classmethod
    def from_matrices(
        cls, matrices: ArrayLike, *, rows: int, columns: int, source_to_detector: float
    ) -> Self:
        """Scanner of projection matrices, as C-arms are calibrated.

        Parameters
        ----------
        matrices
            ``(views, 3, 4)``: ``(c w, r w, w) = P (x, y, z, 1)`` for LPS mm and the index of
            column and row, from 0; the sign of each P does not matter.
        rows, columns
            Detector cells.
        source_to_detector
            Distance in mm at which the detector is put; the rays do not depend on it.

        Raises
        ------
        InconsistentError
            If a matrix is not finite or of no rank 3, or the origin lies in the source's plane.
        """
        P = np.array(matrices, np.float64)
        if P.ndim != 3 or P.shape[1:] != (3, 4) or not np.isfinite(P).all():
            raise InconsistentError(
                f"Projection matrices must be finite, of shape (views, 3, 4), got {P.shape}."
            )
        M, depth = P[:, :, :3], np.linalg.norm(P[:, 2, :3], axis=1)
        scale = np.linalg.norm(P.reshape(len(P), -1), axis=1)
        flat = np.abs(np.linalg.det(M)) <= 1e-12 * scale * scale * depth
        if (flat | (depth == 0) | (P[:, 2, 3] == 0)).any():
            bad = int(np.argmax(flat | (depth == 0) | (P[:, 2, 3] == 0)))
            raise InconsistentError(
                f"The projection matrix of view {bad} is degenerate: it has no focal point, or the "
                "isocentre has no depth."
            )
        inverse = np.linalg.inv(M)
        source = -np.einsum("vij,vj->vi", inverse, P[:, :, 3])
        # The ray of (c, r) runs along M^-1 (c, r, 1), whose depth below the source is 1/depth; the
        # sign of P makes the isocentre lie before the source.
        forward = np.sign(P[:, 2, 3]) * source_to_detector * depth
        rays = forward[:, None, None] * inverse
        middle = np.array([(columns - 1) / 2, (rows - 1) / 2, 1.0])
        return cls(
            sources=_tuples(source),
            detectors=_tuples(source + rays @ middle),
            column_steps=_tuples(rays[:, :, 0]),
            row_steps=_tuples(rays[:, :, 1]),
            rows=rows,
            columns=columns,
        )

    def matrices(self) -> Array:
        """Projection matrices ``(views, 3, 4)`` to ``(c w, r w, w)``, w growing from the source.

        Raises
        ------
        InconsistentError
            If the detector is curved: no matrix projects onto a cylinder.
        """
        if math.isfinite(self.detector_radius):
            raise InconsistentError("A curved detector has no projection matrices.")
        f = self.frames()
        first = f.cells(0, 0) - np.array(self.sources)
        M = np.linalg.inv(np.stack([f.u, f.v, first], -1))
        return np.concatenate(
            [M, -np.einsum("vij,vj->vi", M, np.array(self.sources))[..., None]], -1
        )

    def frames(self) -> Frames:
        """Where rays and cells are, view by view."""
        sources = np.array(self.sources)
        return Frames(
            source=sources,
            direction=None,
            radius=self.detector_radius,
            rows=self.rows,
            columns=self.columns,
            **self._poses(sources - np.array(self.detectors)),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class ParallelVectors(_Vectors):
    """Parallel rays of any direction on a flat detector of any pose.

    Parameters
    ----------
    directions
        Along which the rays of each view travel; of any length.
    detectors
        Middle of the detector, index ``((rows - 1) / 2, (columns - 1) / 2)``, of each view, mm.
    column_steps, row_steps
        Vectors from one cell to the next, mm.
    rows, columns
        Detector cells.
    """

    PER_VIEW: ClassVar[tuple[str, ...]] = ("directions", "detectors", "column_steps", "row_steps")
    BEAM: ClassVar[str] = "directions"

    directions: tuple[Vector, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (np.linalg.norm(np.array(self.directions), axis=1) > 0).all():
            raise InconsistentError("ParallelVectors.directions must not be zero.")
        self.frames()

    @classmethod
    def from_frames(cls, frames: Frames) -> Self:
        """Take the poses of any parallel geometry."""
        if frames.direction is None:
            raise InconsistentError("Rays from a source are not parallel; use ConeVectors.")
        return cls(directions=_tuples(frames.direction), **_pose(frames))

    def frames(self) -> Frames:
        """Where rays and cells are, view by view."""
        directions = unit(np.array(self.directions))
        return Frames(
            source=None,
            direction=directions,
            radius=math.inf,
            rows=self.rows,
            columns=self.columns,
            **self._poses(-directions),
        )


def _pose(frames: Frames) -> dict[str, Any]:
    """Detector fields at the array's middle; on a cylinder its rows turn with the arc."""
    middle = frames.cells((frames.rows - 1) / 2, (frames.columns - 1) / 2)
    u = frames.u
    if frames.is_curved:
        width = np.linalg.norm(u, axis=1, keepdims=True)
        angle = ((frames.columns - 1) / 2 - frames.c0)[:, None] * width / frames.radius
        u = np.cos(angle) * u + np.sin(angle) * width * frames.normal
    return {
        "detectors": _tuples(middle),
        "column_steps": _tuples(u),
        "row_steps": _tuples(np.asarray(frames.v)),
        "rows": frames.rows,
        "columns": frames.columns,
    }
