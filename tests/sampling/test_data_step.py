"""Anchors of the data step, and the published proximal step among them."""

import math
from dataclasses import replace

import pytest
import torch

from medrecon.data_term import DataTerm
from medrecon.priors.gaussian import Gaussian
from medrecon.sampling.consistency import CGSettings, Consistency
from medrecon.sampling.data_step import (
    Constant,
    ErrorVariance,
    ProximalStep,
    largest_curvature,
    unanchored,
)
from medrecon.solvers.preconditioner import PRECONDITIONERS
from tests.sampling.dense import random_problem

TIGHT = CGSettings(max_iterations=400, tolerance=1e-11)


@pytest.mark.parametrize("is_complex", [False, True])
def test_the_largest_curvature_is_the_largest_eigenvalue(is_complex):
    A, y, weights = random_problem(is_complex=is_complex, rows=20)
    exact = max(
        float(torch.linalg.eigvalsh(9 * A.matrix.mH @ (w[:, None] * A.matrix))[-1]) for w in weights
    )
    found = largest_curvature(DataTerm(A, y, weights, 3.0), 300)
    assert found == pytest.approx(exact, rel=1e-4)
    assert 0.9 * exact < largest_curvature(DataTerm(A, y, weights, 3.0)) <= exact * (1 + 1e-12)


@pytest.mark.parametrize("is_complex", [False, True])
def test_the_constant_anchor_is_the_published_proximal_step(is_complex):
    # argmin gamma/2 |y - A x|^2 + 1/2 |x - x0|^2 with |A| = 1, whatever the unit of y
    A, y, _ = random_problem(is_complex=is_complex)
    A = type(A)(A.matrix / torch.linalg.matrix_norm(A.matrix, 2), A.slices, A.size)
    u0 = torch.randn(A.domain.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    data = DataTerm(A, y, 250.0)
    step = ProximalStep(Consistency(data, TIGHT), Constant(0.95, largest_curvature(data, 2000)))
    found = step(u0, 0.3, None)[0].value
    H = torch.eye(12, dtype=y.dtype) + 0.95 * A.matrix.mH @ A.matrix
    for k in range(A.slices):
        exact = torch.linalg.solve(H, u0[k].flatten() + 0.95 * A.matrix.mH @ y[k])
        assert torch.allclose(found[k].flatten(), exact, atol=1e-6)


def test_without_an_anchor_the_data_are_fitted_by_the_nearest_image():
    A, y, weights = random_problem()
    u0 = torch.randn(A.domain.shape, generator=torch.Generator().manual_seed(2)).double()
    plain = replace(TIGHT, preconditioner=PRECONDITIONERS["none"])  # others have other distances
    step = ProximalStep(Consistency(DataTerm(A, y, weights), plain), unanchored)
    found = step(u0, 0.3, None)[0].value
    nearest = u0.flatten(1) + (y - A(u0)) @ torch.linalg.pinv(A.matrix).mT
    assert torch.allclose(found.flatten(1), nearest, atol=1e-5)


def test_the_error_anchor_follows_the_prior_and_its_factor():
    prior = Gaussian(torch.zeros(3), torch.tensor(0.5))
    assert ErrorVariance(prior, 8.0)(0.2) == pytest.approx(8 * 0.5 * 0.04 / 0.54)
    assert math.isinf(unanchored(0.2))
