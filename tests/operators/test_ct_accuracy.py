"""Projectors against line integrals known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from medrecon.geometry import ConeBeam, CTGeometry, FanBeam, ParallelBeam
from medrecon.geometry.ct import equiangular
from medrecon.geometry.frames import frames
from medrecon.grid import Grid
from medrecon.operators.base import LinearOperator
from medrecon.operators.cone import ConeProjector
from medrecon.operators.ct import projector
from medrecon.operators.general import RayProjector
from tests.contracts import distance
from tests.operators.scans import FULL, is_volume
from tests.oracles import Body, Ellipsoid, Gaussian, line_integrals, rasterise, sample

UPRIGHT = [name for name in FULL if is_volume(FULL[name](5.0)) and frames(FULL[name](5.0)).is_axial]


def measured(A: LinearOperator, x: Tensor) -> Tensor:
    """Projection without the slice axis, for a planar body."""
    y: Tensor = A(x)
    return y if A.blocks == 0 else y[0]


def grid_for(geometry: CTGeometry, n: int, spacing: tuple[float, float, float]) -> Grid:
    depth, z = (n, 3.0) if is_volume(geometry) else (1, 0.0)
    return Grid.centred((depth, n, n - 5), spacing, center=(4.0, -7.0, z))


def gaussian(geometry: CTGeometry, sigma: float) -> Gaussian:
    return Gaussian((7.0, -10.0, 5.0)[: 3 if is_volume(geometry) else 2], sigma)


def at_centres(body: Body, grid: Grid) -> Tensor:
    return sample(lambda points: body.at(points[..., : len(body.center)]), grid)


@pytest.mark.parametrize("scan", FULL)
def test_off_centre_anisotropic_volume_gives_the_analytic_integrals(scan: str) -> None:
    geometry = FULL[scan](1.6)
    grid = grid_for(geometry, 64, (0.9, 0.7, 0.8))
    body = gaussian(geometry, 4.0)
    y = measured(projector(grid, geometry), at_centres(body, grid))
    # Parallel rays see no magnification: their cells are twice as coarse against the voxels.
    bound = 7e-3 if "parallel with" in scan else (5e-3 if is_volume(geometry) else 2e-3)
    assert distance(y, line_integrals(body, geometry, subcells=4)) < bound


def order_of(make: Callable[[Grid, Any], LinearOperator], scan: str, cell: float) -> float:
    """Exponent with which the error falls as voxels and cells (so many voxels wide) shrink."""
    errors = []
    sizes = (24, 48, 72) if is_volume(FULL[scan](5.0)) else (32, 64, 128)
    for n in sizes:
        spacing = 56.0 / n
        geometry = FULL[scan](cell * spacing)
        body = gaussian(geometry, 5.0)
        grid = grid_for(geometry, n, (spacing, spacing, spacing))
        y = measured(make(grid, geometry), at_centres(body, grid))
        errors.append(distance(y, line_integrals(body, geometry)))
    return math.log(errors[0] / errors[-1]) / math.log(sizes[-1] / sizes[0])


@pytest.mark.parametrize("scan", FULL)
def test_error_falls_with_the_square_of_the_spacing(scan: str) -> None:
    # Footprints are boxes: against cells under two voxels their edges beat with the grid.
    assert order_of(projector, scan, 3.5 if scan in UPRIGHT else 1.0) > 1.85


@pytest.mark.parametrize("scan", ["parallel with rows", "cylinder", "helix"])
def test_error_of_general_rays_falls_with_the_square_of_the_spacing(scan: str) -> None:
    assert order_of(RayProjector, scan, 2.0) > 1.85


@pytest.mark.parametrize("scan", UPRIGHT)
def test_footprints_and_rays_are_two_models_of_the_same_scan(scan: str) -> None:
    geometry: Any = FULL[scan](3.0)
    grid = grid_for(geometry, 40, (1.5, 1.3, 1.4))
    x = at_centres(gaussian(geometry, 5.0), grid)
    assert distance(ConeProjector(grid, geometry)(x), RayProjector(grid, geometry)(x)) < 1.2e-2


HEAD = [  # an edge phantom: skull, brain, two ventricles and a small lesion; millimetres
    Ellipsoid((0.0, 0.0), (63.0, 84.0), 1.0),
    Ellipsoid((0.0, -1.7), (61.0, 80.0), -0.8),
    Ellipsoid((20.0, 0.0), (10.0, 28.0), -0.2, math.radians(-18)),
    Ellipsoid((-20.0, 0.0), (15.0, 37.0), -0.2, math.radians(18)),
    Ellipsoid((0.0, 32.0), (19.0, 23.0), 0.1),
    Ellipsoid((-7.0, -55.0), (4.2, 2.1), 0.1),
]


@pytest.mark.parametrize("radius", [math.inf, 775.0], ids=["flat", "arc"])
def test_head_phantom_is_as_accurate_as_the_raster_allows(radius: float) -> None:
    grid = Grid.centred((1, 256, 256), (1.0, 1.0, 1.0))
    scanner = FanBeam(
        angles=equiangular(30),
        source_to_axis=425.0,
        source_to_detector=775.0,
        columns=368,
        column_spacing=1.43,
        detector_radius=radius,
    )
    x = torch.stack([rasterise(body, grid) for body in HEAD]).sum(0)
    truth = torch.stack([line_integrals(body, scanner, subcells=8) for body in HEAD]).sum(0)
    centre = torch.stack([line_integrals(body, scanner) for body in HEAD]).sum(0)
    y = measured(projector(grid, scanner), x)
    assert distance(y, truth) < 1.5e-2
    assert distance(y, centre) < 2.2e-2


@pytest.mark.parametrize("scan", [name for name in FULL if is_volume(FULL[name](5.0))])
def test_ellipsoid_is_as_accurate_as_the_raster_allows(scan: str) -> None:
    geometry = FULL[scan](2.5)
    grid = grid_for(geometry, 48, (1.2, 1.2, 1.2))
    body = Ellipsoid((5.0, -7.0, 3.0), (18.0, 22.0, 15.0), 1.0, 0.3)
    y = projector(grid, geometry)(rasterise(body, grid))
    assert distance(y, line_integrals(body, geometry, subcells=4)) < 1.8e-2


def test_ellipsoid_in_a_large_cone_is_as_accurate_as_the_raster_allows() -> None:
    grid = Grid.centred((64, 64, 64), (2.0, 2.0, 2.0))
    scanner = ConeBeam(
        angles=equiangular(20),
        source_to_axis=212.5,
        source_to_detector=387.5,
        rows=64,
        columns=96,
        row_spacing=2.86,
        column_spacing=2.86,
    )
    body = Ellipsoid((5.0, -7.0, 3.0), (44.8, 44.8, 35.8))
    y = projector(grid, scanner)(rasterise(body, grid))
    assert distance(y, line_integrals(body, scanner, subcells=4)) < 1.5e-2


def test_a_box_of_ones_measures_the_length_of_the_ray_in_it() -> None:
    grid = Grid.centred((1, 40, 60), (1.0, 1.2, 0.7))
    scanner = ParallelBeam(angles=(0.0, math.pi / 2), columns=9, column_spacing=2.3)
    y = projector(grid, scanner)(torch.ones(grid.shape, dtype=torch.float64))[0]
    assert torch.allclose(y[0], torch.full((9,), 40 * 1.2, dtype=torch.float64))
    assert torch.allclose(y[1], torch.full((9,), 60 * 0.7, dtype=torch.float64))


def test_single_precision_holds_over_many_rows_and_slices() -> None:
    """Prefix sums cost an entry its number times half a last digit, but do not drift."""
    n, rounding = 1600, 3e-8
    grid = Grid.centred((1500, 6, 6), (0.2, 0.2, 0.2))
    scanner = ConeBeam(
        angles=(0.3, 1.9),
        source_to_axis=500.0,
        source_to_detector=800.0,
        rows=n,
        columns=5,
        row_spacing=0.32,
        column_spacing=0.32,
    )
    A = ConeProjector(grid, scanner)
    x = 1.0 + 0.1 * torch.randn(grid.shape, generator=torch.Generator().manual_seed(1))
    y = A(x.double())
    single = A(x).double()
    assert distance(single, y) < n * rounding
    assert abs(float(single.sum() / y.sum()) - 1) < 1e-7
    z = A.adjoint(y)
    single = A.adjoint(y.float()).double()
    assert distance(single, z) < n * rounding
    assert abs(float(single.sum() / z.sum()) - 1) < 1e-7


def test_single_precision_of_general_rays_does_not_depend_on_the_slices() -> None:
    grid = Grid.centred((600, 6, 6), (0.2, 0.2, 0.2))
    geometry: Any = FULL["cylinder"](0.5)
    A = RayProjector(grid, geometry[:2])
    x = 1.0 + 0.1 * torch.randn(grid.shape, generator=torch.Generator().manual_seed(1))
    y = A(x.double())
    assert distance(A(x).double(), y) < 1e-6
    assert distance(A.adjoint(y.float()).double(), A.adjoint(y)) < 1e-6
