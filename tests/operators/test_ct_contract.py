"""Every CT projector keeps the contract of a linear operator, for every kind of scan."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from medrecon.errors import InconsistentError
from medrecon.geometry import ConeBeam, ConeVectors, CTGeometry
from medrecon.grid import Grid
from medrecon.operators.cone import ConeProjector
from medrecon.operators.ct import projector
from medrecon.operators.general import RayProjector
from tests.contracts import CHECKS, Check, distance, name, random
from tests.operators.scans import (
    CENTRED,
    CONE,
    CYLINDER,
    FAN,
    ODD,
    PARALLEL,
    SHIFTED,
    SMALL,
    VOLUMES,
    is_volume,
)
from tests.oracles import dense

__all__ = ["CENTRED", "CONE", "FAN", "ODD", "PARALLEL", "SHIFTED"]


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("scan", SMALL)
def test_projector_keeps_the_contract(scan: str, check: Check) -> None:
    check(projector(*SMALL[scan]))


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("geometry", [CONE, CYLINDER], ids=["flat", "cylinder"])
def test_general_rays_keep_the_contract_on_upright_detectors(
    geometry: ConeBeam, check: Check
) -> None:
    check(RayProjector(SHIFTED, geometry))


@pytest.mark.parametrize("scan", VOLUMES)
def test_transpose_has_the_entries_of_the_dense_matrix(scan: str) -> None:
    A = projector(*VOLUMES[scan])
    matrix, transpose = dense(A), dense(A.H).T
    assert float(matrix.min()) >= 0
    assert float(matrix.max()) > 0
    assert torch.isfinite(matrix).all()
    assert torch.allclose(matrix, transpose, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scan", SMALL)
def test_every_nth_view_measures_every_nth_measurement(scan: str) -> None:
    grid, geometry = SMALL[scan]
    A = projector(grid, geometry)
    x = random(A.domain)
    y = A(x)
    for start, n in ((0, 2), (1, 3)):
        if start >= geometry.views:
            continue
        views = y[start::n] if is_volume(geometry) else y[:, start::n]
        assert distance(projector(grid, geometry[start::n])(x), views) < 1e-12


@pytest.mark.parametrize(
    "geometry",
    [CONE, CYLINDER, CONE.vectors().rotated((1.0, 0.0, 0.0), 0.2)],
    ids=["flat", "cylinder", "tilted"],
)
def test_a_beam_that_misses_the_volume_measures_nothing(geometry: CTGeometry) -> None:
    for by in ((0.0, 0.0, 60.0), (0.0, 0.0, -60.0)):
        A = projector(SHIFTED.shifted(by), geometry)
        assert not A(torch.ones(A.domain.shape)).any()
        assert not A.adjoint(torch.ones(A.codomain.shape)).any()
    aside = replace(CONE, column_offset=300.0)
    A = projector(SHIFTED, aside)
    assert not A(torch.ones(A.domain.shape)).any()


@pytest.mark.parametrize(
    ("scanner", "sentence"),
    [
        (CONE.vectors().translated((0.0, 0.0, 3.0)), r"view 1 the source stands 40\.0 mm"),
        (CONE.vectors().rotated((1.0, 0.0, 0.0), 1.2), "behind it"),
        (CONE.flying([(0.0, -15.0, 0.0)]), r"source stands 25\.0 mm from the axis"),
    ],
    ids=["circle", "tilted", "deflected"],
)
def test_a_grid_that_reaches_a_source_is_refused_with_the_numbers(
    scanner: CTGeometry, sentence: str
) -> None:
    wide = Grid.centred((60, 60, 60), (1.0, 1.0, 1.0))
    with pytest.raises(InconsistentError, match=sentence):
        projector(wide, scanner)


def test_a_cylinder_that_turns_its_back_is_refused() -> None:
    sources = tuple((0.0, -100.0, float(z)) for z in range(2))
    scanner = ConeVectors(
        sources=sources,
        detectors=tuple((0.0, 60.0, z) for _, _, z in sources),
        column_steps=((1.0, 0.0, 0.0),) * 2,
        row_steps=((0.0, 0.0, 1.0),) * 2,
        rows=3,
        columns=5,
        detector_radius=50.0,  # its circle ends 40 mm before the source
    )
    with pytest.raises(InconsistentError, match="outside of its radius"):
        projector(CENTRED, scanner)
    far_round = replace(scanner, detector_radius=150.0, columns=500)
    with pytest.raises(InconsistentError, match="bends out of the source's sight"):
        projector(CENTRED, far_round)


def test_a_tilted_detector_has_no_footprints() -> None:
    with pytest.raises(InconsistentError, match="RayProjector"):
        ConeProjector(SHIFTED, CONE.vectors().rotated((1.0, 0.0, 0.0), 0.2))
