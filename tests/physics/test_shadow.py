"""Truncated projections, grids out of sight, wrong units: each is told with its numbers."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from medrecon.errors import InconsistentError
from medrecon.geometry import ConeBeam, FanBeam, ParallelBeam
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.physics.placement import check_field
from medrecon.physics.shadow import check_water, mean_attenuation, truncation
from tests.oracles import Ellipsoid
from tests.physics.test_rotation_centre import FAN, PARALLEL, SCANS, measured, noisy, shifted

LARGE = Grid.centred((1, 100, 100), (1.0, 2.0, 2.0))
SMALL = Grid.centred((1, 100, 100), (1.0, 1.2, 1.2))


@pytest.mark.parametrize("name", list(SCANS))
def test_a_whole_object_in_a_large_grid_is_not_cut(name: str):
    geometry = SCANS[name]
    found = truncation(noisy(measured(geometry), 1e4), geometry, LARGE)
    assert not found.is_truncated
    assert found.remark == ""
    assert found.reach == pytest.approx(93, abs=3)


@pytest.mark.parametrize("name", list(SCANS))
def test_73_an_object_beyond_the_grid_is_told(name: str):
    geometry = SCANS[name]
    found = truncation(noisy(measured(geometry), 1e4), geometry, SMALL)
    assert found.left == found.right == 0
    assert found.beyond_grid > 0.5
    assert "9" in found.remark
    assert "beyond the grid" in found.remark


def test_73_an_object_wider_than_the_detector_is_told():
    narrow = FanBeam(angles=equiangular(90), **(FAN | {"columns": 150}))
    found = truncation(measured(narrow), narrow)
    assert min(found.left, found.right) > 0.5
    assert "wider than the field of view (radius 66.1 mm)" in found.remark
    assert mean_attenuation(measured(narrow), narrow) is None


def test_an_offset_detector_is_cut_on_its_short_side_by_design():
    offset: Any = shifted(FanBeam(angles=equiangular(90), **(FAN | {"columns": 200})), 80.0)
    found = truncation(measured(offset), offset, LARGE)
    assert not found.is_truncated
    too_short: Any = shifted(FanBeam(angles=equiangular(90), **(FAN | {"columns": 130})), 30.0)
    assert truncation(measured(too_short), too_short).right > 0.3


@pytest.mark.parametrize("name", ["parallel, half turn", "fan, full turn", "cone"])
def test_noise_of_a_hundred_quanta_is_no_object(name: str):
    geometry = SCANS[name]
    p = noisy(measured(geometry), 100)  # 2 quanta behind the body
    found = truncation(p, geometry, LARGE)
    assert not found.is_truncated
    assert found.reach == pytest.approx(90, abs=3)
    assert not truncation(noisy(torch.zeros_like(p), 100), geometry, SMALL).is_truncated


def test_no_object_is_neither_cut_nor_of_any_attenuation():
    geometry = SCANS["cone"]
    nothing = torch.zeros(200, 4, 300)
    assert not truncation(nothing, geometry, SMALL).is_truncated
    assert mean_attenuation(nothing, geometry) is None
    check_water(nothing, geometry, 0.02)


@pytest.mark.parametrize("name", list(SCANS))
def test_the_shadow_tells_the_attenuation_of_a_body(name: str):
    body = [Ellipsoid((5.0, -8.0, 1.0), (90.0, 60.0, 500.0), 0.019, 0.3)]
    found = mean_attenuation(noisy(measured(SCANS[name], body), 1e5), SCANS[name])
    assert found == pytest.approx(0.019, rel=0.1)


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (
            0.1,
            r"0.2\d+/mm, 1[01] times as much as the water .*\(0.02/mm\); its lengths seem to be cm",
        ),
        (1e-3, "lengths seem to be m, not mm"),
        (1e3, "lengths seem to be µm"),
        (0.02, "check the unit of its lengths"),
    ],
)
def test_70_lengths_in_another_unit_are_noticed_by_their_water(scale: float, words: str):
    geometry: Any = SCANS["fan, full turn"]
    wrong = replace(
        geometry,
        source_to_axis=scale * geometry.source_to_axis,
        source_to_detector=scale * geometry.source_to_detector,
        column_spacing=scale * geometry.column_spacing,
    )
    p = measured(geometry)
    check_water(p, geometry, 0.02)
    with pytest.raises(InconsistentError, match=words):
        check_water(p, wrong, 0.02)


@pytest.mark.parametrize("name", list(SCANS))
def test_a_grid_in_the_field_of_view_is_fine(name: str):
    check_field(SCANS[name], LARGE)
    check_field(SCANS[name], SMALL)


CONE = ConeBeam(angles=equiangular(20), rows=40, row_spacing=1.6, **FAN)


@pytest.mark.parametrize(
    ("geometry", "grid", "words"),
    [
        (CONE, Grid.centred((10, 100, 100), (1.0, 20.0, 20.0)), "500.0 mm from the axis, the grid"),
        (SCANS["fan, full turn"], Grid.centred((1, 99, 99), (1.0, 11.0, 11.0)), "source passes"),
        (CONE, Grid.centred((10, 9, 9), (1.0, 1.0, 1.0), (0.0, 0.0, 30.0)), "z from 25.0 to 35.0"),
        (
            ParallelBeam(angles=equiangular(20, arc=math.pi), **PARALLEL),
            Grid.centred((1, 10, 10), (1.0, 1.0, 1.0), (150.0, 0.0, 0.0)),
            "begins 145.0 mm from the axis, outside the field of view of radius 120.0 mm",
        ),
    ],
)
def test_72_a_grid_out_of_sight_or_in_the_sources_way_is_told_with_numbers(
    geometry: Any, grid: Grid, words: str
):
    with pytest.raises(InconsistentError, match=words):
        check_field(geometry, grid)


def test_a_helix_moves_its_field_along():
    helix = ConeBeam.helical(
        pitch=30, turns=4, views_per_turn=20, middle=100.0, rows=40, row_spacing=1.6, **FAN
    )
    check_field(helix, Grid.centred((10, 9, 9), (1.0, 1.0, 1.0), (0.0, 0.0, 150.0)))
    with pytest.raises(InconsistentError, match="outside what the scan sees"):
        check_field(helix, Grid.centred((10, 9, 9), (1.0, 1.0, 1.0)))
