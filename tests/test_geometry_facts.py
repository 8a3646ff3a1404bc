"""What a geometry says of itself: field of view, numbers for people, and its picture."""

import math
from typing import Any

import numpy as np
import pytest

from medrecon.geometry import ConeBeam, FanBeam, ParallelBeam
from medrecon.geometry.ct import equiangular
from medrecon.geometry.field import field_of_view
from medrecon.geometry_facts import geometry_facts
from medrecon.grid import Grid

PANEL: dict[str, Any] = dict(
    source_to_axis=1000.0, source_to_detector=1500.0, rows=20, row_spacing=6.0,
    columns=50, column_spacing=6.0,
)  # fmt: skip
CIRCLE = ConeBeam(angles=equiangular(24), **PANEL)
HELIX = ConeBeam.helical(
    pitch=40.0, turns=3, views_per_turn=24, detector_radius=1500.0, **PANEL
).flying([(0.5, 0.0, 0.3), (-0.5, 0.0, -0.3)])


def test_a_flat_detector_sees_the_tangent_of_its_outermost_ray():
    field = field_of_view(CIRCLE)
    assert field.radius == pytest.approx(1000 * math.sin(math.atan(150 / 1500)))
    assert field.radius_of_both_sides == pytest.approx(field.radius)
    assert (field.low, field.high) == pytest.approx((-40, 40), rel=1e-3)


def test_a_curved_detector_sees_the_angle_of_its_arc():
    fan = FanBeam(
        angles=equiangular(8), source_to_axis=600.0, source_to_detector=1000.0,
        columns=100, column_spacing=5.0, detector_radius=1000.0,
    )  # fmt: skip
    assert field_of_view(fan).radius == pytest.approx(600 * math.sin(0.25))


def test_an_offset_detector_sees_far_on_one_side_only():
    half = ConeBeam(angles=equiangular(24), column_offset=120.0, **PANEL)
    field = field_of_view(half)
    assert field.radius == pytest.approx(1000 * math.sin(math.atan(270 / 1500)))
    assert field.radius_of_both_sides == pytest.approx(1000 * math.sin(math.atan(30 / 1500)))
    assert "seen_by_both_sides_mm" in geometry_facts(half)


def test_a_helix_sees_its_travel_and_half_its_detector_on_either_end():
    field = field_of_view(HELIX)
    travel = 40.0 * (3 - 1 / 24)
    assert field.high - field.low == pytest.approx(travel + 80, abs=0.5)


def test_vectors_see_what_the_scanner_they_came_from_sees():
    plain, said = field_of_view(HELIX), field_of_view(HELIX.vectors())
    np.testing.assert_allclose(
        [said.left, said.right, said.low, said.high],
        [plain.left, plain.right, plain.low, plain.high],
        atol=0.1,
    )


def test_facts_of_a_helix_are_those_it_was_made_of():
    facts = geometry_facts(HELIX)
    assert facts["kind"] == "helical"
    assert facts["turns"] == pytest.approx(3)
    assert facts["pitch_mm"] == pytest.approx(40)
    assert facts["relative_pitch"] == pytest.approx(40 / 80)
    assert facts["focal_spot_positions"] == 2
    assert facts["focal_spot_span_mm"] == [1.0, 0.0, 0.6]
    assert facts["detector"] == "curved, radius 1500 mm"


def test_facts_of_vectors_tell_the_sources_path():
    facts = geometry_facts(CIRCLE.vectors().translated((3.0, 0.0, 0.0)))
    assert facts["kind"] == "vectors"
    assert facts["source_to_axis_least_mm"] == pytest.approx(997, abs=0.5)
    assert facts["source_to_axis_most_mm"] == pytest.approx(1003, abs=0.5)
    assert facts["first_angle_deg"] == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize(
    "geometry",
    [
        HELIX,
        CIRCLE.vectors().rotated((1.0, 0.0, 0.0), 0.2),
        ParallelBeam(angles=equiangular(6), columns=30, column_spacing=2.0),
    ],
    ids=["helix", "tilted", "parallel"],
)
def test_a_picture_shows_source_detector_field_and_volume_where_they_are(geometry):
    grid = Grid.centred((10, 20, 20), (4.0, 5.0, 5.0), (10.0, 0.0, 0.0))
    top, side = geometry.plot(grid).axes
    lines = {line.get_label(): line.get_xydata() for line in top.get_lines()}
    assert {"first view", "last view", "volume", "isocentre"} <= set(lines)
    frame = geometry.frames()
    if frame.source is not None:
        np.testing.assert_allclose(lines["source path"], frame.source[:, :2])
        first = frame.cells(-0.5, -0.5)[0]
        assert np.abs(lines["first view"] - first[:2]).sum(1).min() < 1e-9
    edges = np.concatenate([line.get_xydata() for line in top.get_lines()[-13:-1]])
    assert edges.min(0) == pytest.approx([-40, -50])
    assert edges.max(0) == pytest.approx([60, 50])
    heights = np.concatenate([line.get_xydata() for line in side.get_lines()[-13:-1]])[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((-20, 20))
