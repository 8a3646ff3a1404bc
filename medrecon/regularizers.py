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


@dataclass(frozen=True, eq=False)
class Sparsity:
    r"""Weighted l1 norm of what a linear map makes of an image, real or complex.

    .. math:: R(x) = w \sum_{i \in P} |(K x)_i|

    Parameters
    ----------
    operator
        K, e.g. a wavelet transform.
    weight
        w, nats per unit of ``K x``.
    penalised
        P as booleans that broadcast to K's codomain, e.g. the details of a wavelet transform;
        ``None``: all.

    References
    ----------
    Lustig, Donoho and Pauly 2007, doi:10.1002/mrm.21391.
    """

    operator: LinearOperator
    weight: float
    penalised: Tensor | None = None

    def value(self, x: Tensor) -> float:
        """``weight`` times the sum of the penalised magnitudes."""
        magnitude = self.operator(x).abs()
        if self.penalised is not None:
            magnitude = magnitude * self.penalised.to(magnitude.device)
        return self.weight * float(magnitude.double().sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Shrink every penalised magnitude by ``step * weight``, at most to zero."""
        magnitude = v.abs()
        shrunk = 1 - step * self.weight / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny)
        shrunk = shrunk.clamp_min_(0)
        if self.penalised is not None:
            shrunk.masked_fill_(~self.penalised.to(v.device), 1)
        return v * shrunk


@dataclass(frozen=True, eq=False)
class NuclearNorm:
    r"""Sum of the nuclear norms of the matrices ``(..., rows, columns)`` that a map cuts out.

    .. math:: R(x) = w \sum_b \|(K x)_b\|_*

    Parameters
    ----------
    operator
        K; the last two axes of its codomain are the matrices.
    weight
        w, nats per unit of ``K x``.

    References
    ----------
    Cai, Candès and Shen 2010, doi:10.1137/080738970 (singular value thresholding).
    """

    operator: LinearOperator
    weight: float

    def value(self, x: Tensor) -> float:
        """``weight`` times the sum of all singular values."""
        return self.weight * float(torch.linalg.svdvals(self.operator(x)).double().sum())

    def prox(self, v: Tensor, step: float) -> Tensor:
        """Shrink every singular value by ``step * weight``, at most to zero.

        By the eigenvectors of the smaller Gram matrix: a matrix of few frames is turned by a few
        numbers, and no vector of voxels is ever orthogonalised.
        """
        tall = v.shape[-2] > v.shape[-1]
        matrix = v.mT if tall else v
        squares, vectors = torch.linalg.eigh(matrix @ matrix.mH)
        values = squares.clamp_min(0).sqrt()
        tiny = torch.finfo(values.dtype).tiny
        shrunk = (1 - step * self.weight / values.clamp_min(tiny)).clamp_min(0)
        out: Tensor = (vectors * shrunk[..., None, :]) @ (vectors.mH @ matrix)
        return out.mT if tall else out
