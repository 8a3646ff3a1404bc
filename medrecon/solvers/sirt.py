"""SIRT, and SART over ordered subsets: steps scaled by the sums of rows and columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from medrecon.errors import InconsistentError, UsageError
from medrecon.operators.base import LinearOperator
from medrecon.solvers.progress import (
    Constraint,
    Progress,
    Relaxation,
    relative_change,
    relaxation_at,
    unconstrained,
)
from medrecon.solvers.subsets import Order, golden_angle

# Sums of columns are volumes. Kept for so many subsets, worked out at every visit beyond.
_KEPT = 32
GRAZED = 1e-6  # of the longest ray: one that says nothing about the volume


@dataclass(frozen=True, eq=False)
class Subset:
    r"""Some views of a scan: what was measured there, and the operator that explains it.

    Parameters
    ----------
    operator
        A, without negative entries.
    measurements
        y, ``(*batch, *codomain)``, real.
    weights
        W, not negative, broadcasting to y; for the statistical variant the inverse variances.
        ``None``: one over the sums of the rows of A, as SIRT has it.
    """

    operator: LinearOperator
    measurements: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        check_real(self.operator)
        self.operator.codomain.check(self.measurements, "measurements")
        check_values("measurements", self.measurements)
        if self.weights is not None:
            check_values("weights", self.weights, lowest=0)

    @cached_property
    def row_sums(self) -> Tensor:
        """``A 1``, the length of each ray in the volume."""
        return row_sums(self.operator, self.measurements)

    @cached_property
    def effective_weights(self) -> Tensor:
        """W as it is applied."""
        return reciprocal(self.row_sums, GRAZED) if self.weights is None else self.weights

    def column_sums(self) -> Tensor:
        """``A^T W A 1``; for the weights of SIRT ``A^T 1``, how well each voxel is seen."""
        return self.operator.adjoint(self.effective_weights * self.row_sums)

    def direction(self, x: Tensor) -> Tensor:
        """``A^T W (y - A x)``."""
        residual = self.measurements - self.operator(x)
        return self.operator.adjoint(self.effective_weights * residual)


def sirt(
    operator: LinearOperator,
    measurements: Tensor,
    *,
    iterations: int,
    weights: Tensor | None = None,
    relaxation: Relaxation = 1.0,
    constraint: Constraint = unconstrained,
    start: Tensor | None = None,
) -> Iterator[Progress]:
    r"""Simultaneous iterative reconstruction: every measurement corrects every voxel it saw.

    .. math:: x \leftarrow P\left(x + \lambda\,C A^T W (y - A x)\right), \qquad
        C = 1 / (A^T W A 1)

    With ``W = 1 / (A 1)``, SIRT's own weights, C is ``1 / (A^T 1)``.  It descends to the minimum
    of :math:`\|y - A x\|_W^2` for every relaxation in (0, 2); with ``weights`` the inverse
    variances it is the penalty-free separable quadratic surrogate of weighted least squares.
    Noise is held down by stopping early.

    Parameters
    ----------
    operator, measurements, weights
        As for :class:`Subset`; leading batch dimensions of the measurements are kept apart.
    iterations
        Number of iterations; each costs one forward and one back projection.
    relaxation
        Lambda.
    constraint
        P, e.g. :func:`~medrecon.solvers.progress.nonnegative`.
    start
        First estimate, e.g. a filtered back-projection; ``None``: zero.

    Yields
    ------
    Progress
        The residual is the relative change of the image in this iteration.

    References
    ----------
    Gilbert 1972, doi:10.1016/0022-5193(72)90180-4; Gregor and Benson 2008,
    doi:10.1109/TMI.2008.923696 (convergence and weights); Erdogan and Fessler 1999,
    doi:10.1088/0031-9155/44/11/311 (surrogates).
    """
    return os_sart(
        [Subset(operator, measurements, weights)],
        iterations=iterations,
        relaxation=relaxation,
        constraint=constraint,
        start=start,
    )


def os_sart(
    subsets: Sequence[Subset],
    *,
    iterations: int,
    relaxation: Relaxation = 1.0,
    order: Order = golden_angle,
    constraint: Constraint = unconstrained,
    start: Tensor | None = None,
) -> Iterator[Progress]:
    r"""SIRT's step for one subset of the views after the other; one view each: SART.

    An iteration visits every subset once, so with n subsets it costs as much as one of SIRT and
    at first goes about n times as far.  Consistent data are solved exactly for every relaxation
    in (0, 2).  Noisy data are not: the image then circles near the solution, on an orbit as wide
    as the relaxation, which may therefore fall with the iterations.

    Parameters
    ----------
    subsets
        The scan in parts, e.g. from :func:`~medrecon.solvers.subsets.split_geometry`.
    iterations
        Number of passes over all subsets.
    relaxation
        Lambda, or a function of the iteration, counted from 1.
    order
        In what order to visit the subsets.
    constraint, start
        As for :func:`sirt`.

    Yields
    ------
    Progress
        As for :func:`sirt`, after every pass.

    References
    ----------
    Andersen and Kak 1984, doi:10.1016/0161-7346(84)90008-7 (SART); Wang and Jiang 2004,
    doi:10.3233/XST-2004-00110 (ordered subsets); Jiang and Wang 2003,
    doi:10.1109/TIP.2003.815295 (convergence).
    """
    visits = order(len(subsets))
    kept: dict[int, Tensor] = {}
    x = first_estimate(subsets[0].operator, subsets[0].measurements, start)
    for iteration in range(1, iterations + 1):
        before, factor = x, relaxation_at(relaxation, iteration)
        for k in visits:
            inverse = kept[k] if k in kept else reciprocal(subsets[k].column_sums())
            if len(kept) < _KEPT:
                kept[k] = inverse
            x = constraint(x + factor * inverse * subsets[k].direction(x))
        yield Progress(iteration, x, relative_change(x, before))


def first_estimate(operator: LinearOperator, measurements: Tensor, start: Tensor | None) -> Tensor:
    """Take the start, or zeros for every problem of the batch."""
    if start is not None:
        operator.domain.check(start, "the first estimate")
        return start
    batch = measurements.shape[: measurements.ndim - operator.codomain.ndim]
    return measurements.new_zeros((*batch, *operator.domain.shape))


def reciprocal(sums: Tensor, least: float = 0.0) -> Tensor:
    """Compute ``1 / sums``, and 0 where nothing, or ``least`` of the largest, was added up."""
    seen = sums > least * sums.max()
    return torch.where(seen, 1 / torch.where(seen, sums, 1.0), 0.0)


def row_sums(operator: LinearOperator, like: Tensor) -> Tensor:
    """Compute ``A 1`` with the device and precision of ``like``.

    Raises
    ------
    UsageError
        If it has negative values.
    """
    sums = operator(torch.ones(operator.domain.shape, dtype=like.dtype, device=like.device))
    if float(sums.min()) < -GRAZED * float(sums.max().clamp_min(0)):
        raise UsageError("This method needs an operator without negative entries; use CGLS.")
    return sums


def check_real(operator: LinearOperator) -> None:
    """Refuse operators that cannot have entries of zero and more only."""
    if operator.domain.complex or operator.codomain.complex:
        raise UsageError(
            "SIRT, SART and transmission likelihoods are for real operators without negative "
            "entries, such as CT projectors; use CGLS."
        )


def check_values(name: str, values: Tensor, lowest: float = -math.inf) -> None:
    """Refuse data that would silently spoil the whole image."""
    if not bool(torch.isfinite(values).all()):
        raise InconsistentError(
            f"The {name} contain NaN or infinite values; mask or repair them first."
        )
    if float(values.min()) < lowest:
        raise InconsistentError(
            f"The {name} must not be less than {lowest:g}, the smallest is {float(values.min())}."
        )
