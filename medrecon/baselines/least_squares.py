"""Least squares by conjugate gradients: CGLS, and CG-SENSE for coils."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.solvers.cg import cg_iterates
from medrecon.solvers.progress import Progress


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
