"""The norm of a linear operator by power iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.solvers.cg import Map


def largest_eigenvalue(
    system: Map, space: Space, *, iterations: int = 20, seed: int = 0, device: str = "cpu"
) -> float:
    """Largest eigenvalue of a Hermitian positive semi-definite map (a Rayleigh quotient).

    ``largest_eigenvalue(A.gram, A.domain) ** 0.5`` is the operator norm of A, from below; after
    20 iterations usually within one per cent.

    Parameters
    ----------
    system
        ``x -> H x``.
    space
        The space H acts on.
    iterations
        Power iterations.
    seed
        Seed of the random start.
    device
        Where to compute.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 4th ed., section 7.3.
    """
    generator = torch.Generator().manual_seed(seed)
    x: Tensor = torch.randn(space.shape, generator=generator, dtype=space.dtype()).to(device)
    value = 0.0
    for _ in range(iterations):
        x = x / torch.linalg.vector_norm(x)
        h = system(x)
        value = float(torch.vdot(x.flatten(), h.flatten()).real)
        x = h
    return value
