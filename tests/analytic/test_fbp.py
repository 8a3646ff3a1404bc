"""FBP gives the true attenuation of objects whose line integrals are known exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.analytic.fbp import fbp
from medrecon.errors import InconsistentError, UsageError
from medrecon.geometry.ct import (
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    ParallelVectors,
    equiangular,
)
from medrecon.grid import Grid
from tests.contracts import distance
from tests.oracles import Ellipsoid, centres, line_integrals, rasterise

HALF_TURN = equiangular(180, arc=math.pi)
SHORT = equiangular(220, arc=math.pi + 2 * math.atan(100 / 350) + 0.02, start=-2.0)
GOLDEN = tuple(k * math.pi * (3 - math.sqrt(5)) for k in range(300))

GRID = Grid.centred((1, 96, 80), (1.0, 0.9, 1.0), center=(6.0, -4.0, 0.0))
DISC = Ellipsoid((10.0, -6.0), (22.0, 15.0), 0.02, angle=0.4)
SMALLER = Ellipsoid(DISC.center, (17.0, 10.0), angle=0.4)


def parallel(**changes: Any) -> ParallelBeam:
    values: dict[str, Any] = {"angles": HALF_TURN, "columns": 160, "column_spacing": 0.8}
    return ParallelBeam(**(values | changes))


def fan(**changes: Any) -> FanBeam:
    values: dict[str, Any] = {
        "angles": equiangular(360),
        "source_to_axis": 200.0,
        "source_to_detector": 350.0,
        "columns": 200,
        "column_spacing": 1.0,
    }
    return FanBeam(**(values | changes))


SCANS: dict[str, ParallelBeam | FanBeam] = {
    "half turn": parallel(),
    "half turn from 1 rad": parallel(angles=tuple(a + 1 for a in HALF_TURN)),
    "half turn, clockwise": parallel(angles=tuple(-a for a in HALF_TURN)),
    "full turn of parallel rays": parallel(angles=equiangular(240)),
    "220 degrees of parallel rays": parallel(angles=equiangular(220, arc=math.radians(220))),
    "golden angle": parallel(angles=GOLDEN),
    "parallel, detector offset": parallel(column_offset=3.2),
    "parallel, half detector": parallel(angles=equiangular(240), column_offset=40.0),
    "fan": fan(),
    "fan, detector offset": fan(column_offset=7.25),
    "fan, short scan": fan(angles=SHORT),
    "fan, 270 degrees": fan(angles=equiangular(270, arc=1.5 * math.pi, start=-2.0)),
    "fan, two turns": fan(angles=equiangular(400, arc=4 * math.pi)),
    "half fan": fan(columns=120, column_offset=45.0),
    "half fan on the other side": fan(columns=120, column_offset=-50.0),
    "arc": fan(detector_radius=350.0),
    "arc, detector offset": fan(detector_radius=350.0, column_offset=7.25),
    "arc, short scan": fan(detector_radius=350.0, angles=SHORT),
    "arc, half fan": fan(detector_radius=350.0, columns=120, column_offset=45.0),
    "arc about the axis": fan(detector_radius=250.0),
    "arc about a point behind the source": fan(detector_radius=700.0),
}


def inside(body: Ellipsoid, grid: Grid) -> Tensor:
    return torch.from_numpy(np.asarray(body.at(centres(grid)[..., : len(body.center)])) > 0)


@pytest.mark.parametrize("name", SCANS)
def test_a_solid_ellipse_has_its_value_inside_and_nothing_outside(name: str) -> None:
    y = line_integrals(DISC, SCANS[name], subcells=4)[None]
    image = fbp(y, SCANS[name], GRID) / DISC.value
    roi = image[inside(SMALLER, GRID)]
    assert abs(float(roi.mean()) - 1) < 2e-3
    assert float(roi.std()) < 5e-3
    truth = rasterise(DISC, GRID) / DISC.value
    assert float((image - truth).square().mean().sqrt()) < 0.03


def test_a_limited_arc_gives_an_incomplete_image_not_an_error() -> None:
    scan = fan(angles=equiangular(100, arc=math.radians(100)))
    image = fbp(line_integrals(DISC, scan)[None], scan, GRID) / DISC.value
    assert 0.3 < float(image[inside(SMALLER, GRID)].mean()) < 0.9


@pytest.mark.parametrize("angles", [(0.3,), (0.3, 0.3), (0.3, 3.4)])
def test_very_few_views_give_a_finite_image(angles: tuple[float, ...]) -> None:
    for scan in (parallel(angles=angles), fan(angles=angles)):
        assert fbp(line_integrals(DISC, scan)[None], scan, GRID).isfinite().all()


@pytest.mark.parametrize("window", ["ramlak", "shepp-logan", "cosine", "hann"])
def test_every_window_keeps_the_value(window: str) -> None:
    y = line_integrals(DISC, fan(), subcells=4)[None]
    image = fbp(y, fan(), GRID, window) / DISC.value
    assert abs(float(image[inside(SMALLER, GRID)].mean()) - 1) < 2e-3


def test_smoother_windows_have_less_noise() -> None:
    noise = torch.randn(1, 180, 160, generator=torch.Generator().manual_seed(0))
    windows = ("ramlak", "shepp-logan", "cosine", "hann")
    levels = [float(fbp(noise, parallel(), GRID, w).std()) for w in windows]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] < 0.7 * levels[0]


def test_slices_and_batches_are_reconstructed_one_by_one() -> None:
    grid = Grid.centred((2, 20, 20), (3.0, 2.0, 2.0))
    scan = fan(angles=equiangular(30))
    y = torch.randn(3, 2, 30, 200, generator=torch.Generator().manual_seed(0)).double()
    together = fbp(y, scan, grid)
    assert together.shape == (3, 2, 20, 20)
    one = fbp(y[1, 1:], scan, grid.slab(1, 2))
    assert distance(together[1, 1:], one) < 1e-12


def test_rows_of_parallel_rays_are_reconstructed_like_slices() -> None:
    flat = parallel(angles=equiangular(60, arc=math.pi))
    scan = ParallelBeam3D(
        angles=flat.angles, columns=160, column_spacing=0.8, rows=3, row_spacing=2.0, row_offset=1.0
    )
    grid = Grid.centred((3, 30, 30), (2.0, 1.5, 1.5), center=(0.0, 0.0, 1.0))
    y = torch.randn(60, 3, 160, generator=torch.Generator().manual_seed(0)).double()
    assert distance(fbp(y, scan, grid), fbp(y.transpose(0, 1), flat, grid)) < 1e-12


def test_parallel_vectors_in_any_pose_give_the_value() -> None:
    """An axis off the isocentre, a skewed detector, rays that are not perpendicular to it."""
    scan = ParallelBeam3D(
        angles=equiangular(150, arc=math.pi), columns=110, column_spacing=0.8, rows=30,
        row_spacing=1.5, column_offset=6.0,
    ).vectors()  # fmt: skip
    body = Ellipsoid((10.0, -6.0, 2.0), (22.0, 15.0, 12.0), 0.02, angle=0.4)
    grid = Grid.centred((6, 48, 40), (2.0, 1.5, 1.6), center=(6.0, -4.0, 2.0))
    roi = inside(Ellipsoid(body.center, (17.0, 10.0, 8.0), angle=0.4), grid)
    tilted = scan.rotated((1.0, 0.0, 0.0), 0.2)
    for pose in (
        scan,
        scan.translated((4.0, -3.0, 5.0)),
        scan.detector_turned(in_plane=0.1, slant=0.3),
        tilted,
    ):
        image = fbp(line_integrals(body, pose, subcells=2), pose, grid) / body.value
        assert abs(float(image[roi].mean()) - 1) < 3e-3
        assert float(image[roi].std()) < 1e-2
    sideways = scan.rotated((0.0, 1.0, 0.0), 0.5).detector_turned(in_plane=1.5)
    with pytest.raises(InconsistentError, match="rows are turned"):
        fbp(torch.zeros(150, 30, 110), sideways, grid)


def test_rays_that_leave_the_plane_of_rotation_are_refused() -> None:
    cone_of_rays = tuple((math.sin(a), math.cos(a), 1.0) for a in equiangular(20))
    scan = ParallelVectors(
        directions=cone_of_rays, detectors=((0.0, 0.0, 0.0),) * 20, rows=4, columns=4,
        column_steps=tuple((-math.cos(a), math.sin(a), 0.0) for a in equiangular(20)),
        row_steps=((0.0, 0.0, 1.0),) * 20,
    )  # fmt: skip
    with pytest.raises(InconsistentError, match="45 degrees"):
        fbp(torch.zeros(20, 4, 4), scan, Grid.centred((2, 4, 4), (1.0, 1.0, 1.0)))


def test_precision_follows_the_measurements() -> None:
    for dtype in (torch.float32, torch.float64):
        assert fbp(torch.ones(1, 360, 200, dtype=dtype), fan(), GRID).dtype == dtype


def test_measurements_of_another_shape_are_refused() -> None:
    with pytest.raises(InconsistentError, match="measurements of fbp"):
        fbp(torch.zeros(1, 360, 199), fan(), GRID)


def test_an_unknown_window_is_named_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="shepp-logan"):
        fbp(torch.zeros(1, 360, 200), fan(), GRID, "hamming")
