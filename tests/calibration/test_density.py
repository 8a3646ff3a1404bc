"""Density compensation against exact areas, and by what gridding makes of a smooth object."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medrecon.arrays import Space
from medrecon.calibration.density import pipe_menon, radial_density
from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian
from medrecon.operators.nufft import NUFFT
from medrecon.trajectories import koosh, radial, spiral, stack


def blob(shape: tuple[int, ...]) -> torch.Tensor:
    """A Gaussian well inside the field of view and, transformed, well inside k-space."""
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2 - 0.1 * n) / (0.09 * n) for n in shape]
    grids = torch.meshgrid(*axes, indexing="ij")
    values = torch.exp(-sum((g**2 for g in grids), torch.zeros(shape)) / 2)
    return values.to(torch.complex128)


def gridding_error(geometry: NonCartesian, weights: np.ndarray, shape: tuple[int, ...]) -> float:
    A, x = NUFFT(Space(shape, complex=True), geometry.trajectory), blob(shape)
    image = A.adjoint(torch.from_numpy(weights) * A(x))
    return float((image - x).norm() / x.norm())


@pytest.mark.parametrize("golden", [False, True])
@pytest.mark.parametrize("shape", [(32, 32), (33, 24)])
def test_areas_of_spokes_make_gridding_an_inverse(shape: tuple[int, int], golden: bool) -> None:
    geometry = radial(shape, 89, 80, golden=golden)
    weights = radial_density(geometry, shape)
    assert (weights > 0).all()
    assert gridding_error(geometry, weights, shape) < 0.002


def test_areas_of_spokes_fill_the_disc() -> None:
    weights = radial_density(radial((32, 32), 50, 64), (32, 32))
    assert weights.sum() == pytest.approx(math.pi * 16**2, rel=1e-3)
    centre = weights[:, 32].sum()  # two thirds of the disc of half a step's radius
    assert centre == pytest.approx(2 / 3 * math.pi * 0.25**2, rel=1e-12)


def test_spokes_from_the_centre_outwards_fill_the_disc_too() -> None:
    full = radial((32, 32), 50, 64)
    half = NonCartesian(
        trajectory=np.concatenate([full.trajectory[:, 32:], full.trajectory[:, 32:0:-1]])
    )
    weights = radial_density(half, (32, 32))
    assert weights.sum() == pytest.approx(math.pi * 15.75**2, rel=1e-3)
    assert gridding_error(half, weights, (32, 32)) < 0.005


def test_volumes_of_spokes_in_space_make_gridding_an_inverse() -> None:
    shape = (12, 12, 12)
    geometry = koosh(shape, 700, 30)
    weights = radial_density(geometry, shape)
    assert weights.sum() == pytest.approx(4 / 3 * math.pi * 6**3, rel=0.01)
    assert gridding_error(geometry, weights, shape) < 0.04


def test_the_iteration_finds_the_areas_of_spokes() -> None:
    geometry, shape = radial((32, 32), 60, 64), (32, 32)
    exact, found = radial_density(geometry, shape), pipe_menon(geometry, shape)
    radius = np.linalg.norm(geometry.trajectory, axis=-1)
    inside = (radius > 2) & (radius < 13)
    np.testing.assert_allclose(found[inside], exact[inside], rtol=0.04)


@pytest.mark.parametrize(
    "geometry",
    [
        spiral((32, 32), 4, 900, density=1.5),
        radial((32, 32), 30, 64, golden=True),
        stack(radial((32, 32), 60, 64), np.ones(4, dtype=bool)),
    ],
    ids=["spiral", "few golden spokes", "stack of stars"],
)
def test_the_iteration_makes_gridding_an_inverse(geometry: NonCartesian) -> None:
    weights = pipe_menon(geometry, (32, 32))
    assert weights.shape == geometry.trajectory.shape[:2]
    uniform = np.full_like(weights, weights.mean())
    assert gridding_error(geometry, weights, (32, 32)) < 0.02
    assert gridding_error(geometry, uniform, (32, 32)) > 0.2


def test_the_iteration_works_in_space() -> None:
    shape = (12, 12, 12)
    geometry = koosh(shape, 700, 30)
    weights = pipe_menon(geometry, shape)
    assert gridding_error(geometry, weights, shape) < 0.04
    assert gridding_error(geometry, np.full_like(weights, weights.mean()), shape) > 0.2


def test_other_trajectories_have_no_analytic_areas() -> None:
    with pytest.raises(InconsistentError, match="use pipe_menon"):
        radial_density(spiral((16, 16), 2, 100), (16, 16))
    with pytest.raises(InconsistentError, match="at least two samples"):
        radial_density(NonCartesian(trajectory=np.zeros((3, 1, 2))), (16, 16))
