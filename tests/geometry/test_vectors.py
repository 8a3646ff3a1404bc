"""Geometries said view by view: transforms compose, matrices come and go."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from medrecon.errors import InconsistentError
from medrecon.geometry import ConeVectors, ParallelVectors
from tests.geometry.test_scanners import CONE, CURVED, PARALLEL3D

CELLS = np.meshgrid(range(4), range(7), indexing="ij")
VECTORS = CONE.vectors()


def turn_x(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def test_translating_moves_source_and_cells_alike() -> None:
    by = np.arange(12.0).reshape(4, 3)
    moved = VECTORS.translated([(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)])
    assert np.array(moved.sources) == pytest.approx(np.array(VECTORS.sources) + by)
    before, after = VECTORS.frames().cells(*CELLS), moved.frames().cells(*CELLS)
    assert after == pytest.approx(before + by[:, None, None])
    back = moved.translated([(-x, -y, -z) for x, y, z in by.tolist()])
    assert back.frames().cells(*CELLS) == pytest.approx(before)


@pytest.mark.parametrize("geometry", [VECTORS, CURVED.vectors(), PARALLEL3D.vectors()])
def test_rotating_turns_every_ray_right_handed(geometry: ConeVectors | ParallelVectors) -> None:
    R = turn_x(0.3)
    turned = geometry.rotated((2.0, 0.0, 0.0), 0.3)
    for ours, theirs in zip(
        geometry.frames().rays(*CELLS), turned.frames().rays(*CELLS), strict=True
    ):
        assert theirs == pytest.approx(ours @ R.T, abs=1e-9)
    assert not turned.frames().is_axial
    assert turned.rotated((1, 0, 0), [-0.3] * 4).frames().is_axial


def test_shifting_the_detector_keeps_the_source() -> None:
    moved = VECTORS.detector_shifted(columns=[3.0, 6.0, 0.0, -3.0], rows=2.0)
    assert moved.sources == VECTORS.sources
    expected = np.array([VECTORS.frames().cells(2, 3 + n)[v] for v, n in enumerate((1, 2, 0, -1))])
    assert moved.frames().cells(1, 3) == pytest.approx(expected, abs=1e-9)


def test_turning_the_detector_keeps_its_middle_and_its_cells_sizes() -> None:
    turned = VECTORS.detector_turned(in_plane=0.1, tilt=0.2, slant=[0.0, 0.1, 0.2, 0.3])
    middle = (1.5, 3.0)
    assert turned.frames().cells(*middle) == pytest.approx(VECTORS.frames().cells(*middle))
    assert np.linalg.norm(turned.column_steps, axis=1) == pytest.approx(3.0)
    assert np.linalg.norm(turned.row_steps, axis=1) == pytest.approx(2.0)
    skewed = VECTORS.detector_turned(in_plane=0.1).frames()
    f = VECTORS.frames()
    assert np.cross(f.u, skewed.u)[:, :2] == pytest.approx(
        (9.0 * math.sin(0.1) * f.normal)[:, :2], abs=1e-9
    )


def test_matrices_project_cells_onto_themselves() -> None:
    tilted = VECTORS.rotated((1, 2, 3), 0.4).detector_turned(tilt=0.1)
    P = tilted.matrices()
    for start in (0.5, 1.0):  # anywhere on the ray
        source = np.array(tilted.sources)[:, None, None]
        points = source + start * (tilted.frames().cells(*CELLS) - source)
        homogeneous = np.concatenate([points, np.ones((*points.shape[:-1], 1))], -1)
        c, r, w = np.moveaxis(np.einsum("vij,vrcj->vrci", P, homogeneous), -1, 0)
        assert (w > 0).all()
        assert c / w == pytest.approx(np.broadcast_to(CELLS[1], c.shape), abs=1e-8)
        assert r / w == pytest.approx(np.broadcast_to(CELLS[0], r.shape), abs=1e-8)


@pytest.mark.parametrize("factor", [1.0, -2.5])
def test_matrices_give_the_geometry_back_whatever_their_scale(factor: float) -> None:
    tilted = VECTORS.translated((3.0, -2.0, 7.0))
    again = ConeVectors.from_matrices(
        factor * tilted.matrices(), rows=4, columns=7, source_to_detector=900.0
    )
    assert np.array(again.sources) == pytest.approx(np.array(tilted.sources))
    assert again.frames().cells(*CELLS) == pytest.approx(tilted.frames().cells(*CELLS))
    nearer = ConeVectors.from_matrices(
        tilted.matrices(), rows=4, columns=7, source_to_detector=450.0
    )
    assert nearer.frames().rays(*CELLS)[1] == pytest.approx(tilted.frames().rays(*CELLS)[1])


def test_impossible_poses_are_refused() -> None:
    with pytest.raises(InconsistentError, match="parallel or have no length"):
        replace(VECTORS, row_steps=VECTORS.column_steps)
    with pytest.raises(InconsistentError, match="parallel or have no length"):
        replace(VECTORS, row_steps=((0.0, 0.0, 0.0),) * 4)
    with pytest.raises(InconsistentError, match="run along the detector"):
        replace(CONE, column_offset=0.0).vectors().detector_turned(slant=math.pi / 2)
    with pytest.raises(InconsistentError, match="3 entries for 4 views"):
        replace(VECTORS, row_steps=VECTORS.row_steps[:3])
    with pytest.raises(InconsistentError, match="must not be zero"):
        replace(PARALLEL3D.vectors(), directions=((0.0, 0.0, 0.0),) * 4)
    with pytest.raises(InconsistentError, match="no projection matrices"):
        CURVED.vectors().matrices()
    with pytest.raises(InconsistentError, match="no source"):
        ConeVectors.from_frames(PARALLEL3D.frames())
    with pytest.raises(InconsistentError, match="not parallel"):
        ParallelVectors.from_frames(CONE.frames())


def test_degenerate_matrices_are_refused() -> None:
    P = VECTORS.matrices()
    for broken in (P[:, :2], np.full_like(P, np.nan), P * 0, P[..., [0, 0, 0, 3]]):
        with pytest.raises(InconsistentError):
            ConeVectors.from_matrices(broken, rows=4, columns=7, source_to_detector=900.0)
