"""What must not change when scanner and patient move together, and which way is which."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from medrecon.geometry.ct import ConeBeam, CTGeometry, FanBeam, ParallelBeam, equiangular
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from tests.contracts import distance, random
from tests.operators.test_ct_contract import CONE, FAN, ODD, PARALLEL, SHIFTED

EVERY = pytest.mark.parametrize("geometry", [PARALLEL, FAN, CONE], ids=["parallel", "fan", "cone"])


@EVERY
def test_turning_the_object_is_turning_the_scanner_back(geometry: CTGeometry) -> None:
    grid = Grid.centred((4, 9, 9), (1.5, 1.1, 1.1))
    A = projector(grid, replace(geometry, angles=ODD))
    later = projector(grid, replace(geometry, angles=tuple(a + math.pi / 2 for a in ODD)))
    x = random(A.domain)
    # +90 degrees about z takes +x to +y: index (y, x) = (a, b) goes to (b, n - 1 - a).
    turned = torch.rot90(x, -1, dims=(1, 2))
    assert distance(later(turned), A(x)) < 1e-12


@EVERY
def test_scaling_all_millimetres_scales_the_integrals(geometry: CTGeometry) -> None:
    factor = 2.5
    lengths = {
        name: factor * value
        for name, value in vars(geometry).items()
        if name.endswith(("spacing", "offset")) or name.startswith("source")
    }
    bigger = replace(geometry, **lengths)
    grid = replace(
        SHIFTED,
        spacing=tuple(factor * d for d in SHIFTED.spacing),  # type: ignore[arg-type]
        origin=tuple(factor * d for d in SHIFTED.origin),  # type: ignore[arg-type]
    )
    A, B = projector(SHIFTED, geometry), projector(grid, bigger)
    x = random(A.domain)
    assert distance(B(x), factor * A(x)) < 1e-12


@EVERY
def test_slicing_the_views_slices_the_measurements(geometry: CTGeometry) -> None:
    A, B = projector(SHIFTED, geometry), projector(SHIFTED, geometry[1::2])
    x = random(A.domain)
    y = A(x)
    views = y[1::2] if isinstance(geometry, ConeBeam) else y[:, 1::2]
    assert torch.equal(B(x), views)


@EVERY
def test_a_full_turn_more_changes_nothing(geometry: CTGeometry) -> None:
    again = replace(geometry, angles=tuple(a + 2 * math.pi for a in geometry.angles))
    A, B = projector(SHIFTED, geometry), projector(SHIFTED, again)
    x = random(A.domain)
    assert distance(A(x), B(x)) < 1e-10


def test_parallel_beam_is_the_limit_of_a_distant_fan() -> None:
    far = 1e9
    fan = FanBeam(
        angles=ODD,
        source_to_axis=far,
        source_to_detector=far + 100,
        columns=PARALLEL.columns,
        column_spacing=PARALLEL.column_spacing,
        column_offset=PARALLEL.column_offset,
    )
    x = random(projector(SHIFTED, PARALLEL).domain)
    assert distance(projector(SHIFTED, fan)(x), projector(SHIFTED, PARALLEL)(x)) < 1e-5


def test_middle_row_of_a_cone_is_a_fan() -> None:
    grid = Grid.centred((5, 24, 24), (1.0, 1.0, 1.0))
    fan = FanBeam(
        angles=equiangular(7),
        source_to_axis=60.0,
        source_to_detector=100.0,
        columns=41,
        column_spacing=1.2,
    )
    cone = ConeBeam(**vars(fan), rows=3, row_spacing=0.1)
    y, x, _ = torch.meshgrid(*[torch.arange(24.0) - 11.5] * 2, torch.zeros(1), indexing="ij")
    disc = torch.exp(-((x - 2) ** 2 + (y + 3) ** 2) / 32)[..., 0].expand(5, 24, 24)
    flat = projector(grid, fan)(disc)[2]
    # Joseph's rays and footprints differ in the model, so only to the models' accuracy.
    assert distance(projector(grid, cone)(disc)[:, 1], flat) < 1e-2


def test_directions_are_those_of_the_geometry() -> None:
    """One voxel at large +x, +y, +z: where it falls on the detector tells all signs."""
    grid = Grid.centred((21, 21, 21), (1.0, 1.0, 1.0))
    voxel = torch.zeros(grid.shape)
    voxel[16, 18, 20] = 1.0  # z = +6, y = +8, x = +10 mm
    scanner = ConeBeam(
        angles=(0.0, math.pi / 2),
        source_to_axis=100.0,
        source_to_detector=200.0,
        rows=61,
        columns=61,
        row_spacing=1.0,
        column_spacing=1.0,
    )
    y = projector(grid, scanner)(voxel)
    peaks = [divmod(int(view.argmax()), 61) for view in y]
    # Angle 0: source at y = -100, depth 100 + 8, u along +x. Angle 90: source at x = +100,
    # depth 100 - 10, u along +y. Rows grow along +z in both.
    expected = [(30 + 6 * 200 / 108, 30 + 10 * 200 / 108), (30 + 6 * 200 / 90, 30 + 8 * 200 / 90)]
    for peak, truth in zip(peaks, expected, strict=True):
        assert peak == pytest.approx(truth, abs=1.0)


def test_the_offset_shifts_the_detector_along_u() -> None:
    grid = Grid.centred((1, 21, 21), (1.0, 1.0, 1.0))
    point = torch.zeros(grid.shape)
    point[0, 10, 10] = 1.0
    scanner = ParallelBeam(angles=ODD, columns=21, column_spacing=1.0, column_offset=4.0)
    # With the middle at u = +4 mm the axis falls 4 columns to the left of the middle column.
    assert projector(grid, scanner)(point)[0].argmax(-1).tolist() == [6] * len(ODD)
