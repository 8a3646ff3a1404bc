"""The data-consistency step: the proximal map of the data term, with or without TV along z."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.regularizers import TotalVariation
from medrecon.solvers.admm import Split, admm_step
from medrecon.solvers.cg import Map, Solution, conjugate_gradients, inner
from medrecon.solvers.preconditioner import (
    PRECONDITIONERS,
    Curvature,
    Preconditioner,
    curvature,
    difference_spectrum,
)


@dataclass(frozen=True, kw_only=True)
class CGSettings:
    """How the linear systems of the data step are solved.

    Parameters
    ----------
    max_iterations, tolerance
        Limits of conjugate gradients. The tolerance is the error that may stay, in standard
        deviations of the posterior, averaged over the voxels.
    preconditioner
        See :mod:`medrecon.solvers.preconditioner`.
    noise_stop
        Stop as soon as the mean squared whitened residual is below this; 0 never.
    warm_start
        Share of the last data step's correction that the next starts with; 0 starts at the
        estimate. What data correct in one step they mostly correct in the next: it saves a tenth
        to a fifth of the iterations and does not change what they converge to.
    """

    max_iterations: int = 30
    tolerance: float = 0.05
    preconditioner: Preconditioner = PRECONDITIONERS["circulant"]
    noise_stop: float = 0.0
    warm_start: float = 0.0


@dataclass(frozen=True, eq=False)
class Carried:
    """What one data step leaves to the next.

    Parameters
    ----------
    correction
        Its solution minus the estimate it was given.
    split
        The state of ADMM; ``None`` without a regulariser.
    """

    correction: Tensor
    split: Split | None = None


@dataclass(frozen=True, eq=False)
class Consistency:
    r"""Draws an estimate to the data: the proximal map of the data term.

    .. math:: \arg\min_u f(u) + \frac{1}{2 r^2} \|u - u_0\|^2 + R(u)

    Parameters
    ----------
    data
        f, in nats.
    settings
        How the linear systems are solved.
    regularizer
        R, e.g. total variation along z; ``None`` for none.
    penalty
        ADMM's rho over the regulariser's weight.
    """

    data: DataTerm
    settings: CGSettings
    regularizer: TotalVariation | None = None
    penalty: float = 10.0

    @cached_property
    def _curvature(self) -> Curvature:
        return curvature(self.data)

    def __call__(
        self, u0: Tensor, variance: float, carried: Carried | None = None
    ) -> tuple[Solution, Carried]:
        """Solve from ``u0`` with trust ``variance`` (r^2) in it.

        ``carried`` is what the last call returned: ADMM does one iteration from there.
        """
        anchor = 1 / variance
        rhs = self.data.rhs + anchor * u0
        start = u0
        if carried is not None and self.settings.warm_start > 0:
            start = u0 + self.settings.warm_start * carried.correction

        def system(v: Tensor) -> Tensor:
            return self.data.gram(v) + anchor * v

        if self.regularizer is None:
            solution = self._solve(system, rhs, start, added=anchor, blocks=self.data.blocks)
            return solution, Carried(solution.value - u0)
        K = self.regularizer.operator
        rho = self.penalty * self.regularizer.weight
        added = anchor + rho * difference_spectrum(K, K.spacing, K.axes).to(u0.device)
        solve = partial(self._solve, added=added, blocks=0)
        split = None if carried is None else carried.split
        split = split or Split.at(self.regularizer, u0)
        solution, split = admm_step(system, rhs, self.regularizer, rho, start, split, solve)
        return solution, Carried(solution.value - u0, split)

    def _solve(
        self, system: Map, b: Tensor, start: Tensor, *, added: Tensor | float, blocks: int
    ) -> Solution:
        settings = self.settings
        return conjugate_gradients(
            system,
            b,
            start,
            blocks=blocks,
            preconditioner=settings.preconditioner(self._curvature, added, blocks),
            max_iterations=settings.max_iterations,
            unit=math.sqrt(math.prod(b.shape[blocks:]) * (2 if b.is_complex() else 1)),
            tolerance=settings.tolerance,
            reached_noise=(
                discrepancy(self.data, settings.noise_stop) if settings.noise_stop > 0 else None
            ),
        )


def discrepancy(data: DataTerm, level: float) -> Callable[[Tensor], bool]:
    """Morozov's rule: True once the mean squared whitened residual of ``u`` is below ``level``."""

    def reached(u: Tensor) -> bool:
        r = data.residual(u)
        return float(inner(r, r, 0)) <= level * data.degrees_of_freedom

    return reached
