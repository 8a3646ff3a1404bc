"""The data step of the loop: how much an estimate is trusted against the data at each level."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.priors.denoiser import Denoiser
from medrecon.sampling.consistency import Carried, Consistency
from medrecon.solvers.cg import Solution, inner

Anchor = Callable[[float], float]
"""Variance r^2 of the denoised volume's error at a noise level: small holds it, large frees it."""


@dataclass(frozen=True, eq=False)
class ErrorVariance:
    """The denoiser's own error, measured on validation images: the noise-matched anchor.

    With factor 1 and a white Gaussian prior the data step returns the exact posterior mean of the
    clean volume, given the noisy one and the data.

    Parameters
    ----------
    prior
        The denoiser.
    factor
        Above 1 follows the data further than the validation error says.
    """

    prior: Denoiser
    factor: float = 1.0

    def __call__(self, sigma: float) -> float:
        """Variance at ``sigma``, in the prior's unit squared."""
        return self.factor * self.prior.error_variance(sigma)


@dataclass(frozen=True)
class Constant:
    """The same anchor at every level, as in DDS's proximal step for noisy data.

    Parameters
    ----------
    gamma
        Weight of the data term whose largest curvature is scaled to 1.
    curvature
        That largest curvature, see :func:`largest_curvature`.

    References
    ----------
    Chung, Lee and Ye 2024, arXiv:2303.05754, whose operators have norm 1.
    """

    gamma: float
    curvature: float

    def __call__(self, sigma: float) -> float:
        """Variance, in the prior's unit squared."""
        return self.gamma / self.curvature


def unanchored(sigma: float) -> float:
    """No anchor: only stopping conjugate gradients early keeps the solution near the estimate."""
    return math.inf


@dataclass(frozen=True, eq=False)
class ProximalStep:
    """The proximal map of the data term with an anchor for its variance.

    Parameters
    ----------
    consistency
        The proximal map.
    anchor
        Trust in the estimate by noise level.
    """

    consistency: Consistency
    anchor: Anchor

    def __call__(
        self, estimate: Tensor, sigma: float, carried: Carried | None
    ) -> tuple[Solution, Carried | None]:
        """See :class:`~medrecon.sampling.loop.DataStep`."""
        return self.consistency(estimate, self.anchor(sigma), carried)


def largest_curvature(data: DataTerm, iterations: int = 20) -> float:
    """Largest eigenvalue of the data term's Hessian ``s^2 A^H W A``, by the power method.

    It comes from below: 20 iterations reach it within a few percent.

    References
    ----------
    Golub and Van Loan, Matrix Computations, 2013, section 8.2.1.
    """
    generator = torch.Generator().manual_seed(0)
    like = data.rhs
    v = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    value = 0.0
    for _ in range(iterations):
        v = v / torch.linalg.vector_norm(v)
        w = data.gram(v)
        value = float(inner(v, w, 0))
        v = w
    return value
