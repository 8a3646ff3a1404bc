"""Conjugate gradients for Hermitian positive definite systems, batched and preconditioned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class Outcome(Enum):
    """How a solver ended; the value is a sentence for the user."""

    CONVERGED = "the residual fell below the tolerance"
    NOISE_LEVEL = "the data misfit reached the noise level"
    MAX_ITERATIONS = "the iteration limit was reached before the tolerance"


@dataclass(frozen=True)
class Solution:
    """Answer of an iterative solver.

    Parameters
    ----------
    value
        The solution.
    iterations
        Iterations done.
    residual
        Residual ``|b - H x|`` in the preconditioner's norm over the caller's ``unit`` (by default
        ``|b|``), the largest of all blocks.
    outcome
        How it ended.
    """

    value: Tensor
    iterations: int
    residual: float
    outcome: Outcome


@dataclass(frozen=True)
class Iterate:
    """Estimate after one iteration, and the residual of each block over the unit."""

    value: Tensor
    residual: Tensor


def inner(a: Tensor, b: Tensor, blocks: int) -> Tensor:
    """``Re <a, b>`` (conjugating ``a``) per block; shape: the ``blocks`` leading axes, then ones.

    For a Hermitian system every inner product that conjugate gradients needs is real; taking the
    product without conjugation would solve another (complex symmetric) problem.
    """
    axes = tuple(range(blocks, a.ndim))
    if not a.is_complex():
        return (a * b).sum(axes, keepdim=True) if axes else a * b
    a, b = torch.view_as_real(a), torch.view_as_real(b)
    return (a * b).sum((*axes, -1), keepdim=True).squeeze(-1)


def cg_iterates(
    system: Map,
    b: Tensor,
    x: Tensor,
    *,
    blocks: int = 0,
    preconditioner: Map | None = None,
    unit: float | None = None,
) -> Iterator[Iterate]:
    r"""Iterate preconditioned conjugate gradients on ``H x = b``.

    The caller owns the loop.  One step length and one residual for each of the independent
    problems that the ``blocks`` leading axes index; a block that has converged stays where it is.

    Parameters
    ----------
    system
        ``x -> H x``, Hermitian positive definite.
    b
        Right-hand side, real or complex.
    x
        Start, shape of ``b``.
    blocks
        Leading axes along which H is block diagonal.
    preconditioner
        ``r -> M^{-1} r``, Hermitian positive definite, block diagonal likewise.
    unit
        What residuals are measured in. ``None``: the norm of b, so they are relative. A number:
        absolute. With M close to H, ``sqrt(r^H M^{-1} r)`` is the energy norm of the error: where
        H is the Hessian of a negative log-likelihood, ``sqrt(size of a block)`` as the unit gives
        the error in standard deviations of the posterior, averaged over the unknowns.

    References
    ----------
    Hestenes and Stiefel 1952, doi:10.6028/jres.049.044; Saad, Iterative Methods for Sparse Linear
    Systems, 2003, algorithm 9.1.
    """
    precondition = preconditioner or (lambda v: v)
    r = b - system(x)
    z = precondition(r)
    p = z
    rz = inner(r, z, blocks)
    tiny = torch.finfo(rz.dtype).tiny
    reference = inner(b, precondition(b), blocks) if unit is None else torch.full_like(rz, unit**2)
    while True:
        q = system(p)
        curvature = inner(p, q, blocks)
        alive = curvature > tiny
        step = torch.where(alive, rz / torch.where(alive, curvature, 1.0), 0.0)
        x = x + step * p
        r = r - step * q
        z = precondition(r)
        rz_next = inner(r, z, blocks)
        beta = torch.where(rz > tiny, rz_next / rz.clamp_min(tiny), 0.0)
        p = z + beta * p
        rz = rz_next
        yield Iterate(x, (rz.clamp_min(0) / reference.clamp_min(tiny)).sqrt())


def conjugate_gradients(
    system: Map,
    b: Tensor,
    start: Tensor | None = None,
    *,
    blocks: int = 0,
    preconditioner: Map | None = None,
    unit: float | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    reached_noise: Callable[[Tensor], bool] | None = None,
) -> Solution:
    """Solve ``H x = b`` for a Hermitian positive definite H; see :func:`cg_iterates`.

    Parameters
    ----------
    system, b, blocks, preconditioner, unit
        As for :func:`cg_iterates`.
    start
        First estimate; zero where ``None``.
    max_iterations, tolerance
        Stop at this number of iterations or when every block's residual is this small.
    reached_noise
        Called with the estimate after each iteration; True stops (discrepancy principle).

    Returns
    -------
    Solution
        Value, iterations, residual and how it ended.
    """
    x = torch.zeros_like(b) if start is None else start
    iterates = cg_iterates(system, b, x, blocks=blocks, preconditioner=preconditioner, unit=unit)
    outcome, residual, iteration = Outcome.MAX_ITERATIONS, float("inf"), 0
    while iteration < max_iterations:
        iteration += 1
        iterate = next(iterates)
        x, residual = iterate.value, float(iterate.residual.max())
        if residual <= tolerance:
            outcome = Outcome.CONVERGED
            break
        if reached_noise is not None and reached_noise(x):
            outcome = Outcome.NOISE_LEVEL
            break
    return Solution(x, iteration, residual, outcome)
