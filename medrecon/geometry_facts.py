"""A geometry in words and numbers, mm and degrees, as plain values for JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medrecon.geometry import ConeBeam, CTGeometry, MRGeometry, SliceGeometry
from medrecon.geometry.field import field_of_view
from medrecon.sampling_facts import sampling_facts
from medrecon.scanner import kind_of

_LENGTHS = (
    "source_to_axis",
    "source_to_detector",
    "row_spacing",
    "row_offset",
    "column_spacing",
    "column_offset",
)


def geometry_facts(geometry: CTGeometry | MRGeometry) -> dict[str, Any]:
    """Describe how measurements were taken."""
    if isinstance(geometry, MRGeometry):
        return sampling_facts(geometry)
    facts: dict[str, Any] = {"kind": kind_of(geometry), "views": geometry.views}
    angles = getattr(geometry, "angles", None)
    if angles is not None:
        first, last = math.degrees(angles[0]), math.degrees(angles[-1])
        facts |= {"first_angle_deg": round(first, 4), "last_angle_deg": round(last, 4)}
    else:
        facts |= _path(geometry)
    if isinstance(geometry, ConeBeam):
        facts |= _helix(geometry) | _focal_spot(geometry)
    facts |= {name: getattr(geometry, name) for name in ("rows", "columns") if _has(geometry, name)}
    facts |= {f"{n}_mm": round(getattr(geometry, n), 6) for n in _LENGTHS if _has(geometry, n)}
    if _has(geometry, "detector_radius"):
        radius = geometry.frames().radius
        facts["detector"] = "flat" if math.isinf(radius) else f"curved, radius {radius:g} mm"
    return facts | _field(geometry)


def _has(geometry: CTGeometry, name: str) -> bool:
    return hasattr(geometry, name)


def _path(geometry: CTGeometry) -> dict[str, Any]:
    """Tell how far the source of per-view vectors stands from the axis, and where it goes."""
    frame = geometry.frames()
    if frame.source is None:
        return {"rays": "parallel"}
    radius = np.hypot(frame.source[:, 0], frame.source[:, 1])
    angles = np.unwrap(np.arctan2(frame.source[:, 0], -frame.source[:, 1]))
    return {
        "first_angle_deg": round(math.degrees(angles[0]), 4),
        "last_angle_deg": round(math.degrees(angles[-1]), 4),
        "source_to_axis_least_mm": round(float(radius.min()), 3),
        "source_to_axis_most_mm": round(float(radius.max()), 3),
    }


def _helix(geometry: ConeBeam) -> dict[str, Any]:
    """Tell turns and pitch from the ends of the scan."""
    if len(set(geometry.heights)) < 2:
        return {}
    turned = (geometry.angles[-1] - geometry.angles[0]) / (2 * math.pi)
    climbed = geometry.heights[-1] - geometry.heights[0]
    if turned == 0:
        return {}
    pitch = climbed / abs(turned)
    seen = geometry.rows * geometry.row_spacing
    at_axis = seen * geometry.source_to_axis / geometry.source_to_detector
    return {
        "turns": round(abs(turned) * geometry.views / max(1, geometry.views - 1), 4),
        "pitch_mm": round(pitch, 4),
        "relative_pitch": round(abs(pitch) / at_axis, 4),
    }


def _focal_spot(geometry: ConeBeam) -> dict[str, Any]:
    distinct = list(dict.fromkeys(geometry.focal_shifts))
    if not distinct or distinct == [(0.0, 0.0, 0.0)]:
        return {}
    spans = np.ptp(np.array(distinct), axis=0)
    return {
        "focal_spot_positions": len(distinct),
        "focal_spot_span_mm": [round(float(s), 4) for s in spans],
    }


def _field(geometry: CTGeometry) -> dict[str, Any]:
    field = field_of_view(geometry)
    facts: dict[str, Any] = {"field_of_view_radius_mm": round(field.radius, 3)}
    if field.radius_of_both_sides < 0.99 * field.radius:
        facts["seen_by_both_sides_mm"] = round(field.radius_of_both_sides, 3)
    if not isinstance(geometry, SliceGeometry):
        facts["field_of_view_from_z_mm"] = round(field.low, 3)
        facts["field_of_view_to_z_mm"] = round(field.high, 3)
    return facts
