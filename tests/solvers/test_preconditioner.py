"""Preconditioners: right in the limits, positive, and faster than none where they should be."""

import math

import pytest
import torch

from medrecon.data_term import DataTerm
from medrecon.geometry import ParallelBeam
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from medrecon.solvers.cg import cg_iterates, conjugate_gradients, inner
from medrecon.solvers.preconditioner import PRECONDITIONERS, curvature


@pytest.fixture(scope="module")
def data():
    """Dense sampling with weights over three decades."""
    grid = Grid.centred((2, 32, 32), (1, 1, 1))
    scan = ParallelBeam(angles=equiangular(60, arc=math.pi), columns=48, column_spacing=1)
    A = projector(grid, scan)
    generator = torch.Generator().manual_seed(0)
    y = torch.rand(A.codomain.shape, generator=generator)
    weights = 10 ** (3 * torch.rand(A.codomain.shape, generator=generator))
    return DataTerm(A, y, weights)


@pytest.mark.parametrize("name", list(PRECONDITIONERS))
def test_a_dominating_added_constant_is_inverted(data, name):
    added = 1e12
    apply = PRECONDITIONERS[name](curvature(data), added, data.blocks)
    r = torch.randn(data.rhs.shape, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(apply(r) * added, r, atol=1e-3)


@pytest.mark.parametrize("name", list(PRECONDITIONERS))
@pytest.mark.parametrize("blocks", [0, 1])
def test_it_is_symmetric_and_positive(data, name, blocks):
    apply = PRECONDITIONERS[name](curvature(data), 1.0, blocks)
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(data.rhs.shape, generator=generator)
    b = torch.randn(data.rhs.shape, generator=generator)
    ab, ba = float(inner(a, apply(b), 0)), float(inner(b, apply(a), 0))
    assert abs(ab - ba) < 1e-4 * math.sqrt(float(inner(a, apply(a), 0) * inner(b, apply(b), 0)))
    assert float(inner(a, apply(a), 0)) > 0


def _to_reach(share, data, added, name):
    """Iterations until the error is below a share of the solution."""

    def system(u):
        return data.gram(u) + added * u

    kwargs = {"blocks": data.blocks}
    curve = curvature(data)
    exact = conjugate_gradients(
        system,
        data.rhs,
        preconditioner=PRECONDITIONERS["diagonal"](curve, added, data.blocks),
        tolerance=1e-6,
        max_iterations=600,
        **kwargs,
    ).value
    iterates = cg_iterates(
        system,
        data.rhs,
        torch.zeros_like(data.rhs),
        preconditioner=PRECONDITIONERS[name](curve, added, data.blocks),
        **kwargs,
    )
    for count, iterate in enumerate(iterates, 1):
        if float((iterate.value - exact).norm() / exact.norm()) < share or count == 300:
            return count
    return None


def _scan(weights):
    grid = Grid.centred((2, 48, 48), (1, 1, 1))
    scan = ParallelBeam(angles=equiangular(72, arc=math.pi), columns=72, column_spacing=1)
    A = projector(grid, scan)
    x = torch.zeros(2, 48, 48)
    x[:, 12:36, 6:42] = 1
    y = A(x)
    return DataTerm(A, y, weights(y))


def test_the_circulant_pays_on_an_evenly_sampled_and_weighted_scan():
    data = _scan(lambda y: 1.0)
    assert _to_reach(0.01, data, 100.0, "circulant") < _to_reach(0.01, data, 100.0, "none")


def test_the_diagonal_pays_where_the_weights_follow_the_shadow_of_an_object():
    data = _scan(lambda y: 1e3 * torch.exp(-0.2 * y))
    assert _to_reach(0.1, data, 100.0, "diagonal") < 0.7 * _to_reach(0.1, data, 100.0, "none")


def test_all_preconditioners_lead_to_the_same_solution(data):
    def solve(name):
        return conjugate_gradients(
            lambda u: data.gram(u) + 100 * u,
            data.rhs,
            blocks=data.blocks,
            preconditioner=PRECONDITIONERS[name](curvature(data), 100.0, data.blocks),
            tolerance=1e-6,
            max_iterations=300,
        ).value

    first = solve("none")
    for name in ("diagonal", "circulant"):
        assert float((solve(name) - first).norm() / first.norm()) < 5e-3
