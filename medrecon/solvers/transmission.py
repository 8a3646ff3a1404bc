"""Maximum likelihood of transmitted counts: no logarithm, so counts near zero do no harm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator
from medrecon.solvers.progress import (
    Constraint,
    Progress,
    Relaxation,
    nonnegative,
    relative_change,
    relaxation_at,
)
from medrecon.solvers.sirt import check_real, check_values, first_estimate, reciprocal, row_sums
from medrecon.solvers.subsets import Order, golden_angle

# Below this line integral the optimal curvature is its limit at 0, not a quotient of roundings.
_SMALL = {torch.float32: 1e-3, torch.float64: 1e-6}


@dataclass(frozen=True, eq=False)
class Transmission:
    r"""Counts of some views, and the physics that explains them.

    .. math:: Y_i \sim \mathrm{Poisson}\left(b_i e^{-[A x]_i} + r_i\right)

    Parameters
    ----------
    operator
        A, without negative entries, for the views of these counts.
    counts
        Y, ``(*batch, *codomain)``, zero and more, not necessarily whole numbers.
    blank
        b, the mean counts without an object; broadcasts to the counts.  0 marks dead cells, which
        are left out.
    background
        r, the mean counts of scatter and dark current; broadcasts to the counts.

    Raises
    ------
    UsageError
        If the operator is complex or has negative entries.
    InconsistentError
        If a count, blank or background is negative or not finite, or no cell has a blank count.
    """

    operator: LinearOperator
    counts: Tensor
    blank: Tensor
    background: Tensor | float = 0.0

    def __post_init__(self) -> None:
        check_real(self.operator)
        self.operator.codomain.check(self.counts, "counts")
        check_values("counts", self.counts, lowest=0)
        check_values("blank scan", self.blank, lowest=0)
        check_values("background", torch.as_tensor(self.background), lowest=0)
        if not bool((self.blank > 0).any()):
            raise InconsistentError("The blank scan is zero everywhere: no cell saw the source.")

    @cached_property
    def row_sums(self) -> Tensor:
        """``A 1``, the length of each ray in the volume."""
        return row_sums(self.operator, self.counts)

    def loss(self, lines: Tensor) -> Tensor:
        """Negative log-likelihood h of every cell, nats, up to a constant of the counts."""
        mean = self.blank * torch.exp(-lines) + self.background
        return torch.where(self.blank > 0, mean - torch.xlogy(self.counts, mean), 0.0)

    def value(self, x: Tensor) -> float:
        """Negative log-likelihood of an image, nats, summed over all cells."""
        return float(self.loss(self.operator(x)).double().sum())

    def slope(self, lines: Tensor) -> Tensor:
        """Differentiate :meth:`loss` by the line integral."""
        primary = self.blank * torch.exp(-lines)
        mean = (primary + self.background).clamp_min(torch.finfo(lines.dtype).tiny)
        return primary * self.counts / mean - primary

    def curvature(self, lines: Tensor) -> Tensor:
        r"""Smallest curvature of a parabola that touches h at l and lies above it for l >= 0.

        .. math:: c(l) = \left[\tfrac{2}{l^2}\left(h(0) - h(l) + l\,h'(l)\right)\right]_+,
            \qquad c(0) = \left[h''(0)\right]_+

        written with ``expm1`` and ``log1p``, so that nothing cancels at small l.

        References
        ----------
        Erdogan and Fessler 1999, doi:10.1109/42.802758, section III.C.
        """
        b, r, Y, tiny = self.blank, self.background, self.counts, torch.finfo(lines.dtype).tiny
        at_zero = b - Y * b * r / (b + r).square().clamp_min(tiny)
        small = lines < _SMALL.get(lines.dtype, 1e-3)
        safe = torch.where(small, 1.0, lines)
        primary, stopped = b * torch.exp(-safe), -b * torch.expm1(-safe)
        mean = (primary + r).clamp_min(tiny)
        gap = stopped - safe * primary
        gap = gap + Y * (safe * primary / mean - torch.log1p(stopped / mean))
        return torch.where(small, at_zero, 2 * gap / safe.square()).clamp_min(0)


def os_transmission(
    subsets: Sequence[Transmission],
    *,
    iterations: int,
    relaxation: Relaxation = 1.0,
    order: Order = golden_angle,
    constraint: Constraint = nonnegative,
    start: Tensor | None = None,
) -> Iterator[Progress]:
    r"""Maximum likelihood from counts by separable paraboloidal surrogates (OS-SPS, "OSTR").

    .. math:: x \leftarrow P\left(x - \lambda\,\frac{A^T h'(A x)}{A^T (c(A x) \cdot A 1)}\right)

    for one subset after the other.  With a single subset, relaxation 1 and non-negativity the
    likelihood never falls.  With n subsets an iteration costs the same and at first goes about n
    times as far; noisy data then end in a small cycle about the solution, unless the relaxation
    falls.  Each visit costs one forward and two back projections, because the curvatures are the
    optimal ones at the present image: steps stay bounded where rays count nothing at all.

    Parameters
    ----------
    subsets
        The scan in parts; a list of one for no subsets.
    iterations
        Number of passes over all subsets.
    relaxation
        Lambda, or a function of the iteration, counted from 1.
    order
        In what order to visit the subsets.
    constraint
        P; the surrogates need an image without negative values, the default.
    start
        First estimate, not negative; ``None``: zero.

    Yields
    ------
    Progress
        The residual is the relative change of the image in this iteration.

    References
    ----------
    Erdogan and Fessler 1999, doi:10.1109/42.802758 (surrogates, curvature) and
    doi:10.1088/0031-9155/44/11/311 (ordered subsets).
    """
    x = first_estimate(subsets[0].operator, subsets[0].counts, start)
    visits = order(len(subsets))
    for iteration in range(1, iterations + 1):
        before, factor = x, relaxation_at(relaxation, iteration)
        for k in visits:
            x = constraint(x - factor * _step(subsets[k], x))
        yield Progress(iteration, x, relative_change(x, before))


def _step(subset: Transmission, x: Tensor) -> Tensor:
    """Gradient over the curvature of the separable surrogate; both in one back projection."""
    lines = subset.operator(x).clamp_min(0)  # of an image without negative values: rounding only
    curved = subset.curvature(lines) * subset.row_sums
    both = subset.operator.adjoint(torch.stack([subset.slope(lines), curved]))
    gradient: Tensor = both[0] * reciprocal(both[1])
    return gradient
