"""The exact denoiser of a Gaussian prior: the oracle for samplers and consistency."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussian:
    r"""Posterior mean under x0 ~ N(m, Q diag(v) Q^T).

    .. math:: D(x, \sigma) = m + Q \frac{v}{v + \sigma^2} Q^T (x - m)

    Parameters
    ----------
    mean
        m, any shape.
    variances
        v: a number (white prior), or one per column of ``basis``.
    basis
        Orthogonal Q of shape (size, size) acting on the flattened image; ``None`` for the identity.
    """

    mean: Tensor
    variances: Tensor
    basis: Tensor | None = None

    def error_variance(self, sigma: float) -> float:
        """Mean posterior variance ``v sigma^2 / (v + sigma^2)``, exact."""
        return float((self.variances * sigma**2 / (self.variances + sigma**2)).mean())

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Denoise ``x``."""
        shrink = self.variances / (self.variances + sigma**2)
        centred = x - self.mean
        if self.basis is None:
            return self.mean + shrink * centred
        coefficients = shrink * (self.basis.mT @ centred.flatten())
        return self.mean + (self.basis @ coefficients).view_as(x)
