"""A data term plus one regulariser, minimised by ADMM: what TV, wavelets and low rank share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.regularizers import Regularizer
from medrecon.solvers.admm import Split, admm_step
from medrecon.solvers.cg import Map, Solution, conjugate_gradients
from medrecon.solvers.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How far ADMM goes.

    Parameters
    ----------
    converged
        Relative change of the image at which it ends.
    inner_iterations, inner_tolerance
        Limits of conjugate gradients in one iteration; the tolerance is an error in standard
        deviations of the posterior, averaged over the voxels.
    relaxation
        Alpha of :func:`~medrecon.solvers.admm.admm_step`.
    """

    converged: float = 2e-5
    inner_iterations: int = 12
    inner_tolerance: float = 0.05
    relaxation: float = 1.7


USUAL = Effort()
CLOSE = Effort(inner_iterations=4, inner_tolerance=0.002)
"""For regularisers that are the identity's size (tight frames): where data say nothing only the
regulariser moves the image, and a preconditioner made for the data takes that for little."""


def regularized(
    gram: Map,
    rhs: Tensor,
    regularizer: Regularizer,
    *,
    penalty: float,
    preconditioner: Map,
    iterations: int,
    start: Tensor | None = None,
    effort: Effort = USUAL,
) -> Iterator[Progress]:
    r"""Iterate :math:`\min_u \tfrac12 u^H H u - \Re\langle b, u\rangle + R(u)` by ADMM.

    Parameters
    ----------
    gram
        ``u -> H u``.
    rhs
        b.
    regularizer
        R.
    penalty
        ADMM's rho, nats per unit squared (of ``K u``): changes the speed, not the answer.
    preconditioner
        Of ``H + rho K^H K``.
    iterations
        Most iterations; it ends before where the image stands still.
    start
        First estimate; ``None``: zero.
    effort
        How far to go.

    Yields
    ------
    Progress
        The residual is the relative change of the image.
    """

    def solve(system: Map, b: Tensor, u: Tensor) -> Solution:
        return conjugate_gradients(
            system,
            b,
            u,
            preconditioner=preconditioner,
            unit=math.sqrt(u.numel() * (2 if u.is_complex() else 1)),
            max_iterations=effort.inner_iterations,
            tolerance=effort.inner_tolerance,
        )

    u = torch.zeros_like(rhs) if start is None else start
    split = Split.at(regularizer, u)
    for index in range(1, iterations + 1):
        solution, split = admm_step(
            gram, rhs, regularizer, penalty, u, split, solve, effort.relaxation
        )
        change = float((solution.value - u).norm() / solution.value.norm().clamp_min(1e-30))
        u = solution.value
        yield Progress(index, u, change)
        if change < effort.converged:
            return
