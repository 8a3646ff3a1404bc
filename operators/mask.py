"""Which samples were measured, as an operator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class Mask(LinearOperator):
    """Zeroes what was not measured: ``y = m x`` with a boolean ``m``; a projection.

    Parameters
    ----------
    space
        What is masked.
    mask
        Boolean, of the shape of the space's last axes; shared by the axes before them.

    Raises
    ------
    InconsistentError
        If the mask is not boolean or does not fit the space.
    """

    space: Space
    mask: Tensor

    def __post_init__(self) -> None:
        fits = self.space.shape[self.space.ndim - self.mask.ndim :] == tuple(self.mask.shape)
        if self.mask.dtype != torch.bool or self.mask.ndim > self.space.ndim or not fits:
            raise InconsistentError(
                f"A mask is boolean and fits the last axes of {self.space.shape}, got "
                f"{self.mask.dtype} with shape {tuple(self.mask.shape)}."
            )

    @property
    def domain(self) -> Space:
        """The space."""
        return self.space

    @property
    def codomain(self) -> Space:
        """The space."""
        return self.space

    @property
    def blocks(self) -> int:
        """Every axis: the mask acts sample by sample."""
        return self.space.ndim

    def _forward(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x.device)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self.mask.to(y.device)

    def gram(self, x: Tensor) -> Tensor:
        """``M^H M = M``: a projection."""
        return self(x)
