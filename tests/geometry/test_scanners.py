"""Geometries in a scanner's terms: where rays and cells are, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from medrecon.errors import InconsistentError
from medrecon.geometry import (
    ConeBeam,
    ConeVectors,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    ParallelVectors,
)
from medrecon.geometry.ct import equiangular

ANGLES = (0.0, 0.7, 2.0, -1.0)
FAN = FanBeam(
    angles=ANGLES,
    source_to_axis=500.0,
    source_to_detector=900.0,
    columns=7,
    column_spacing=3.0,
    column_offset=1.5,
)
CONE = ConeBeam(
    angles=ANGLES,
    source_to_axis=500.0,
    source_to_detector=900.0,
    rows=4,
    columns=7,
    row_spacing=2.0,
    column_spacing=3.0,
    row_offset=-1.0,
    column_offset=1.5,
)
CURVED = replace(CONE, detector_radius=900.0)
HELIX = ConeBeam.helical(
    pitch=30.0,
    turns=1.5,
    views_per_turn=6,
    start_angle=0.4,
    middle=5.0,
    source_to_axis=500.0,
    source_to_detector=900.0,
    rows=4,
    columns=7,
    row_spacing=2.0,
    column_spacing=3.0,
    detector_radius=900.0,
).flying([(0.5, 0.0, 1.0), (-0.5, 0.2, -1.0)])
PARALLEL = ParallelBeam(angles=ANGLES, columns=7, column_spacing=3.0, column_offset=1.5)
PARALLEL3D = ParallelBeam3D(
    angles=ANGLES, rows=4, columns=7, row_spacing=2.0, column_spacing=3.0, column_offset=1.5
)
EVERY: dict[str, CTGeometry] = {
    "parallel": PARALLEL,
    "parallel 3D": PARALLEL3D,
    "fan": FAN,
    "fan, arc": replace(FAN, detector_radius=900.0),
    "cone": CONE,
    "cone, curved": CURVED,
    "helix": HELIX,
    "cone vectors": CONE.vectors(),
    "curved vectors": CURVED.vectors(),
    "parallel vectors": PARALLEL3D.vectors(),
}
NAMES = {
    kind.__name__: kind
    for kind in (ConeBeam, ConeVectors, FanBeam, ParallelBeam, ParallelBeam3D, ParallelVectors)
}


@pytest.mark.parametrize("name", EVERY)
def test_repr_rebuilds_the_geometry(name: str) -> None:
    geometry = EVERY[name]
    assert eval(repr(geometry), {"inf": inf, **NAMES}) == geometry
    assert hash(geometry) == hash(replace(geometry))


@pytest.mark.parametrize("name", EVERY)
def test_slicing_the_views_slices_every_frame(name: str) -> None:
    geometry = EVERY[name]
    some, every = geometry[1::2].frames(), geometry.frames()
    assert geometry[1::2].views == some.views == len(range(1, geometry.views, 2))
    assert np.array_equal(some.cells(0.0, 2.3), every.cells(0.0, 2.3)[1::2])
    for of_some, of_every in zip(some.rays(0, 1), every.rays(0, 1), strict=True):
        assert np.array_equal(of_some, of_every[1::2])


def test_numbers_of_numpy_become_plain_ones() -> None:
    twin = replace(CONE, angles=np.array(ANGLES), row_offset=np.float64(-1.0))  # type: ignore[arg-type]
    assert twin == CONE
    assert repr(twin) == repr(CONE)


def test_cells_of_a_flat_detector_are_where_the_docstring_puts_them() -> None:
    for a, cells in zip(ANGLES, CONE.frames().cells([[0], [3]], [[0, 6]]), strict=True):
        u = np.array([math.cos(a), math.sin(a), 0.0])
        source = 500.0 * np.array([math.sin(a), -math.cos(a), 0.0])
        foot = source * (1 - 900.0 / 500.0)
        for r, row in zip((0, 3), cells, strict=True):
            for c, cell in zip((0, 6), row, strict=True):
                across, up = (c - 3) * 3.0 + 1.5, (r - 1.5) * 2.0 - 1.0
                assert cell == pytest.approx(foot + across * u + [0, 0, up], abs=1e-9)


def test_cells_of_a_curved_detector_lie_evenly_on_the_circle_about_the_source() -> None:
    source, cells = CURVED.frames().source, CURVED.frames().cells(1.5 + 0.5, np.arange(7))
    assert source is not None
    towards = cells - source[:, None]
    assert np.linalg.norm(towards[..., :2], axis=-1) == pytest.approx(900.0)
    turn = np.unwrap(np.arctan2(towards[..., 1], towards[..., 0]), axis=-1)
    # Seen from the source, +u is to the right of the central ray where z points up.
    assert np.diff(turn, axis=-1) == pytest.approx(-3.0 / 900.0)
    central = np.arctan2(-source[:, 1], -source[:, 0])
    assert np.sin(turn[:, 3] - central) == pytest.approx(-math.sin(1.5 / 900.0))


def test_a_circle_of_another_centre_keeps_its_radius() -> None:
    f = replace(CONE, detector_radius=700.0, column_offset=0.0).frames()
    centre = f.foot + 700.0 * f.normal
    cells = f.cells(f.r0[0], np.arange(7))
    assert np.linalg.norm(cells - centre[:, None], axis=-1) == pytest.approx(700.0)


def test_a_helix_climbs_by_its_pitch_and_passes_the_middle_halfway() -> None:
    assert HELIX.views == 9
    assert HELIX.heights[6] - HELIX.heights[0] == pytest.approx(30.0)
    assert np.mean(HELIX.heights) == pytest.approx(5.0)
    assert HELIX.angles[0] == 0.4
    down = ConeBeam.helical(pitch=-30.0, turns=1, views_per_turn=6, **_scanner())
    assert down.heights[-1] < down.heights[0]
    flat = ConeBeam.helical(pitch=0.0, turns=1, views_per_turn=6, middle=5.0, **_scanner())
    circle = ConeBeam(angles=equiangular(6), **_scanner())  # type: ignore[arg-type]
    lifted = circle.frames().cells(1, 2) + np.array([0, 0, 5.0])
    assert flat.frames().cells(1, 2) == pytest.approx(lifted)


def _scanner() -> dict[str, float | int]:
    told = ("source_to_axis", "source_to_detector", "rows", "columns", "row_spacing")
    return {name: getattr(CONE, name) for name in told} | {"column_spacing": 3.0}


def test_a_flying_focal_spot_moves_and_the_detector_stays() -> None:
    still = replace(HELIX, focal_shifts=())
    f, g = HELIX.frames(), still.frames()
    assert np.array_equal(f.cells(2, 3), g.cells(2, 3))
    assert f.source is not None
    assert g.source is not None
    shift = f.source - g.source
    for v, a in enumerate(HELIX.angles):
        along, away, up = HELIX.focal_shifts[v % 2]
        u, out = np.array([math.cos(a), math.sin(a)]), np.array([math.sin(a), -math.cos(a)])
        assert shift[v, :2] == pytest.approx(along * u + away * out, abs=1e-12)
        assert shift[v, 2] == pytest.approx(up)
    assert HELIX.focal_shifts[0] != HELIX.focal_shifts[1] != HELIX.focal_shifts[3 - 1]


@pytest.mark.parametrize("geometry", [CONE, CURVED, HELIX, PARALLEL3D], ids=repr)
def test_saying_it_view_by_view_changes_no_ray(
    geometry: ConeBeam | ParallelBeam3D,
) -> None:
    rows, columns = np.meshgrid(range(4), range(7), indexing="ij")
    for ours, theirs in zip(
        geometry.frames().rays(rows, columns),
        geometry.vectors().frames().rays(rows, columns),
        strict=True,
    ):
        assert theirs == pytest.approx(ours, abs=1e-9)
    assert geometry.vectors().frames().is_axial


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"angles": ()}, "at least one view"),
        ({"angles": (0.0, math.nan)}, "finite"),
        ({"columns": 0}, "columns must be positive"),
        ({"row_spacing": -1.0}, "row_spacing must be positive"),
        ({"source_to_detector": 400.0}, "beyond the rotation axis"),
        ({"detector_radius": 300.0}, "detector_radius"),
        ({"detector_radius": 460.0, "columns": 500}, "quarter of its circle"),
        ({"heights": (0.0, 1.0)}, "2 entries for 4 views"),
        ({"focal_shifts": ((0.0, 1.0),) * 4}, "three finite numbers"),
        ({"column_offset": inf}, "finite"),
    ],
)
def test_impossible_scanners_are_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(InconsistentError, match=word):
        replace(CONE, **change)  # type: ignore[arg-type]


def test_views_are_selected_by_slices_only() -> None:
    with pytest.raises(InconsistentError, match="slice"):
        CONE[1]  # type: ignore[index]
    with pytest.raises(InconsistentError, match="at least one view"):
        CONE[9:]
    with pytest.raises(InconsistentError, match="pattern"):
        CONE.flying([])
    with pytest.raises(InconsistentError, match="helix"):
        ConeBeam.helical(pitch=math.nan, turns=1, views_per_turn=6, **_scanner())
