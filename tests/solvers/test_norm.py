"""Operator norms against dense eigenvalues."""

import torch

from medrecon.arrays import Space
from medrecon.solvers.norm import largest_eigenvalue


def test_power_iteration_finds_the_largest_eigenvalue():
    q = torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))[0]
    values = torch.linspace(0, 1, 20) ** 2 * 7
    h = q @ torch.diag(values) @ q.T
    found = largest_eigenvalue(lambda x: h @ x, Space((20,)), iterations=100)
    assert abs(found - 7) < 0.01


def test_it_never_exceeds_the_largest_eigenvalue():
    h = torch.diag(torch.tensor([1.0, 3.0, 2.9]))
    assert largest_eigenvalue(lambda x: h @ x, Space((3,)), iterations=3) <= 3 + 1e-5
