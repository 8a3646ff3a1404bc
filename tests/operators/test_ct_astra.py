"""The ASTRA backend: the same interface, orientation and scale as the native projectors."""

from __future__ import annotations

import importlib
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.data_term import DataTerm, UnmatchedAdjointWarning
from medrecon.errors import MedreconError, ResourceError, UsageError
from medrecon.geometry import (
    ConeBeam,
    ConeVectors,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    ParallelVectors,
    VolumeGeometry,
)
from medrecon.geometry.ct import equiangular
from medrecon.geometry.frames import frames
from medrecon.grid import Grid
from medrecon.operators.astra_vectors import volume_vectors, volume_window
from medrecon.operators.ct import projector
from tests import contracts
from tests.contracts import Check, adjoint_error, distance, name, random
from tests.oracles import Ellipsoid, Gaussian, rasterise

astra: Any = pytest.importorskip("astra", reason="the ASTRA toolbox is not installed")
experimental: Any = pytest.importorskip("astra.experimental", reason="ASTRA without GPU code")

SQUARE = Grid.centred((3, 7, 9), (1.7, 0.8, 0.8), center=(1.5, -2.0, 0.0))
PARALLEL = ParallelBeam(
    angles=(0.0, 0.4, 1.1, math.pi / 4, 2.0, 3.0),
    columns=15,
    column_spacing=0.9,
    column_offset=0.3,
)
FLAT = FanBeam(
    angles=equiangular(7, start=0.2),
    source_to_axis=40.0,
    source_to_detector=60.0,
    columns=17,
    column_spacing=1.1,
    column_offset=-0.7,
)
ARC = replace(FLAT, detector_radius=60.0)
PLANES = {"parallel": PARALLEL, "fan": FLAT, "arc": ARC}
BY_SLICE = pytest.mark.parametrize("geometry", PLANES.values(), ids=PLANES)

CIRCLE = ConeBeam(
    angles=equiangular(5, start=0.3),
    source_to_axis=40.0,
    source_to_detector=60.0,
    rows=6,
    columns=9,
    row_spacing=1.3,
    column_spacing=1.1,
    row_offset=0.4,
    column_offset=-1.7,
)
CURVED = replace(CIRCLE, detector_radius=60.0)
LIFTED = replace(
    CURVED,
    detector_radius=75.0,
    heights=(-4.0, -2.0, 0.0, 2.0, 4.0),
    focal_shifts=((0.5, 0.0, 0.0), (-0.5, 0.2, 0.1)) * 2 + ((0.0, 0.0, -0.3),),
)
STACK = ParallelBeam3D(
    angles=(0.0, 0.7, 2.5),
    rows=4,
    columns=8,
    row_spacing=1.5,
    column_spacing=0.9,
    row_offset=-0.6,
    column_offset=0.8,
)
TILTED = (
    CIRCLE.vectors().detector_turned(in_plane=0.05, tilt=0.1, slant=-0.2).rotated((1, 0.3, 0), 0.3)
)
LAMINOGRAPHY = STACK.vectors().rotated((1.0, 0.0, 0.0), 0.6)
VOLUMES: dict[str, VolumeGeometry] = {
    "circle": CIRCLE,
    "curved": CURVED,
    "curved, lifted, flying spot": LIFTED,
    "parallel": STACK,
    "per view, tilted": TILTED,
    "laminography": LAMINOGRAPHY,
}
EVERY_VOLUME = pytest.mark.parametrize("geometry", VOLUMES.values(), ids=VOLUMES)

# ASTRA computes in single precision, whatever comes in: the checks to 1e-10 are not for it.
IN_SINGLE: tuple[Check, ...] = (
    contracts.it_maps_domain_to_codomain,
    contracts.its_adjoint_is_exact_in_single_precision,
    contracts.its_backward_is_its_adjoint,
    contracts.its_second_derivative_passes_through_the_adjoint,
    contracts.its_gram_is_the_adjoint_after_itself,
    contracts.leading_dimensions_are_a_batch,
    contracts.wrong_shapes_are_refused,
    contracts.the_wrong_kind_of_number_is_refused,
    contracts.it_survives_pickling,
    contracts.precision_follows_the_input,
    contracts.the_device_follows_the_input,
    contracts.the_input_stays_as_it_was,
    contracts.strided_inputs_are_fine,
    contracts.its_adjoint_of_the_adjoint_is_itself,
    contracts.blocks_do_not_see_each_other,
)
BY_CHECK = pytest.mark.parametrize("check", IN_SINGLE, ids=name)


@BY_SLICE
@BY_CHECK
def test_astra_keeps_the_contract_in_single_precision(geometry: CTGeometry, check: Check) -> None:
    check(projector(SQUARE, geometry, "astra"))


@pytest.mark.parametrize(
    ("body", "bound"),
    [(Gaussian((4.0, -7.0), 6.0), 2e-3), (Ellipsoid((3.0, -8.0), (11.0, 6.0), 1.0, 0.4), 2e-2)],
    ids=["smooth", "sharp"],
)
@pytest.mark.parametrize("shape", ["parallel", "flat", "arc"])
def test_astra_measures_the_integrals_known_in_closed_form(
    shape: str, body: Gaussian | Ellipsoid, bound: float
) -> None:
    angles = equiangular(23, start=0.1)
    geometry: ParallelBeam | FanBeam = FanBeam(
        angles=angles,
        source_to_axis=160.0,
        source_to_detector=250.0,
        columns=121,
        column_spacing=1.0,
        column_offset=1.3,
        detector_radius=250.0 if shape == "arc" else math.inf,
    )
    if shape == "parallel":
        geometry = ParallelBeam(angles=angles, columns=111, column_spacing=0.7, column_offset=0.4)
    grid = Grid.centred((1, 120, 130), (1.0, 0.5, 0.5), center=(2.0, -4.0, 0.0))
    f = frames(geometry)
    start, along = (p[..., :2] for p in f.rays(f.r0[0], np.arange(f.columns)))
    exact = torch.from_numpy(body.line(start, start + along))
    measured = projector(grid, geometry, "astra")(rasterise(body, grid))
    assert distance(measured[0], exact) < bound


@BY_SLICE
def test_astras_adjoint_is_as_exact_as_it_says(geometry: CTGeometry) -> None:
    A = projector(SQUARE, geometry, "astra")
    x = random(A.domain, precision=torch.float32)
    assert A.adjoint_is_exact
    assert adjoint_error(A, x, A(x)) < 1e-6


@EVERY_VOLUME
def test_astra_projects_our_points_where_our_cells_are(geometry: VolumeGeometry) -> None:
    """ASTRA's own projection of a point, which needs no GPU, against our cells and rays."""
    vectors, f = volume_vectors(geometry), frames(geometry)
    scan = astra.create_proj_geom(vectors.kind, *vectors.detector, vectors.rows)
    for row, column in ((0, 0), (f.rows - 1, 2), (1, f.columns - 1), (1.3, 4.6)):
        starts, directions = f.rays(row, column)
        for view in range(f.views):
            for reach in (25.0, 45.0):
                x, y, z = starts[view] + reach * directions[view]
                u, v = experimental.projectPoint(scan, x, y, z, view)
                assert (v, u) == pytest.approx((row, column), abs=1e-9)


def test_the_edges_of_a_volume_are_half_a_voxel_outside_its_centres() -> None:
    grid = Grid.centred((4, 6, 10), (3.0, 2.0, 1.0), center=(1.0, 20.0, 300.0))
    assert volume_window(grid) == (6, 10, 4, -4.0, 6.0, 14.0, 26.0, 294.0, 306.0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stand-in for ASTRA's GPU: one matrix per geometry, applied to the memory ASTRA linked."""
    kinds: list[str] = []

    def run(into_volume: bool) -> Callable[[int, list[int], list[int]], None]:
        def apply(number: int, volumes: list[int], sinograms: list[int]) -> None:
            kinds.append(astra.projector3d.projection_geometry(number)["type"])
            volume, sinogram = (astra.data3d.get_shared(k[0]) for k in (volumes, sinograms))
            views_first = sinogram.swapaxes(0, 1)
            generator = np.random.default_rng(0)
            matrix = generator.normal(size=(sinogram.size, volume.size)).astype(np.float32)
            if into_volume:
                volume[:] = (views_first.reshape(-1) @ matrix).reshape(volume.shape)
            else:
                views_first[:] = (matrix @ volume.reshape(-1)).reshape(views_first.shape)

        return apply

    monkeypatch.setattr(astra, "use_cuda", lambda: True)
    monkeypatch.setattr(experimental, "do_composite_FP", run(into_volume=False))
    monkeypatch.setattr(experimental, "do_composite_BP", run(into_volume=True))
    return kinds


SMALL = Grid.centred((3, 4, 5), (1.7, 0.8, 0.9), center=(1.5, -2.0, 0.5))


@BY_CHECK
def test_volumes_keep_the_contract_around_astras_kernels(gpu: list[str], check: Check) -> None:
    check(projector(SMALL, CIRCLE, "astra"))


@pytest.mark.parametrize(
    ("geometry", "kind"),
    [(CIRCLE, "cone_vec"), (CURVED, "cyl_cone_vec"), (STACK, "parallel3d_vec")],
    ids=["flat", "curved", "parallel"],
)
def test_astra_gets_the_geometry_that_fits(
    gpu: list[str], geometry: VolumeGeometry, kind: str
) -> None:
    A = projector(SMALL, geometry, "astra")
    A.adjoint(A(torch.ones(A.domain.shape)))
    assert gpu == [kind, kind]


def test_measurements_go_back_to_astra_without_a_copy(
    gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    A = projector(SMALL, CIRCLE, "astra")
    y = A(torch.ones(A.domain.shape))
    places: list[int] = []
    link = astra.data3d.link

    def linked(kind: str, geometry: Any, data: Tensor) -> int:
        places.append(data.data_ptr())
        number: int = link(kind, geometry, data)
        return number

    monkeypatch.setattr(astra.data3d, "link", linked)
    A.adjoint(y)
    assert places[1] == y.data_ptr()


@BY_SLICE
def test_slices_side_by_side_are_the_slices_one_by_one(geometry: CTGeometry) -> None:
    A = projector(replace(SQUARE, shape=(12, 7, 9)), geometry, "astra")
    x = random(A.domain, precision=torch.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = A(x)
        torch.set_num_threads(4)
        assert torch.equal(A(x), alone)
        together = A.adjoint(alone)
        torch.set_num_threads(1)
        assert torch.equal(A.adjoint(alone), together)
    finally:
        torch.set_num_threads(threads)


def test_nothing_is_left_behind_in_astra(gpu: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    A = projector(SMALL, CIRCLE, "astra")
    alive: set[int] = set()
    link, delete = astra.data3d.link, astra.data3d.delete

    def linked(*arguments: Any) -> int:
        number: int = link(*arguments)
        alive.add(number)
        return number

    def deleted(numbers: list[int]) -> None:
        alive.difference_update(numbers)
        delete(numbers)

    def broken(*_: Any) -> None:
        raise astra.log.AstraError("out of memory")

    monkeypatch.setattr(astra.data3d, "link", linked)
    monkeypatch.setattr(astra.data3d, "delete", deleted)
    A(torch.ones(2, *A.domain.shape))
    assert not alive
    monkeypatch.setattr(experimental, "do_composite_FP", broken)
    with pytest.raises(ResourceError, match="out of memory"):
        A(torch.ones(A.domain.shape))
    assert not alive


def test_an_operator_from_elsewhere_does_not_end_the_process_without_a_gpu(
    gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    A = pickle.loads(pickle.dumps(projector(SMALL, CIRCLE, "astra")))
    monkeypatch.setattr(astra, "use_cuda", lambda: False)
    for direction in (A, A.H):
        with pytest.raises(ResourceError, match="native"):
            direction(torch.ones(direction.domain.shape))
    assert not gpu


@pytest.mark.skipif(not astra.use_cuda(), reason="ASTRA sees no GPU")
@EVERY_VOLUME
def test_on_a_gpu_astra_agrees_with_the_native_projector(geometry: VolumeGeometry) -> None:
    grid = Grid.centred((24, 26, 28), (0.5, 0.5, 0.5), center=(1.0, -1.0, 0.5))
    body = rasterise(Gaussian((1.0, -1.5, 0.5), 2.0), grid).float()
    native, A = projector(grid, geometry), projector(grid, geometry, "astra")
    assert distance(A(body), native(body)) < 2e-2
    y: Tensor = native(body)
    assert distance(A.adjoint(y), native.adjoint(y)) < 0.1


def test_solvers_are_warned_of_an_unmatched_adjoint(gpu: list[str]) -> None:
    A = projector(SMALL, CIRCLE, "astra")
    y = A(torch.ones(A.domain.shape))
    assert not A.adjoint_is_exact
    with pytest.warns(UnmatchedAdjointWarning, match="native backend is exact"):
        DataTerm(A, y, 1.0)


def test_astra_refuses_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="square"):
        projector(replace(SQUARE, spacing=(1.7, 0.8, 0.9)), FLAT, "astra")
    monkeypatch.setattr(astra, "use_cuda", lambda: False)
    with pytest.raises(ResourceError, match="GPU"):
        projector(SQUARE, CIRCLE, "astra")
    vectors = CURVED.vectors()
    down = tuple((x, y, -z) for x, y, z in vectors.row_steps)
    with pytest.raises(UsageError, match="bends"):
        projector(SQUARE, replace(vectors, row_steps=down), "astra")


def test_without_astra_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        raise ImportError(module)

    monkeypatch.setattr(importlib, "import_module", missing)
    for geometry in (FLAT, CIRCLE):
        with pytest.raises(MedreconError, match="pip install astra-toolbox"):
            projector(SQUARE, geometry, "astra")


def test_the_geometries_here_are_all_there_are() -> None:
    assert {type(g) for g in VOLUMES.values()} == {
        ConeBeam,
        ConeVectors,
        ParallelBeam3D,
        ParallelVectors,
    }
