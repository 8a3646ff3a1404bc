"""The data step against dense solutions."""

import pytest
import torch

from medrecon.data_term import DataTerm
from medrecon.operators.difference import Difference
from medrecon.regularizers import TotalVariation
from medrecon.sampling.consistency import CGSettings, Consistency, discrepancy
from medrecon.solvers.cg import Outcome
from medrecon.solvers.preconditioner import PRECONDITIONERS
from tests.contracts import check_operator
from tests.sampling.dense import random_problem


def _dense_prox(A, y, weights, u0, variance, scale=1.0, offset=0.0):
    out = []
    for k in range(A.slices):
        M = scale * A.matrix
        b = y[k] - A.matrix @ torch.full((M.shape[1],), offset, dtype=M.dtype)
        H = M.mH @ (weights[k][:, None] * M) + torch.eye(M.shape[1], dtype=M.dtype) / variance
        rhs = M.mH @ (weights[k] * b) + u0[k].flatten() / variance
        out.append(torch.linalg.solve(H, rhs).view(A.size))
    return torch.stack(out)


def _settings(**kwargs):
    return CGSettings(**{"max_iterations": 200, "tolerance": 1e-10, **kwargs})


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("name", list(PRECONDITIONERS))
def test_the_data_step_is_the_dense_proximal_map(is_complex, name):
    A, y, weights = random_problem(is_complex=is_complex)
    check_operator(A)
    data = DataTerm(A, y, weights, 2.0, 0.5)
    u0 = torch.randn(A.domain.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(5))
    step = Consistency(data, _settings(preconditioner=PRECONDITIONERS[name]))
    solution, carried = step(u0, 0.3)
    assert carried.split is None
    assert solution.outcome is Outcome.CONVERGED
    expected = _dense_prox(A, y, weights, u0, 0.3, 2.0, 0.5)
    assert torch.allclose(solution.value, expected, rtol=1e-7, atol=1e-9)


def test_complex_data_stay_where_they_are_when_they_fit():
    # a data term with a factor (1 + i), as in released code, would turn this image by 45 degrees
    A, _, weights = random_problem(is_complex=True, rows=20)
    truth = torch.randn(
        A.domain.shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(3)
    )
    step = Consistency(DataTerm(A, A(truth), weights), _settings())
    assert torch.allclose(step(truth, 1.0)[0].value, truth, atol=1e-8)


def test_little_trust_keeps_the_estimate_and_much_trust_fits_the_data():
    A, y, weights = random_problem()
    data = DataTerm(A, y, weights)
    u0 = torch.zeros(A.domain.shape, dtype=torch.float64)
    step = Consistency(data, _settings(max_iterations=2000))
    assert float(step(u0, 1e-9)[0].value.norm()) < 1e-5
    assert data.misfit(step(u0, 1e9)[0].value) < 1e-6


def test_the_misfit_of_the_truth_is_one():
    A, _, _ = random_problem(slices=400, rows=30)
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(A.domain.shape, generator=generator, dtype=torch.float64)
    weights = 0.5 + 5 * torch.rand(A.codomain.shape, generator=generator, dtype=torch.float64)
    noise = torch.randn(A.codomain.shape, generator=generator, dtype=torch.float64)
    data = DataTerm(A, A(truth) + noise / weights.sqrt(), weights)
    assert abs(data.misfit(truth) - 1) < 0.05


def test_the_discrepancy_rule_stops_at_the_noise():
    A, y, weights = random_problem(rows=10)
    data = DataTerm(A, y, weights)
    step = Consistency(data, _settings(noise_stop=1.0, preconditioner=PRECONDITIONERS["none"]))
    solution, _ = step(torch.zeros(A.domain.shape, dtype=torch.float64), 1e6)
    assert solution.outcome is Outcome.NOISE_LEVEL
    assert discrepancy(data, 1.0)(solution.value)


def test_the_step_with_tv_along_z_converges_to_the_minimum():
    A, y, weights = random_problem(slices=5)
    data = DataTerm(A, y, weights)
    K = Difference(A.domain, (2.0, 1.0, 1.0), (0,))
    tv = TotalVariation(K, 1.5)
    # warm starts change no solution (below), and this penalty converges in few steps
    step = Consistency(data, _settings(tolerance=1e-8, warm_start=1.0), tv, 8.0)
    u0 = torch.randn(
        A.domain.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)
    )
    carried = None
    for _ in range(80):
        solution, carried = step(u0, 0.5, carried)

    def objective(u):
        return data.value(u) + float((u - u0).square().sum()) / (2 * 0.5) + tv.value(u)

    best = objective(solution.value)
    generator = torch.Generator().manual_seed(4)
    for size in (1e-3, 1e-2):
        for _ in range(20):
            move = size * torch.randn(A.domain.shape, dtype=torch.float64, generator=generator)
            assert objective(solution.value + move) > best - 1e-9
    # the optimality condition: -gradient lies in K^T of the dual, whose entries stay within w
    gradient = data.gram(solution.value) - data.rhs + (solution.value - u0) / 0.5
    dual = 8.0 * 1.5 * carried.split.dual
    assert torch.allclose(gradient, -K.adjoint(dual), atol=1e-5)
    assert float(dual.abs().max()) <= 1.5 + 1e-6


def test_a_warm_start_needs_fewer_iterations_and_changes_no_solution():
    A, y, weights = random_problem(rows=9)
    data = DataTerm(A, y, weights)
    u0 = torch.zeros(A.domain.shape, dtype=y.dtype)
    cold = Consistency(data, _settings(tolerance=1e-6))
    warm = Consistency(data, _settings(tolerance=1e-6, warm_start=1.0))
    _, carried = cold(u0, 0.5)
    first, second = cold(u0, 0.5, carried)[0], warm(u0, 0.5, carried)[0]
    assert first.iterations > 5
    assert second.iterations == 1  # the same step again starts where it ended
    other = u0 + torch.randn(u0.shape, generator=torch.Generator().manual_seed(3), dtype=y.dtype)
    assert torch.allclose(cold(other, 0.4)[0].value, warm(other, 0.4, carried)[0].value, atol=1e-5)
