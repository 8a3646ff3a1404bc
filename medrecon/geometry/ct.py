"""CT geometries as frozen values, in the scanner's frame (LPS mm, rotation about +z).

For a view at angle ``a`` (rad) the source stands at ``R (sin a, -cos a, 0)``: above a supine
patient at 0, then moving to the patient's left.  Detector columns grow along
``u = (cos a, sin a, 0)``, rows along +z.  The centre of column ``c`` of ``n`` lies at
``(c - (n-1)/2) * spacing + offset`` along ``u`` from the foot of the central ray; rows likewise.
Parallel rays travel along ``(-sin a, cos a)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

from medrecon.errors import InconsistentError

_G = TypeVar("_G", "ParallelBeam", "FanBeam", "ConeBeam")


def equiangular(views: int, *, arc: float = 2 * math.pi, start: float = 0.0) -> tuple[float, ...]:
    """Spread ``views`` angles in rad over ``arc`` from ``start``, with its end left out."""
    if views < 1:
        raise InconsistentError(f"A scan needs at least one view, got {views}.")
    return tuple(start + arc * v / views for v in range(views))


def _select(geometry: _G, views: slice) -> _G:
    if not isinstance(views, slice):
        raise InconsistentError(
            f"Views are selected by a slice such as geometry[::2], got {views}."
        )
    return replace(geometry, angles=geometry.angles[views])


def _check(name: str, angles: tuple[float, ...], **positive: float) -> None:
    if not angles or not all(math.isfinite(a) for a in angles):
        raise InconsistentError(f"{name} needs at least one view and finite angles in rad.")
    for key, value in positive.items():
        if not (math.isfinite(value) and value > 0):
            raise InconsistentError(f"{name}.{key} must be positive, got {value}.")


@dataclass(frozen=True, kw_only=True)
class ParallelBeam:
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

    angles: tuple[float, ...]
    columns: int
    column_spacing: float
    column_offset: float = 0.0

    def __post_init__(self) -> None:
        _check("ParallelBeam", self.angles, columns=self.columns, spacing=self.column_spacing)

    def __getitem__(self, views: slice) -> ParallelBeam:
        return _select(self, views)


@dataclass(frozen=True, kw_only=True)
class FanBeam:
    """Fan beam with a flat detector, slice by slice.

    Parameters
    ----------
    angles
        View angles, rad.
    source_to_axis, source_to_detector
        Distances of the source from the rotation axis and from the detector line, mm.
    columns, column_spacing, column_offset
        Cells, their width and the shift of the detector's middle along +u, on the detector, mm.
    """

    angles: tuple[float, ...]
    source_to_axis: float
    source_to_detector: float
    columns: int
    column_spacing: float
    column_offset: float = 0.0

    def __post_init__(self) -> None:
        _check(
            "FanBeam",
            self.angles,
            source_to_axis=self.source_to_axis,
            source_to_detector=self.source_to_detector,
            columns=self.columns,
            column_spacing=self.column_spacing,
        )
        if self.source_to_detector <= self.source_to_axis:
            raise InconsistentError(
                f"FanBeam: the detector ({self.source_to_detector} mm from the source) must lie "
                f"beyond the rotation axis ({self.source_to_axis} mm)."
            )

    def __getitem__(self, views: slice) -> FanBeam:
        return _select(self, views)


@dataclass(frozen=True, kw_only=True)
class ConeBeam:
    """Circular cone beam with a flat detector.

    Parameters
    ----------
    angles
        View angles, rad.
    source_to_axis, source_to_detector
        Distances of the source from the rotation axis and from the detector plane, mm.
    rows, columns
        Detector cells.
    row_spacing, column_spacing
        Height and width of a cell on the detector, mm.
    row_offset, column_offset
        Shift of the detector's middle along +z and +u, mm.
    """

    angles: tuple[float, ...]
    source_to_axis: float
    source_to_detector: float
    rows: int
    columns: int
    row_spacing: float
    column_spacing: float
    row_offset: float = 0.0
    column_offset: float = 0.0

    def __post_init__(self) -> None:
        _check(
            "ConeBeam",
            self.angles,
            source_to_axis=self.source_to_axis,
            source_to_detector=self.source_to_detector,
            rows=self.rows,
            columns=self.columns,
            row_spacing=self.row_spacing,
            column_spacing=self.column_spacing,
        )
        if self.source_to_detector <= self.source_to_axis:
            raise InconsistentError(
                f"ConeBeam: the detector ({self.source_to_detector} mm from the source) must lie "
                f"beyond the rotation axis ({self.source_to_axis} mm)."
            )

    def __getitem__(self, views: slice) -> ConeBeam:
        return _select(self, views)


CTGeometry = ParallelBeam | FanBeam | ConeBeam
