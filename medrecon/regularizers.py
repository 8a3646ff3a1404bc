"""Regularisers R(x) = phi(K x): a linear map K and a function with a simple proximal map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from medrecon.operators.base import LinearOperator
from medrecon.operators.difference import Difference


class Regularizer(Protocol):
    """R(x) = weight * phi(K x), convex."""

    @property
    def operator(self) -> LinearOperator:
        """K."""

    @property
    def weight(self) -> float:
        """Factor before phi."""

    def value(self, x: Tensor) -> float:
        """``weight * phi(K x)``."""

    def prox(self, v: Tensor, step: float) -> Tensor:
        """``argmin_d step * weight * phi(d) + |d - v|^2 / 2`` on K's codomain."""


@dataclass(frozen=True)
class TotalVariation:
    r"""Isotropic total variation of a real or complex volume.

    .. math:: R(x) = w \sum_i \sqrt{\sum_a |(K x)_a[i]|^2}

    with K the differences per mm along the chosen axes, so that the same weight means the same
    smoothness whatever the voxel size.  With the z axis alone it is the l1 norm of the slope
    between neighbouring slices.

    Parameters
    ----------
    operator
        The differences, see :class:`~medrecon.operators.difference.Difference`.
    weight
        w, in units of the data term (nats) times mm per unit of x.

    References
    ----------
    Rudin, Osher and Fatemi 1992, doi:10.1016/0167-2789(92)90242-F.
    """

    operator: Difference
    weight: float

    def _magnitude(self, d: Tensor) -> Tensor:
        axis = -1 - self.operator.domain.ndim
        length: Tensor = torch.linalg.vector_norm(d, dim=axis, keepdim=True)
        return length

    def value(self, x: Tensor) -> float:
        """Return ``weight`` times the total variation of ``x``."""
        return self.weight * float(self._magnitude(self.operator(x)).double().sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Shrink every gradient vector's length by ``step * weight``, at most to zero."""
        length = self._magnitude(v)
        shrunk = 1 - step * self.weight / length.clamp_min(torch.finfo(length.dtype).tiny)
        return v * shrunk.clamp_min(0)
