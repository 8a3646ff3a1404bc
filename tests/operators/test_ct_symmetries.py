"""What must not change when scanner and patient move together, and which way is which."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from medrecon.geometry import (
    ConeBeam,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
)
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.operators.cone import ConeProjector
from medrecon.operators.ct import projector
from medrecon.operators.general import RayProjector
from tests.contracts import distance, random
from tests.operators.scans import (
    BOTH,
    CONE,
    CYLINDER,
    FAN,
    JITTER,
    ODD,
    PARALLEL,
    PARALLEL_3D,
    SHIFTED,
    is_volume,
    jittered,
    tilted,
)

KINDS: dict[str, Any] = {
    "parallel": PARALLEL,
    "fan": FAN,
    "fan, arc": replace(FAN, detector_radius=65.0),
    "parallel with rows": PARALLEL_3D,
    "cone": CONE,
    "cylinder": CYLINDER,
    "flying focal spot": CYLINDER.flying(BOTH),
    "helix": replace(CYLINDER, heights=(-2.0, -1.0, 0.0, 1.0, 2.0, 3.0)),
}
VECTORS: dict[str, Any] = {
    "jittered": jittered(CONE),
    "jittered, cylinder": jittered(CYLINDER),
    "tilted": tilted(CONE),
    "tilted, cylinder": tilted(CYLINDER),
    "parallel": PARALLEL_3D.vectors(),
    "laminography": PARALLEL_3D.vectors().rotated((1.0, 0.0, 0.0), 0.6),
}
EVERY = pytest.mark.parametrize("kind", KINDS)
EVERY_VECTOR = pytest.mark.parametrize("kind", VECTORS)


@EVERY
def test_turning_the_object_is_turning_the_scanner_back(kind: str) -> None:
    grid = Grid.centred((4, 9, 9), (1.5, 1.1, 1.1))
    geometry = KINDS[kind]
    A = projector(grid, geometry)
    later = projector(grid, replace(geometry, angles=tuple(a + math.pi / 2 for a in ODD)))
    x = random(A.domain)
    # +90 degrees about z takes +x to +y: index (y, x) = (a, b) goes to (b, n - 1 - a).
    turned = torch.rot90(x, -1, dims=(1, 2))
    assert distance(later(turned), A(x)) < 1e-12


@EVERY_VECTOR
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["x", "y", "z"])
def test_turning_the_object_is_turning_the_vectors_back(kind: str, axis: int) -> None:
    grid = Grid.centred((9, 9, 9), (0.9, 0.9, 0.9))
    along = tuple(float(k == axis) for k in range(3))
    geometry = VECTORS[kind]
    turned_scanner = geometry.rotated(along, math.pi / 2)
    x = random(projector(grid, geometry).domain)
    # A quarter turn about x takes +y to +z, about y takes +z to +x, about z takes +x to +y.
    planes = ((1, 0), (0, 2), (2, 1))
    turned = torch.rot90(x, 1, dims=planes[axis])
    # Footprints know which way is up, so both scanners take the general rays.
    y = RayProjector(grid, geometry)(x)
    assert distance(RayProjector(grid, turned_scanner)(turned), y) < 1e-12


@EVERY
def test_scaling_all_millimetres_scales_the_integrals(kind: str) -> None:
    factor, geometry = 2.5, KINDS[kind]
    lengths = {
        name: factor * value
        for name, value in vars(geometry).items()
        if name.endswith(("spacing", "offset", "radius")) or name.startswith("source")
    }
    for name in ("heights", "focal_shifts"):
        if getattr(geometry, name, ()):
            values = factor * torch.tensor(getattr(geometry, name), dtype=torch.float64)
            lengths[name] = values.tolist()
    grid = replace(
        SHIFTED,
        spacing=tuple(factor * d for d in SHIFTED.spacing),  # type: ignore[arg-type]
        origin=tuple(factor * d for d in SHIFTED.origin),  # type: ignore[arg-type]
    )
    A, B = projector(SHIFTED, geometry), projector(grid, replace(geometry, **lengths))
    x = random(A.domain)
    assert distance(B(x), factor * A(x)) < 1e-12


@EVERY
def test_slicing_the_views_slices_the_measurements(kind: str) -> None:
    geometry = KINDS[kind]
    A, B = projector(SHIFTED, geometry), projector(SHIFTED, geometry[1::2])
    x = random(A.domain)
    y = A(x)
    assert torch.equal(B(x), y[1::2] if is_volume(geometry) else y[:, 1::2])


@EVERY
def test_a_full_turn_more_changes_nothing(kind: str) -> None:
    geometry = KINDS[kind]
    again = replace(geometry, angles=tuple(a + 2 * math.pi for a in geometry.angles))
    A, B = projector(SHIFTED, geometry), projector(SHIFTED, again)
    x = random(A.domain)
    assert distance(A(x), B(x)) < 1e-10


@EVERY_VECTOR
def test_moving_volume_and_vectors_together_changes_nothing(kind: str) -> None:
    by = (3.0, -7.0, 11.0)
    geometry = VECTORS[kind]
    A = projector(SHIFTED, geometry)
    B = projector(SHIFTED.shifted(by), geometry.translated(by))
    x = random(A.domain)
    assert distance(A(x), B(x)) < 1e-11


@pytest.mark.parametrize("kind", [k for k in KINDS if is_volume(KINDS[k])])
def test_saying_a_scan_view_by_view_changes_nothing(kind: str) -> None:
    geometry = KINDS[kind]
    A, B = projector(SHIFTED, geometry), projector(SHIFTED, geometry.vectors())
    x = random(A.domain)
    assert distance(A(x), B(x)) < 1e-8


def test_jittering_forth_and_back_changes_nothing() -> None:
    scanner = CONE.vectors()
    back = tuple((-x, -y, -z) for x, y, z in JITTER)
    again = scanner.translated(JITTER).translated(back)
    A, B = projector(SHIFTED, scanner), projector(SHIFTED, again)
    x = random(A.domain)
    assert distance(A(x), B(x)) < 1e-10


def test_no_pitch_is_a_circle_and_no_shift_is_no_flying_focal_spot() -> None:
    scanner: dict[str, Any] = {
        name: value
        for name, value in vars(CYLINDER).items()
        if name not in ("angles", "heights", "focal_shifts")
    }
    circle = ConeBeam(angles=equiangular(6, start=0.1), **scanner)
    helix = ConeBeam.helical(pitch=0.0, turns=1, views_per_turn=6, start_angle=0.1, **scanner)
    x = random(projector(SHIFTED, circle).domain)
    y = projector(SHIFTED, circle)(x)
    assert torch.equal(projector(SHIFTED, helix)(x), y)
    still = circle.flying([(0.0, 0.0, 0.0)])
    assert torch.equal(projector(SHIFTED, still)(x), y)


def test_a_gantry_that_climbs_is_a_patient_that_sinks() -> None:
    x = random(projector(SHIFTED, CYLINDER).domain)
    lifted = replace(CYLINDER, heights=(2.5,) * 6)
    sunk = SHIFTED.shifted((0.0, 0.0, -2.5))
    y = projector(sunk, CYLINDER)(x)
    assert distance(projector(SHIFTED, lifted)(x), y) < 1e-12
    assert distance(y, projector(SHIFTED, CYLINDER)(x)) > 0.1


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


@pytest.mark.parametrize("make", [ConeProjector, RayProjector])
def test_parallel_beam_is_the_limit_of_a_distant_cone(make: Any) -> None:
    far = 1e8
    cone = ConeBeam(source_to_axis=far, source_to_detector=far + 100, **vars(PARALLEL_3D))
    x = random(projector(SHIFTED, PARALLEL_3D).domain)
    assert distance(make(SHIFTED, cone)(x), make(SHIFTED, PARALLEL_3D)(x)) < 1e-5


@pytest.mark.parametrize("radius", [math.inf, 100.0], ids=["flat", "arc"])
def test_middle_row_of_a_cone_is_a_fan(radius: float) -> None:
    grid = Grid.centred((5, 24, 24), (1.0, 1.0, 1.0))
    fan = FanBeam(
        angles=equiangular(7),
        source_to_axis=60.0,
        source_to_detector=100.0,
        columns=41,
        column_spacing=1.2,
        detector_radius=radius,
    )
    cone = ConeBeam(**vars(fan), rows=3, row_spacing=0.1)
    y, x, _ = torch.meshgrid(*[torch.arange(24.0) - 11.5] * 2, torch.zeros(1), indexing="ij")
    disc = torch.exp(-((x - 2) ** 2 + (y + 3) ** 2) / 32)[..., 0].expand(5, 24, 24)
    flat = projector(grid, fan)(disc)[2]
    # Joseph's rays and footprints differ in the model, so only to the models' accuracy.
    assert distance(projector(grid, cone)(disc)[:, 1], flat) < 1e-2


def test_parallel_rows_are_parallel_slices() -> None:
    grid = Grid.centred((4, 24, 24), (1.3, 1.0, 1.0))
    slices = ParallelBeam(angles=ODD, columns=31, column_spacing=1.1, column_offset=0.3)
    rows = ParallelBeam3D(rows=4, row_spacing=1.3, **vars(slices))
    y, x, z = torch.meshgrid(*[torch.arange(24.0) - 11.5] * 2, torch.arange(4.0), indexing="ij")
    blob = torch.exp(-((x - 2) ** 2 + (y + 3) ** 2) / 32 - z / 3).permute(2, 0, 1)
    expected = projector(grid, slices)(blob).permute(1, 0, 2)
    assert distance(projector(grid, rows)(blob), expected) < 1e-2
    assert distance(RayProjector(grid, rows)(blob), expected) < 1e-6  # the very same rays


def test_an_arc_and_a_flat_detector_that_share_their_rays_measure_the_same() -> None:
    """Three columns, and cells so fine that only their middle rays count."""
    far, step = 65.0, 0.8
    flat_step = far * math.tan(step / far)
    fan_arc = FanBeam(
        angles=ODD,
        source_to_axis=40.0,
        source_to_detector=far,
        columns=3,
        column_spacing=step,
        detector_radius=far,
    )
    fan_flat = replace(fan_arc, detector_radius=math.inf, column_spacing=flat_step)
    x = random(projector(SHIFTED, fan_arc).domain)
    assert distance(projector(SHIFTED, fan_arc)(x), projector(SHIFTED, fan_flat)(x)) < 1e-12
    arc, flat = (ConeBeam(rows=1, row_spacing=step, **vars(fan)) for fan in (fan_arc, fan_flat))
    assert distance(RayProjector(SHIFTED, arc)(x), RayProjector(SHIFTED, flat)(x)) < 1e-12


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
    # Angle 0: source at y = -100, depth 100 + 8, u along +x. Angle 90: source at x = +100,
    # depth 100 - 10, u along +y. Rows grow along +z in both.
    expected = [(30 + 6 * 200 / 108, 30 + 10 * 200 / 108), (30 + 6 * 200 / 90, 30 + 8 * 200 / 90)]
    for make in (ConeProjector, RayProjector):
        y = make(grid, scanner)(voxel)
        peaks = [divmod(int(view.argmax()), 61) for view in y]
        for peak, truth in zip(peaks, expected, strict=True):
            assert peak == pytest.approx(truth, abs=1.0)


def test_the_offset_shifts_the_detector_along_u() -> None:
    grid = Grid.centred((1, 21, 21), (1.0, 1.0, 1.0))
    point = torch.zeros(grid.shape)
    point[0, 10, 10] = 1.0
    scanner = ParallelBeam(angles=ODD, columns=21, column_spacing=1.0, column_offset=4.0)
    # With the middle at u = +4 mm the axis falls 4 columns to the left of the middle column.
    assert projector(grid, scanner)(point)[0].argmax(-1).tolist() == [6] * len(ODD)
