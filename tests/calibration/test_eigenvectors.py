"""Eigenvectors per pixel, against LAPACK one matrix at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medrecon.calibration.eigenvectors import eigenvectors, lower_triangle


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


def smooth(rows: int, width: int, n: int) -> Tensor:
    """Matrices ``(rows, width, n, n)`` with spectra in [0, 1] that change slowly with position."""
    y, x = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, width), indexing="ij")
    a, b = random(n, n), random(n, n, seed=1)
    y, x = y[..., None, None], x[..., None, None]
    vectors = torch.linalg.qr(a + torch.exp(2j * math.pi * y) * b + x * torch.eye(n)).Q
    values = torch.linspace(0, 1, n, dtype=torch.float64) ** 2
    G: Tensor = vectors @ torch.diag(values).to(vectors.dtype) @ vectors.mH
    return G


def packed(G: Tensor) -> Tensor:
    rows, columns = lower_triangle(G.shape[-1])
    return torch.view_as_real(G[..., rows, columns]).permute(0, 3, 2, 1)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 3e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("n", [1, 2, 5, 8, 17])
def test_the_leading_eigenvector_is_that_of_lapack(
    dtype: torch.dtype, bound: float, n: int
) -> None:
    G = smooth(7, 45, n) * (0.0 if n == 1 else 1.0) + (0.5 if n == 1 else 0.0)
    vectors, values = eigenvectors(packed(G).to(dtype), bound=1.0)
    exact_values, exact = torch.linalg.eigh(G)
    overlap = (exact[..., -1].conj() * vectors[0].permute(1, 2, 0)).sum(dim=-1).abs()
    assert float((values[0] - exact_values[..., -1]).abs().max()) < bound
    assert float((1 - overlap).abs().max()) < bound


def test_unrelated_neighbours_are_solved_as_well() -> None:
    factors = random(9, 33, 4, 4)
    G = factors @ factors.mH
    bound = float(torch.linalg.eigvalsh(G).max())
    vectors, values = eigenvectors(packed(G), bound=bound)
    v = vectors[0].permute(1, 2, 0)[..., None]
    assert float((G @ v - values[0][..., None, None] * v).abs().max()) < 1e-9 * bound
    assert torch.allclose(values[0], torch.linalg.eigvalsh(G)[..., -1], atol=1e-7 * bound)


def test_a_crossing_of_eigenvalues_does_not_lead_astray() -> None:
    # the two eigenvectors swap their places along the rows from which each next one starts
    t = torch.linspace(0, 1, 41, dtype=torch.float64)
    G = torch.diag_embed(torch.stack([0.3 + 0.6 * t, 0.9 - 0.6 * t], dim=-1)).to(torch.complex128)
    vectors, values = eigenvectors(packed(G[:, None].expand(-1, 32, -1, -1)).float(), bound=1.0)
    assert torch.allclose(values[0, :, 0].double(), torch.maximum(0.3 + 0.6 * t, 0.9 - 0.6 * t))
    assert vectors[0, 1, 0, 0].abs() > 0.999
    assert vectors[0, 0, -1, 0].abs() > 0.999


@pytest.mark.parametrize("matrix", [torch.zeros(3, 3), torch.eye(3)])
def test_matrices_without_a_direction_give_some_unit_vector(matrix: Tensor) -> None:
    G = matrix.to(torch.complex64).expand(2, 5, 3, 3)
    vectors, values = eigenvectors(packed(G), bound=1.0)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(1, 2, 5))
    assert torch.allclose(values, torch.full((1, 2, 5), float(matrix[0, 0])), atol=1e-6)


def test_several_eigenvectors_are_orthogonal_and_descend() -> None:
    G = smooth(4, 6, 5)
    vectors, values = eigenvectors(packed(G), bound=1.0, count=3)
    assert vectors.shape == (3, 5, 4, 6)
    assert torch.allclose(values, torch.linalg.eigvalsh(G)[..., -3:].flip(-1).movedim(-1, 0))
    products = torch.einsum("acyx,bcyx->yxab", vectors.conj(), vectors)
    assert torch.allclose(products, torch.eye(3, dtype=products.dtype).expand_as(products))
