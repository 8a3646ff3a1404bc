"""The rotation axis is found from opposite rays of every scan that has some, and not invented."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import ConeBeam, CTGeometry, FanBeam, ParallelBeam
from medrecon.geometry.ct import ParallelBeam3D, equiangular
from medrecon.physics.counts import detect, line_integrals
from medrecon.physics.rotation_centre import find_rotation_centre
from tests.oracles import Ellipsoid

TOOTH = Path(__file__).parents[2] / ".." / "shared" / "data" / "raw" / "ct" / "tooth_parallel.h5"
BODY = [  # nothing symmetric; 1/mm
    Ellipsoid((5.0, -8.0, 1.0), (90.0, 70.0, 60.0), 0.02, 0.3),
    Ellipsoid((30.0, 20.0, 0.0), (12.0, 8.0, 20.0), 0.02),
    Ellipsoid((-35.0, -5.0, 2.0), (20.0, 15.0, 30.0), -0.015, 1.0),
    Ellipsoid((0.0, -50.0, 0.0), (6.0, 6.0, 40.0), 0.03),
]
PARALLEL: dict[str, Any] = {"columns": 200, "column_spacing": 1.2}
FAN: dict[str, Any] = {
    "source_to_axis": 500.0,
    "source_to_detector": 900.0,
    "columns": 300,
    "column_spacing": 1.6,
}
SHORT = math.pi + 2 * math.atan(240 / 900) + 0.05
SCANS: dict[str, CTGeometry] = {
    "parallel, half turn": ParallelBeam(angles=equiangular(180, arc=math.pi), **PARALLEL),
    "parallel, full turn": ParallelBeam(angles=equiangular(200), **PARALLEL),
    "parallel with rows": ParallelBeam3D(
        angles=equiangular(180, arc=math.pi), rows=3, row_spacing=2.0, **PARALLEL
    ),
    "fan, full turn": FanBeam(angles=equiangular(200), **FAN),
    "fan, arc detector": FanBeam(angles=equiangular(200), detector_radius=900.0, **FAN),
    "fan, arc about another point": FanBeam(angles=equiangular(200), detector_radius=600.0, **FAN),
    "fan, short scan": FanBeam(angles=equiangular(200, arc=SHORT), **FAN),
    "fan, short scan backwards": FanBeam(angles=equiangular(200, arc=SHORT)[::-1], **FAN),
    "fan, few views": FanBeam(angles=equiangular(48, start=1.0)[::-1], **FAN),
    "fan, two turns and a half": FanBeam(angles=equiangular(375, arc=5 * math.pi), **FAN),
    "cone": ConeBeam(
        angles=equiangular(200), rows=4, row_spacing=1.6, row_offset=0.8, detector_radius=900, **FAN
    ),
}


def measured(geometry: CTGeometry, body: list[Ellipsoid] = BODY) -> Tensor:
    """Exact line integrals in the geometry's layout."""
    frames = geometry.frames()
    row, column = np.mgrid[: frames.rows, : frames.columns]
    starts, towards = frames.rays(row, column)
    p = torch.from_numpy(sum(e.line(starts, starts + towards) for e in body))
    return p.movedim(1, 0) if isinstance(geometry, ParallelBeam | FanBeam) else p


def noisy(p: Tensor, photons: float, seed: int = 0) -> Tensor:
    counts = detect(p, photons, generator=torch.Generator().manual_seed(seed))
    return line_integrals(counts, photons, policy="clamp").values


def shifted(geometry: Any, columns: float) -> Any:
    return replace(geometry, column_offset=columns * geometry.column_spacing)


@pytest.mark.parametrize("columns", [7.3, -7.3])
@pytest.mark.parametrize("name", list(SCANS))
def test_the_axis_is_found_to_a_twentieth_of_a_column(name: str, columns: float):
    found = find_rotation_centre(measured(shifted(SCANS[name], columns)), SCANS[name])
    geometry: Any = SCANS[name]
    assert found.column_offset / geometry.column_spacing == pytest.approx(columns, abs=0.05)
    assert found.column == pytest.approx((geometry.columns - 1) / 2 - columns, abs=0.05)
    assert found.confidence > 0.9


@pytest.mark.parametrize("name", ["parallel, half turn", "fan, full turn", "fan, short scan"])
def test_counting_noise_costs_less_than_a_fifth_of_a_column(name: str):
    geometry: Any = SCANS[name]
    p = noisy(measured(shifted(geometry, 7.3)), 1e3)  # 30 quanta behind the body
    found = find_rotation_centre(p, geometry)
    assert found.column_offset / geometry.column_spacing == pytest.approx(7.3, abs=0.2)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize(
    "geometry",
    [
        FanBeam(angles=equiangular(360), **(FAN | {"columns": 150})),
        ParallelBeam(angles=equiangular(360), **(PARALLEL | {"columns": 110})),
    ],
)
def test_a_detector_shifted_by_two_thirds_of_its_half_width_is_found_from_the_middle(
    geometry: Any, side: int
):
    columns = side * geometry.columns / 3 + 0.31
    p = noisy(measured(shifted(geometry, columns)), 1e4)
    found = find_rotation_centre(p, geometry, search=0.42 * geometry.columns)
    assert found.column_offset / geometry.column_spacing == pytest.approx(columns, abs=0.1)


def test_the_search_begins_at_the_offset_of_the_geometry():
    geometry: Any = shifted(SCANS["fan, full turn"], 50.0)
    found = find_rotation_centre(measured(shifted(geometry, 52.6)), geometry, search=5)
    assert found.column_offset / 1.6 == pytest.approx(52.6, abs=0.05)


@pytest.mark.parametrize("name", ["parallel, half turn", "fan, full turn", "cone"])
@pytest.mark.parametrize("level", [0.0, 2.0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_flat_data_have_no_axis(name: str, level: float, noise: float):
    p = torch.full_like(measured(SCANS[name], BODY[:1]), level)
    p = p + noise * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InconsistentError, match="give it instead"):
        find_rotation_centre(p, SCANS[name])


def test_an_axis_beyond_the_search_is_an_error_not_its_end():
    geometry = SCANS["fan, full turn"]
    with pytest.raises(InconsistentError, match="at the end of the columns searched"):
        find_rotation_centre(measured(shifted(geometry, 30.0)), geometry, search=8)


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        (ParallelBeam(angles=equiangular(100, arc=2.0), **PARALLEL), "113.* degrees; a half turn"),
        (FanBeam(angles=equiangular(100, arc=1.5), **FAN), "too few opposite rays"),
        (FanBeam(angles=(0.0, 1.0, 0.5, *equiangular(9)), **FAN), "order of their angle"),
        (
            ConeBeam.helical(pitch=10, turns=2, views_per_turn=20, rows=4, row_spacing=1.0, **FAN),
            "circle",
        ),
        (
            ConeBeam(angles=equiangular(20), rows=4, row_spacing=1.0, row_offset=9.0, **FAN),
            r"row -7.5 of 4",
        ),
        (
            ConeBeam(angles=equiangular(20), rows=4, row_spacing=1.0, **FAN).vectors(),
            "no single rotation centre",
        ),
    ],
)
def test_scans_without_opposite_rays_or_one_axis_are_refused(geometry: CTGeometry, words: str):
    with pytest.raises(InconsistentError, match=words):
        find_rotation_centre(measured(geometry), geometry)


@pytest.mark.skipif(not TOOTH.is_file(), reason="the tooth of ../shared/data is not here")
def test_both_rows_of_the_measured_tooth_agree_on_the_axis():
    with h5py.File(TOOTH) as file:
        data, flat, dark = (
            torch.from_numpy(file[f"exchange/{name}"][:].astype(np.float32))
            for name in ("data", "data_white", "data_dark")
        )
        angles = tuple(np.deg2rad(file["exchange/theta"][:]).tolist())
    p = line_integrals(data, flat.mean(0), dark.mean(0)).values.movedim(1, 0)
    geometry = ParallelBeam(angles=angles, columns=640, column_spacing=1.0)
    first, second = (find_rotation_centre(p[k : k + 1], geometry).column for k in (0, 1))
    assert first == pytest.approx(296, abs=0.5)
    assert second == pytest.approx(first, abs=0.1)
