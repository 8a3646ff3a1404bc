"""The negative log-likelihood of an image, in units that mean the same on every scanner."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator
from medrecon.solvers.cg import inner


class UnmatchedAdjointWarning(UserWarning):
    """A back-projection that only resembles the adjoint: solvers end beside the minimum."""


@dataclass(frozen=True, eq=False)
class DataTerm:
    r"""Weighted least squares of a normalised image.

    .. math:: f(u) = \tfrac12 \| W^{1/2} (A (s u + c) - y) \|^2

    Parameters
    ----------
    operator
        A, on images in physical units.
    measurements
        y.
    precision
        W, the inverse variance of each measurement *per real channel*: for CT the detected
        quanta, for complex data with E|n|^2 = v the number 2/v. A number or a tensor that
        broadcasts to ``measurements``. f is then in nats, so weights of priors and regularisers
        mean the same whatever the scanner, the dose or the coil gain.
    scale, offset
        s and c: physical image = s u + c, with u in the prior's range.

    Warns
    -----
    UnmatchedAdjointWarning
        If the operator's adjoint is an approximation.
    """

    operator: LinearOperator
    measurements: Tensor
    precision: Tensor | float
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        self.operator.codomain.check(self.measurements, "measurements")
        if not torch.isfinite(
            torch.view_as_real(self.measurements).sum()
            if self.measurements.is_complex()
            else self.measurements.sum()
        ):
            raise InconsistentError(
                "The measurements contain NaN or infinite values; mask or repair them first."
            )
        lowest = float(torch.as_tensor(self.precision).min())
        if not (math.isfinite(lowest) and lowest >= 0):
            raise InconsistentError(
                f"Measurement weights must be finite and not negative, the smallest is {lowest}."
            )
        if not self.operator.adjoint_is_exact:
            warnings.warn(
                f"The back-projection of {type(self.operator).__name__} is not its exact adjoint: "
                "CGLS, TV and DDS solve a slightly different problem and cannot reach small "
                "residuals; the native backend is exact.",
                UnmatchedAdjointWarning,
                stacklevel=1,
            )

    @property
    def blocks(self) -> int:
        """Leading axes along which the term falls apart into independent terms."""
        return self.operator.blocks

    @cached_property
    def _centred(self) -> Tensor:
        """``y - A c``."""
        if self.offset == 0:
            return self.measurements
        ones = torch.full(
            self.operator.domain.shape,
            self.offset,
            dtype=self.measurements.dtype,
            device=self.measurements.device,
        )
        return self.measurements - self.operator(ones)

    @cached_property
    def rhs(self) -> Tensor:
        """``s A^H W (y - A c)``, minus the gradient at u = 0."""
        return self.scale * self.operator.adjoint(self.precision * self._centred)

    def gram(self, u: Tensor) -> Tensor:
        """``s^2 A^H W A u``, the Hessian times u."""
        if isinstance(self.precision, float):
            return self.scale**2 * self.precision * self.operator.gram(u)
        return self.scale**2 * self.operator.adjoint(self.precision * self.operator(u))

    def residual(self, u: Tensor) -> Tensor:
        """Whitened residual ``W^{1/2} (y - A (s u + c))``: unit noise where u is the truth."""
        r = self._centred - self.scale * self.operator(u)
        return r * torch.as_tensor(self.precision).sqrt().to(r.device)

    def misfit(self, u: Tensor) -> float:
        """Mean squared whitened residual over the measured samples; about 1 at the truth."""
        r = self.residual(u)
        return float(inner(r, r, 0)) / self.degrees_of_freedom

    @cached_property
    def degrees_of_freedom(self) -> float:
        """Number of real measurements with a positive weight."""
        y = self.measurements
        channels = 2 if y.is_complex() else 1
        measured = torch.as_tensor(self.precision).to(y.device).expand(y.shape) > 0
        if y.is_complex():
            measured = measured & (y != 0)
        return float(channels * measured.sum())

    def value(self, u: Tensor) -> float:
        """f(u), nats."""
        return 0.5 * self.misfit(u) * self.degrees_of_freedom
