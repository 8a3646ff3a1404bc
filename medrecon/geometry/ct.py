"""CT geometries in a scanner's own terms, as frozen values (LPS mm, rotation about +z).

For a view at angle ``a`` (rad) the source stands at ``R (sin a, -cos a, 0)``: above a supine
patient at 0, then moving to the patient's left.  Detector columns grow along
``u = (cos a, sin a, 0)``, rows along +z.  The centre of column ``c`` of ``n`` lies at
``(c - (n-1)/2) * spacing + offset`` along ``u`` from the foot of the central ray; rows likewise.
Parallel rays travel along ``(-sin a, cos a)``.

A detector is flat (``detector_radius`` infinite) or a part of a cylinder whose axis is parallel to
z, ``detector_radius`` from the foot of the central ray towards the source; columns and their
offset are then measured along the arc.  Third-generation CT has its radius at the source.

What the scanner's terms cannot say, :mod:`medrecon.geometry.vectors` says view by view.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from medrecon.errors import InconsistentError
from medrecon.geometry.base import Scan, Vector
from medrecon.geometry.frames import Frames, frames
from medrecon.geometry.vectors import ConeVectors, ParallelVectors


def equiangular(views: int, *, arc: float = 2 * math.pi, start: float = 0.0) -> tuple[float, ...]:
    """Spread ``views`` angles in rad over ``arc`` from ``start``, with its end left out."""
    if views < 1:
        raise InconsistentError(f"A scan needs at least one view, got {views}.")
    return tuple(start + arc * v / views for v in range(views))


@dataclass(frozen=True, kw_only=True, repr=False)
class _Turning(Scan):
    """Views at angles about the axis, and the columns of the detector."""

    PER_VIEW: ClassVar[tuple[str, ...]] = ("angles",)

    angles: tuple[float, ...]
    """View angles, rad."""
    column_spacing: float
    """Width of a cell on the detector, mm."""
    column_offset: float = 0.0
    """Shift of the detector's middle from the foot of the central ray along +u, mm."""

    def __post_init__(self) -> None:
        self._numbers("angles", unit="rad")
        self._scalars("column_spacing", "column_offset")
        self._positive("columns", "column_spacing")

    @property
    def _radial(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Unit vectors from the axis towards the source, ``(views, 3)``."""
        a = np.array(self.angles)
        return np.stack([np.sin(a), -np.cos(a), np.zeros_like(a)], -1)

    @property
    def _along_u(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        a = np.array(self.angles)
        return np.stack([np.cos(a), np.sin(a), np.zeros_like(a)], -1)

    @property
    def _column_of_foot(self) -> float:
        return (self.columns - 1) / 2 - self.column_offset / self.column_spacing

    def _parallel(self, v: float, r0: float, rows: int) -> Frames:
        return Frames(
            source=None,
            direction=-self._radial,
            foot=np.zeros((self.views, 3)),
            u=self.column_spacing * self._along_u,
            v=np.broadcast_to([0.0, 0.0, v], (self.views, 3)),
            normal=self._radial,
            c0=np.full(self.views, self._column_of_foot),
            r0=np.full(self.views, r0),
            radius=math.inf,
            rows=rows,
            columns=self.columns,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class _Divergent(_Turning):
    """Rays from a point that turns about the axis."""

    source_to_axis: float
    """Distance of the source from the rotation axis, mm."""
    source_to_detector: float
    """Distance of the source from the foot of the central ray on the detector, mm."""
    detector_radius: float = math.inf
    """Radius of a cylindrical detector, mm; infinite for a flat one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._scalars("source_to_axis", "source_to_detector", "detector_radius")
        self._positive("source_to_axis", "source_to_detector")
        name = type(self).__name__
        if self.source_to_detector <= self.source_to_axis:
            raise InconsistentError(
                f"{name}: the detector ({self.source_to_detector} mm from the source) must lie "
                f"beyond the rotation axis ({self.source_to_axis} mm)."
            )
        if self.detector_radius <= self.source_to_detector / 2:
            raise InconsistentError(
                f"{name}.detector_radius must exceed half the source-detector distance "
                f"({self.source_to_detector} mm) so that the source lies inside the circle, got "
                f"{self.detector_radius}."
            )
        reach = self.columns / 2 * self.column_spacing + abs(self.column_offset)
        if reach >= math.pi / 2 * self.detector_radius:
            raise InconsistentError(
                f"{name}: the detector reaches {reach:g} mm along its arc, a quarter of its circle "
                f"or more (radius {self.detector_radius:g} mm)."
            )

    def _diverging(
        self,
        v: float,
        r0: float,
        rows: int,
        lift: np.ndarray[Any, Any],
        shift: np.ndarray[Any, Any],
    ) -> Frames:
        foot = (self.source_to_axis - self.source_to_detector) * self._radial + lift
        return Frames(
            source=self.source_to_axis * self._radial + lift + shift,
            direction=None,
            foot=foot,
            u=self.column_spacing * self._along_u,
            v=np.broadcast_to([0.0, 0.0, v], (self.views, 3)),
            normal=self._radial,
            c0=np.full(self.views, self._column_of_foot),
            r0=np.full(self.views, r0),
            radius=self.detector_radius,
            rows=rows,
            columns=self.columns,
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class _Rows(Scan):
    """Rows of the detector, along +z."""

    rows: int
    """Detector cells along z."""
    row_spacing: float
    """Height of a cell on the detector, mm."""
    row_offset: float = 0.0
    """Shift of the detector's middle along +z, mm."""

    def _check_rows(self) -> None:
        self._scalars("row_spacing", "row_offset")
        self._positive("rows", "row_spacing")

    @property
    def _row_of_foot(self) -> float:
        return (self.rows - 1) / 2 - self.row_offset / self.row_spacing


@dataclass(frozen=True, kw_only=True, repr=False)
class ParallelBeam(_Turning):
    """Parallel rays, slice by slice.

    Parameters
    ----------
    angles
        View angles, rad.
    columns
        Detector cells per view.
    column_spacing
        Width of a cell, mm.
    column_offset
        Shift of the detector's middle from the rotation axis along +u, mm.
    """

    def frames(self) -> Frames:
        """Where rays and cells are, view by view, in the plane z = 0."""
        return self._parallel(1.0, 0.0, 1)


@dataclass(frozen=True, kw_only=True, repr=False)
class FanBeam(_Divergent):
    """Fan beam with a flat or an arc detector, slice by slice.

    Parameters
    ----------
    angles
        View angles, rad.
    source_to_axis, source_to_detector
        Distances of the source from the rotation axis and from the detector, mm.
    columns, column_spacing, column_offset
        Cells, their width and the shift of the detector's middle along +u, on the detector, mm.
    detector_radius
        Radius of an arc detector, mm, usually ``source_to_detector``; infinite: flat.
    """

    def frames(self) -> Frames:
        """Where rays and cells are, view by view, in the plane z = 0."""
        nothing = np.zeros((self.views, 3))
        return self._diverging(1.0, 0.0, 1, nothing, nothing)


@dataclass(frozen=True, kw_only=True, repr=False)
class ParallelBeam3D(_Turning, _Rows):
    """Parallel rays perpendicular to z on a detector with rows.

    Parameters
    ----------
    angles
        View angles, rad.
    rows, columns
        Detector cells.
    row_spacing, column_spacing
        Height and width of a cell, mm.
    row_offset, column_offset
        Shift of the detector's middle from the isocentre along +z and +u, mm.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_rows()

    def frames(self) -> Frames:
        """Where rays and cells are, view by view."""
        return self._parallel(self.row_spacing, self._row_of_foot, self.rows)

    def vectors(self) -> ParallelVectors:
        """Say the same scan view by view, to be tilted, shifted or jittered."""
        return ParallelVectors.from_frames(self.frames())


@dataclass(frozen=True, kw_only=True, repr=False)
class ConeBeam(_Divergent, _Rows):
    """Cone beam on a circle or a helix, with a flat or a cylindrical detector.

    Parameters
    ----------
    angles
        View angles, rad; over several turns they go on growing.
    source_to_axis, source_to_detector
        Distances of the source from the rotation axis and from the detector, mm.
    rows, columns
        Detector cells.
    row_spacing, column_spacing
        Height and width of a cell on the detector, mm.
    row_offset, column_offset
        Shift of the detector's middle along +z and +u, mm.
    detector_radius
        Radius of a cylindrical detector, mm, usually ``source_to_detector``; infinite: flat.
    heights
        z of the gantry (source and detector) over the patient for each view, mm; empty: 0.
    focal_shifts
        Deflection of the focal spot for each view as (tangential along +u, radial away from the
        axis, axial along +z), mm; the detector does not follow.  Empty: none.

    Examples
    --------
    >>> scanner = ConeBeam.helical(
    ...     pitch=38.4, turns=3, views_per_turn=8, source_to_axis=595.0, source_to_detector=1085.6,
    ...     detector_radius=1085.6, rows=64, columns=736, row_spacing=1.0947,
    ...     column_spacing=1.2858,
    ... )
    >>> scanner.views, round(scanner.heights[8] - scanner.heights[0], 3)
    (24, 38.4)
    """

    PER_VIEW: ClassVar[tuple[str, ...]] = ("angles", "heights", "focal_shifts")

    heights: tuple[float, ...] = ()
    focal_shifts: tuple[Vector, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_rows()
        self._numbers("heights", unit="mm")
        self._vectors("focal_shifts")

    @classmethod
    def helical(
        cls,
        *,
        pitch: float,
        turns: float,
        views_per_turn: int,
        start_angle: float = 0.0,
        middle: float = 0.0,
        **scanner: Any,
    ) -> Self:
        """Helix: the gantry climbs by ``pitch`` per turn, passing ``middle`` halfway.

        Parameters
        ----------
        pitch
            Table feed per turn, mm; negative: towards -z.  Its ratio to the height of the
            detector seen at the axis is the scanner's relative pitch.
        turns, views_per_turn
            How far and how densely.
        start_angle
            Angle of the first view, rad.
        middle
            z of the gantry at the middle of the scan, mm.
        scanner
            The other fields of :class:`ConeBeam`.
        """
        views = round(turns * views_per_turn)
        if views < 1 or not math.isfinite(pitch):
            raise InconsistentError(
                f"A helix needs a finite pitch and at least one view, got pitch {pitch} and "
                f"{turns} turns of {views_per_turn} views."
            )
        steps = [v / views_per_turn for v in range(views)]
        return cls(
            angles=tuple(start_angle + 2 * math.pi * s for s in steps),
            heights=tuple(middle + pitch * (s - steps[-1] / 2) for s in steps),
            **scanner,
        )

    def flying(self, pattern: Sequence[Vector]) -> Self:
        """Deflect the focal spot by the shifts of a pattern in turn, one per view.

        Parameters
        ----------
        pattern
            Shifts (tangential, radial, axial) in mm, repeated over the views.
        """
        if not pattern:
            raise InconsistentError("A flying focal spot needs a pattern of at least one shift.")
        return replace(
            self, focal_shifts=tuple(itertools.islice(itertools.cycle(pattern), self.views))
        )

    def frames(self) -> Frames:
        """Where rays and cells are, view by view."""
        lift = np.zeros((self.views, 3))
        if self.heights:
            lift[:, 2] = self.heights
        shift = np.zeros((self.views, 3))
        if self.focal_shifts:
            along, away, up = np.array(self.focal_shifts).T
            shift = along[:, None] * self._along_u + away[:, None] * self._radial
            shift[:, 2] += up
        return self._diverging(self.row_spacing, self._row_of_foot, self.rows, lift, shift)

    def vectors(self) -> ConeVectors:
        """Say the same scan view by view, to be tilted, shifted or jittered."""
        return ConeVectors.from_frames(self.frames())


SliceGeometry = ParallelBeam | FanBeam
"""Slices that do not see each other: measurements ``(z, views, columns)``."""

VolumeGeometry = ParallelBeam3D | ConeBeam | ConeVectors | ParallelVectors
"""A detector with rows: measurements ``(views, rows, columns)``."""

CTGeometry = SliceGeometry | VolumeGeometry

__all__ = [
    "CTGeometry",
    "ConeBeam",
    "ConeVectors",
    "FanBeam",
    "ParallelBeam",
    "ParallelBeam3D",
    "ParallelVectors",
    "SliceGeometry",
    "VolumeGeometry",
    "equiangular",
    "frames",
]
