"""Projectors against line integrals known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.geometry.ct import ConeBeam, CTGeometry, FanBeam, ParallelBeam, equiangular
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from tests.contracts import distance
from tests.operators.test_ct_contract import CONE, FAN, ODD, PARALLEL, SHIFTED
from tests.oracles import Body, Ellipsoid, Gaussian, line_integrals, rasterise, sample

FULL_PARALLEL = ParallelBeam(angles=ODD, columns=150, column_spacing=0.8, column_offset=3.0)
FULL_FAN = FanBeam(
    angles=ODD,
    source_to_axis=200.0,
    source_to_detector=350.0,
    columns=150,
    column_spacing=1.4,
    column_offset=-5.0,
)
FULL_CONE = ConeBeam(
    angles=ODD,
    source_to_axis=200.0,
    source_to_detector=350.0,
    rows=80,
    columns=130,
    row_spacing=1.7,
    column_spacing=1.5,
    row_offset=-4.0,
    column_offset=5.0,
)
SCANS: dict[str, CTGeometry] = {"parallel": FULL_PARALLEL, "fan": FULL_FAN, "cone": FULL_CONE}


def measured(grid: Grid, geometry: CTGeometry, x: Tensor) -> Tensor:
    """Projection without the slice axis, for a planar body."""
    y = projector(grid, geometry)(x)
    return y if isinstance(geometry, ConeBeam) else y[0]


def grid_for(geometry: CTGeometry, n: int, spacing: tuple[float, float, float]) -> Grid:
    depth = n if isinstance(geometry, ConeBeam) else 1
    center = (4.0, -7.0, 3.0 if isinstance(geometry, ConeBeam) else 0.0)
    return Grid.centred((depth, n, n - 5), spacing, center=center)


def gaussian(geometry: CTGeometry, sigma: float) -> Gaussian:
    center = (7.0, -10.0, 5.0)
    return Gaussian(center if isinstance(geometry, ConeBeam) else center[:2], sigma)


def at_centres(body: Body, grid: Grid) -> Tensor:
    return sample(lambda points: body.at(points[..., : len(body.center)]), grid)


@pytest.mark.parametrize("scan", SCANS)
def test_off_centre_anisotropic_volume_gives_the_analytic_integrals(scan: str) -> None:
    geometry = SCANS[scan]
    grid = grid_for(geometry, 64, (0.9, 0.7, 0.8))
    body = gaussian(geometry, 4.0)
    y = measured(grid, geometry, at_centres(body, grid))
    bound = 8e-3 if scan == "cone" else 3e-3
    assert distance(y, line_integrals(body, geometry, subcells=4)) < bound


@pytest.mark.parametrize("scan", SCANS)
def test_error_falls_with_the_square_of_the_spacing(scan: str) -> None:
    geometry = SCANS[scan]
    body, errors = gaussian(geometry, 5.0), []
    sizes = (24, 48, 72) if scan == "cone" else (32, 64, 128)
    for n in sizes:
        spacing = 56.0 / n
        grid = grid_for(geometry, n, (spacing, spacing, spacing))
        # Footprints are boxes: against cells under two voxels their edges beat with the grid.
        cell = spacing * (3.5 if isinstance(geometry, ConeBeam) else 1.0)
        fine = replace(geometry, columns=math.ceil(210.0 / cell), column_spacing=cell)
        if isinstance(fine, ConeBeam):
            fine = replace(fine, rows=math.ceil(120.0 / cell), row_spacing=cell)
        y = measured(grid, fine, at_centres(body, grid))
        errors.append(distance(y, line_integrals(body, fine)))
    order = math.log(errors[0] / errors[-1]) / math.log(sizes[-1] / sizes[0])
    assert order > 1.85, errors


HEAD = [  # an edge phantom: skull, brain, two ventricles and a small lesion; millimetres
    Ellipsoid((0.0, 0.0), (63.0, 84.0), 1.0),
    Ellipsoid((0.0, -1.7), (61.0, 80.0), -0.8),
    Ellipsoid((20.0, 0.0), (10.0, 28.0), -0.2, math.radians(-18)),
    Ellipsoid((-20.0, 0.0), (15.0, 37.0), -0.2, math.radians(18)),
    Ellipsoid((0.0, 32.0), (19.0, 23.0), 0.1),
    Ellipsoid((-7.0, -55.0), (4.2, 2.1), 0.1),
]


def test_head_phantom_is_as_accurate_as_the_raster_allows() -> None:
    grid = Grid.centred((1, 256, 256), (1.0, 1.0, 1.0))
    scanner = FanBeam(
        angles=equiangular(30),
        source_to_axis=425.0,
        source_to_detector=775.0,
        columns=368,
        column_spacing=1.43,
    )
    x = torch.stack([rasterise(body, grid) for body in HEAD]).sum(0)
    truth = torch.stack([line_integrals(body, scanner, subcells=8) for body in HEAD]).sum(0)
    centre = torch.stack([line_integrals(body, scanner) for body in HEAD]).sum(0)
    y = measured(grid, scanner, x)
    assert distance(y, truth) < 1.5e-2
    assert distance(y, centre) < 2.2e-2


def test_ellipsoid_is_as_accurate_as_the_raster_allows() -> None:
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


@pytest.mark.parametrize("geometry", [PARALLEL, FAN, CONE], ids=["parallel", "fan", "cone"])
def test_transpose_has_the_entries_of_the_dense_matrix(geometry: CTGeometry) -> None:
    grid = SHIFTED if isinstance(geometry, ConeBeam) else replace(SHIFTED, shape=(1, 8, 8))
    A = projector(grid, geometry)
    inputs = torch.eye(A.domain.size, dtype=torch.float64).reshape(-1, *A.domain.shape)
    outputs = torch.eye(A.codomain.size, dtype=torch.float64).reshape(-1, *A.codomain.shape)
    matrix = A(inputs).reshape(A.domain.size, -1).T
    transpose = A.adjoint(outputs).reshape(A.codomain.size, -1)
    assert torch.allclose(matrix, transpose, rtol=0, atol=1e-12)
    assert torch.equal(matrix != 0, transpose != 0) or float((matrix - transpose).abs().max()) == 0
    assert float(matrix.min()) >= 0
    assert np.isfinite(matrix.numpy()).all()
