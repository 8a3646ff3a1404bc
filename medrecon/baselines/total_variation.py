"""Total variation of a real or complex volume."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from medrecon.baselines.regularized import USUAL, Effort, regularized
from medrecon.data_term import DataTerm
from medrecon.operators.difference import Difference
from medrecon.regularizers import TotalVariation
from medrecon.solvers.preconditioner import curvature, diagonal_preconditioner, difference_spectrum
from medrecon.solvers.progress import Progress

_PENALTY = 5.0


def total_variation(
    data: DataTerm,
    spacing: tuple[float, float, float],
    *,
    weight: float,
    iterations: int,
    start: Tensor | None = None,
    effort: Effort = USUAL,
) -> Iterator[Progress]:
    r"""Isotropic 3D total variation by ADMM, run until it stands still.

    .. math:: \min_u f(u) + w \sum_i |\nabla u_i|

    The length of a complex gradient counts real and imaginary parts alike, so nothing depends on
    the image's phase.

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
    effort
        How far to go.

    References
    ----------
    Sidky and Pan 2008, doi:10.1088/0031-9155/53/17/021 (TV for cone-beam CT); Block et al. 2007,
    doi:10.1002/mrm.21236 (TV for coils).
    """
    K = Difference(data.operator.domain, spacing, (0, 1, 2))
    penalty = _PENALTY * weight
    added = penalty * difference_spectrum(K, K.spacing, K.axes).to(data.rhs.device)
    return regularized(
        data.gram,
        data.rhs,
        TotalVariation(K, weight),
        penalty=penalty,
        preconditioner=diagonal_preconditioner(curvature(data), added, 0),
        iterations=iterations,
        start=start,
        effort=effort,
    )
