"""Several sets of coil maps: the sum of one operator per set, and cheaper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.operators.base import LinearOperator
from medrecon.operators.map_sets import MapSets, SoftSense
from medrecon.operators.sense import sense_operator
from tests.contracts import CHECKS, Check, distance, name, random
from tests.operators.trajectories import LAYOUTS, noncartesian
from tests.oracles import dense


def mask(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape) < 0.6


GEOMETRIES: dict[str, tuple[tuple[int, ...], MRGeometry]] = {
    **{
        f"along {layout}": (LAYOUTS[layout][0], noncartesian(layout).geometry)
        for layout in ("slices odd", "stack", "3d even")
    },
    "cartesian slices": ((3, 2, 7, 6), Cartesian(mask=mask(7, 6))),
    "cartesian per slice": ((3, 2, 5, 6), Cartesian(mask=mask(3, 5, 6), encoded=2)),
    "cartesian 3d": ((2, 4, 5, 6), Cartesian(mask=mask(4, 5, 6))),
}


def soft(case: str, sets: int = 2) -> SoftSense:
    shape, geometry = GEOMETRIES[case]
    operator = sense_operator(geometry, random(Space((sets, *shape), complex=True)))
    assert isinstance(operator, SoftSense)
    return operator


OPERATORS: dict[str, LinearOperator] = {
    **{case: soft(case) for case in GEOMETRIES},
    "one set": soft("cartesian slices", 1),
    "maps of slices": MapSets(random(Space((3, 2, 4, 5, 6), complex=True)), axis=1),
    "maps of a volume": MapSets(random(Space((2, 3, 4, 5, 6), complex=True)), axis=0),
}


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS.keys())
def test_contract(operator: LinearOperator, check: Check) -> None:
    check(operator)


@pytest.mark.parametrize("case", GEOMETRIES)
def test_it_is_the_sum_of_one_operator_per_set(case: str) -> None:
    operator, geometry = soft(case, 3), GEOMETRIES[case][1]
    singles = [sense_operator(geometry, maps) for maps in operator.maps]
    assert operator.codomain == singles[0].codomain
    assert operator.blocks == singles[0].blocks
    x, y = random(operator.domain), random(operator.codomain)
    images = x.unbind(dim=geometry.coil_axis)
    total = torch.stack([A(image) for A, image in zip(singles, images, strict=True)]).sum(0)
    assert distance(operator(x), total) < 1e-13
    back = torch.stack([A.adjoint(y) for A in singles], dim=geometry.coil_axis)
    assert distance(operator.adjoint(y), back) < 1e-13


@pytest.mark.parametrize("case", GEOMETRIES)
def test_gram_holds_the_cross_terms_of_the_dense_normal_matrix(case: str) -> None:
    operator = soft(case)
    A = dense(operator)
    x = random(operator.domain, seed=2)
    assert distance(operator.gram(x).flatten(), A.mH @ (A @ x.flatten())) < 1e-11


def test_gram_is_differentiable() -> None:
    for case in ("along slices odd", "cartesian 3d"):
        operator = soft(case)
        x = random(operator.domain).requires_grad_()
        g = random(operator.domain, seed=5)
        (gradient,) = torch.autograd.grad((g.conj() * operator.gram(x)).sum().real, x)
        assert distance(gradient, operator.gram(g)) < 1e-11


def test_maps_that_do_not_fit_are_refused() -> None:
    maps = random(Space((2, 3, 2, 7, 6), complex=True))
    with pytest.raises(InconsistentError, match="Sets of coil maps"):
        MapSets(maps[0], axis=1)
    with pytest.raises(InconsistentError, match="Sets of coil maps"):
        MapSets(maps.real, axis=1)
    with pytest.raises(InconsistentError, match="do not fit"):
        sense_operator(Cartesian(mask=mask(7, 5)), maps)
    single = sense_operator(Cartesian(mask=mask(7, 5)), maps[0, :, :1, :, :5])
    with pytest.raises(InconsistentError, match="do not fit an acquisition"):
        SoftSense(maps, single)
    with pytest.raises(InconsistentError):
        sense_operator(NonCartesian(trajectory=np.zeros((1, 2, 3)), partitions=None), maps[0, 0])
