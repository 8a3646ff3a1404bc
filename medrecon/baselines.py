"""Classical reconstructions of a data term: CGLS, total variation, CG-SENSE."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.operators.difference import Difference
from medrecon.regularizers import TotalVariation
from medrecon.solvers.admm import Split, admm_step
from medrecon.solvers.cg import Map, Solution, cg_iterates, conjugate_gradients
from medrecon.solvers.preconditioner import curvature, diagonal_preconditioner, difference_spectrum
from medrecon.solvers.progress import Progress

_INNER_ITERATIONS = 12
_INNER_TOLERANCE = 0.05
_PENALTY = 5.0
_RELAXATION = 1.7
_CONVERGED = 2e-5


def cgls(
    data: DataTerm, *, iterations: int, weight: float = 0.0, tolerance: float = 1e-4
) -> Iterator[Progress]:
    r"""Conjugate gradients on the (Tikhonov-regularised) weighted normal equations.

    .. math:: \min_u f(u) + \tfrac{\lambda}{2} \|u\|^2

    With ``weight`` zero the number of iterations regularises. With a SENSE operator it is CG-SENSE
    (Pruessmann et al. 2001, doi:10.1002/mrm.1241).

    Parameters
    ----------
    data
        The data term f.
    iterations
        Most iterations.
    weight
        Lambda, nats per unit squared.
    tolerance
        Relative residual at which to stop.
    """

    def system(u: Tensor) -> Tensor:
        return data.gram(u) + weight * u

    start = torch.zeros_like(data.rhs)
    for index, state in enumerate(cg_iterates(system, data.rhs, start, blocks=data.blocks), 1):
        residual = float(state.residual.max())
        yield Progress(index, state.value, residual)
        if index >= iterations or residual < tolerance:
            return


def total_variation(
    data: DataTerm,
    spacing: tuple[float, float, float],
    *,
    weight: float,
    iterations: int,
    start: Tensor | None = None,
) -> Iterator[Progress]:
    r"""Isotropic 3D total variation by ADMM, run until it stands still.

    .. math:: \min_u f(u) + w \sum_i |\nabla u_i|

    Parameters
    ----------
    data
        The data term f.
    spacing
        Voxel size along z, y, x, mm.
    weight
        w, nats times mm per unit.
    iterations
        Most ADMM iterations; it ends before where the image changes by less than 2e-5 (relative).
    start
        First estimate, e.g. the analytic reconstruction; ``None``: zero.

    References
    ----------
    Sidky and Pan 2008, doi:10.1088/0031-9155/53/17/021 (TV for cone-beam CT).
    """
    K = Difference(data.operator.domain, spacing, (0, 1, 2))
    regularizer = TotalVariation(K, weight)
    rho = _PENALTY * weight
    added = rho * difference_spectrum(K, K.spacing, K.axes).to(data.rhs.device)
    precondition = diagonal_preconditioner(curvature(data), added, 0)

    def solve(system: Map, b: Tensor, u: Tensor) -> Solution:
        return conjugate_gradients(
            system,
            b,
            u,
            preconditioner=precondition,
            unit=math.sqrt(u.numel() * (2 if u.is_complex() else 1)),
            max_iterations=_INNER_ITERATIONS,
            tolerance=_INNER_TOLERANCE,
        )

    u = torch.zeros_like(data.rhs) if start is None else start
    split = Split.at(regularizer, u)
    for index in range(1, iterations + 1):
        solution, split = admm_step(
            data.gram, data.rhs, regularizer, rho, u, split, solve, _RELAXATION
        )
        change = float((solution.value - u).norm() / solution.value.norm().clamp_min(1e-30))
        u = solution.value
        yield Progress(index, u, change)
        if change < _CONVERGED:
            return
