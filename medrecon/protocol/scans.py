"""The scanners a protocol can name: every kind of acquisition, in a scanner's own terms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_serializer, model_validator

from medrecon.protocol.mr import CartesianScan, NonCartesianScan
from medrecon.protocol.settings import Count, Finite, NonNegative, Positive, Settings

Shift = Annotated[tuple[Finite, Finite, Finite], Field(strict=False)]


class _Scan(Settings):
    photons: Positive | None = None
    """Unattenuated quanta per detector cell and view, for ``simulate``; null: no noise."""
    electronic_noise_quanta: NonNegative = 0.0
    """Deviation of the electronic noise in quanta, for ``simulate`` and the weights."""


class Columns(_Scan):
    """Columns of the detector."""

    columns: Count
    column_spacing_mm: Positive
    """On the detector; an arc length where the detector is curved."""
    column_offset_mm: Finite = 0.0
    """Shift of the detector's middle from the central ray, along the columns."""

    @model_validator(mode="after")
    def _columns_see_the_axis(self) -> Self:
        _offset_within(self.column_offset_mm, self.columns * self.column_spacing_mm, "column")
        return self


class Rows(Settings):
    """Rows of the detector, along +z."""

    rows: Count
    row_spacing_mm: Positive
    row_offset_mm: Finite = 0.0

    @model_validator(mode="after")
    def _rows_see_the_middle(self) -> Self:
        _offset_within(self.row_offset_mm, self.rows * self.row_spacing_mm, "row")
        return self


class Arc(Settings):
    """Views that divide an arc evenly."""

    views: Count
    arc_deg: Positive = 360.0
    """Arc that the views divide evenly; its end is left out."""
    start_deg: Finite = 0.0


class Divergent(Columns):
    """Rays from a focal spot onto a flat or curved detector."""

    source_to_axis_mm: Positive
    source_to_detector_mm: Positive
    detector_radius_mm: Positive | None = None
    """Radius of a detector curved in-plane; equal to source_to_detector_mm where it is focused on
    the source, as in clinical scanners. null: flat."""

    @model_validator(mode="after")
    def _detector_beyond_axis(self) -> Self:
        if self.source_to_detector_mm <= self.source_to_axis_mm:
            raise ValueError(
                f"source_to_detector_mm: {self.source_to_detector_mm:g} mm must exceed "
                f"source_to_axis_mm ({self.source_to_axis_mm:g} mm)"
            )
        return self

    @model_validator(mode="after")
    def _detector_wraps_less_than_half(self) -> Self:
        radius = self.detector_radius_mm
        if radius is None:
            return self
        if radius <= self.source_to_detector_mm / 2:
            raise ValueError(
                f"detector_radius_mm: {radius:g} mm must exceed half of source_to_detector_mm "
                f"({self.source_to_detector_mm:g} mm), null is a flat detector"
            )
        half = self.columns * self.column_spacing_mm / 2 + abs(self.column_offset_mm)
        reach = half / radius
        if reach >= math.pi / 2:
            raise ValueError(
                f"detector_radius_mm: the detector reaches {math.degrees(reach):.0f} degrees "
                f"around its centre at {radius:g} mm, it has to stay below 90"
            )
        return self


class FocalSpot(Settings):
    """A focal spot that is deflected from view to view."""

    focal_spot_mm: Annotated[tuple[Shift, ...], Field(strict=False, max_length=64)] = ()
    """Flying focal spot: shifts (tangential, radial, axial) that repeat from view to view, the
    detector staying where it is."""


def _offset_within(offset: float, width: float, axis: str) -> None:
    if abs(offset) >= width / 2:
        raise ValueError(
            f"{axis}_offset_mm: {offset:g} mm moves the detector ({width:g} mm) off the central ray"
        )


class ParallelScan(Columns, Arc):
    """Parallel beam, slice by slice."""

    kind: Literal["parallel"]


class ParallelRowsScan(Rows, Columns, Arc):
    """Parallel beam onto a detector with rows."""

    kind: Literal["parallel3d"]


class FanScan(Divergent, Arc):
    """Fan beam, flat or curved detector, slice by slice."""

    kind: Literal["fan"]


class ConeScan(FocalSpot, Divergent, Rows, Arc):
    """Cone beam on a circle or a part of it, flat or curved detector."""

    kind: Literal["cone"]


class HelicalScan(FocalSpot, Divergent, Rows):
    """Cone beam on a helix around z whose middle is the middle of the scanner."""

    kind: Literal["helical"]
    pitch_mm: Finite
    """Table feed per turn: how far the source climbs along +z (negative: falls)."""
    turns: Positive
    views_per_turn: Count
    start_deg: Finite = 0.0

    @model_validator(mode="after")
    def _climbs(self) -> Self:
        if self.pitch_mm == 0:
            raise ValueError("pitch_mm: 0 mm is no helix, use kind: cone")
        if self.turns * self.views_per_turn > 1_000_000:
            raise ValueError("turns: more than a million views")
        return self


class VectorsScan(_Scan):
    """Cone beam whose every view has a projection matrix of its own, as of a C-arm."""

    kind: Literal["vectors"]
    matrices_file: str
    """Text file of 3x4 matrices, one view a line, LPS mm to (column, row, 1) times a factor;
    its path is meant relative to the protocol file."""
    source_to_detector_mm: Positive
    rows: Count
    columns: Count

    @field_serializer("matrices_file", when_used="json")
    def _name_only(self, value: str) -> str:
        return Path(value).name  # records of a run tell no folders


CTScan = ParallelScan | ParallelRowsScan | FanScan | ConeScan | HelicalScan | VectorsScan
MRScan = CartesianScan | NonCartesianScan
Scan = Annotated[CTScan | MRScan, Field(discriminator="kind")]
