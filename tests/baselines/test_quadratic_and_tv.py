"""The classical reconstructions against dense solutions and their own objectives."""

from itertools import pairwise

import pytest
import torch

from medrecon.baselines import cgls, total_variation
from medrecon.data_term import DataTerm
from medrecon.operators.difference import Difference
from medrecon.regularizers import TotalVariation
from tests.sampling.dense import random_problem


@pytest.mark.parametrize("is_complex", [False, True])
def test_cgls_with_a_weight_is_the_dense_tikhonov_solution(is_complex):
    A, y, weights = random_problem(is_complex=is_complex)
    data = DataTerm(A, y, weights)
    last = list(cgls(data, iterations=200, weight=0.7, tolerance=1e-12))[-1]
    for k in range(A.slices):
        M = A.matrix
        H = M.mH @ (weights[k][:, None] * M) + 0.7 * torch.eye(M.shape[1], dtype=M.dtype)
        exact = torch.linalg.solve(H, M.mH @ (weights[k] * y[k])).view(A.size)
        assert torch.allclose(last.value[k], exact, atol=1e-7)


def test_cgls_fits_the_data_better_with_every_iteration():
    A, y, weights = random_problem(rows=10)
    data = DataTerm(A, y, weights)
    misfits = [data.misfit(p.value) for p in cgls(data, iterations=6, tolerance=0.0)]
    assert all(a >= b for a, b in pairwise(misfits))


@pytest.mark.parametrize("is_complex", [False, True])
def test_total_variation_ends_at_its_minimum_from_any_start(is_complex):
    A, y, weights = random_problem(slices=3, rows=9, is_complex=is_complex)
    data = DataTerm(A, y, weights)
    spacing = (2.0, 1.0, 1.0)
    tv = TotalVariation(Difference(A.domain, spacing, (0, 1, 2)), 2.0)

    def solve(start):
        steps = total_variation(data, spacing, weight=2.0, iterations=400, start=start)
        return list(steps)[-1].value

    def objective(u):
        return data.value(u) + tv.value(u)

    generator = torch.Generator().manual_seed(3)
    zero = solve(None)
    other = solve(torch.randn(A.domain.shape, dtype=y.dtype, generator=generator))
    best = objective(zero)
    assert abs(objective(other) - best) < 1e-3 * best
    for size in (0.03, 0.1, 0.3):
        move = size * torch.randn(A.domain.shape, dtype=y.dtype, generator=generator)
        assert objective(zero + move) > best
