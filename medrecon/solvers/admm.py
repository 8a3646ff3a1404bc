"""ADMM for a data term plus a proximal term plus a regulariser, with its state in the open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from medrecon.regularizers import Regularizer
from medrecon.solvers.cg import Map, Solution


@dataclass(frozen=True)
class Split:
    """State that ADMM carries: the copy d of K u and the scaled dual w."""

    copy: Tensor
    dual: Tensor

    @classmethod
    def at(cls, regularizer: Regularizer, u: Tensor) -> Split:
        """Start where ``d = K u`` and nothing has been learnt yet."""
        d = regularizer.operator(u)
        return cls(d, d.new_zeros(d.shape))


Solve = Callable[[Map, Tensor, Tensor], Solution]


def admm_step(
    system: Map,
    rhs: Tensor,
    regularizer: Regularizer,
    rho: float,
    u: Tensor,
    split: Split,
    solve: Solve,
    relaxation: float = 1.0,
) -> tuple[Solution, Split]:
    r"""One iteration of ADMM on :math:`\tfrac12 u^H H u - \Re\langle b, u\rangle + R(u)`.

    .. math::

        (H + \rho K^H K)\,u &= b + \rho K^H (d - w) \\
        d &= \mathrm{prox}_{R/\rho}(v + w), \qquad w \leftarrow w + v - d

    with :math:`v = \alpha K u + (1 - \alpha) d`.

    Parameters
    ----------
    system
        ``u -> H u``.
    rhs
        b.
    regularizer
        R(u) = phi(K u).
    rho
        Penalty; changes the speed, not the answer.
    u, split
        Where the last iteration ended.
    solve
        ``(map, right-hand side, start) -> Solution`` of the linear system.
    relaxation
        Alpha, in [1, 2): above 1 (1.5 to 1.8) it needs fewer iterations.

    References
    ----------
    Boyd et al. 2011, doi:10.1561/2200000016, sections 3.1.1 and 3.4.3.
    """
    K = regularizer.operator
    b = rhs + rho * K.adjoint(split.copy - split.dual)
    solution = solve(lambda v: system(v) + rho * K.gram(v), b, u)
    reached = K(solution.value)
    if relaxation != 1:
        reached = relaxation * reached + (1 - relaxation) * split.copy
    slope = reached + split.dual
    copy = regularizer.prox(slope, 1 / rho)
    return solution, Split(copy, slope - copy)
