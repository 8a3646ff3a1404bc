"""Finite differences without wrap-around, in mm."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class Difference(LinearOperator):
    r"""Forward differences along chosen axes of a volume, per mm.

    .. math:: (K x)_a[i] = (x[i + e_a] - x[i]) / d_a

    and zero in the last place of the axis: nothing ties the top slice to the bottom one.

    Parameters
    ----------
    space
        The volume's space, ``(z, y, x)``.
    spacing
        Voxel size along each axis of the space, mm.
    axes
        The axes to differentiate, e.g. ``(0,)`` for z alone or ``(0, 1, 2)`` for the gradient;
        they become the first axis of the codomain, ``(axis, z, y, x)``.
    """

    space: Space
    spacing: tuple[float, ...]
    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.spacing) != self.space.ndim:
            raise InconsistentError(
                f"Difference: {len(self.spacing)} spacings given for {self.space.ndim} axes."
            )
        if not self.axes or any(not 0 <= a < self.space.ndim for a in self.axes):
            raise InconsistentError(
                f"Difference: axes {self.axes} do not fit a space of {self.space.ndim} axes."
            )

    @property
    def domain(self) -> Space:
        """The volume."""
        return self.space

    @property
    def codomain(self) -> Space:
        """One volume of differences per axis."""
        return Space((len(self.axes), *self.space.shape), self.space.complex)

    def _axis(self, axis: int) -> int:
        return axis - self.space.ndim

    def _forward(self, x: Tensor) -> Tensor:
        parts = torch.zeros(
            *x.shape[: x.ndim - self.space.ndim],
            *self.codomain.shape,
            dtype=x.dtype,
            device=x.device,
        )
        stacked = -1 - self.space.ndim
        for part, axis in zip(parts.unbind(stacked), self.axes, strict=True):
            a, n = self._axis(axis), self.space.shape[axis]
            inside = part.narrow(a, 0, n - 1)
            torch.sub(x.narrow(a, 1, n - 1), x.narrow(a, 0, n - 1), out=inside)
            inside /= self.spacing[axis]
        return parts

    def _adjoint(self, y: Tensor) -> Tensor:
        stacked = -1 - self.space.ndim
        x = torch.zeros_like(y.select(stacked, 0))
        for part, axis in zip(y.unbind(stacked), self.axes, strict=True):
            a, n = self._axis(axis), self.space.shape[axis]
            step = part.narrow(a, 0, n - 1) / self.spacing[axis]
            x.narrow(a, 0, n - 1).sub_(step)
            x.narrow(a, 1, n - 1).add_(step)
        return x

    def gram(self, x: Tensor) -> Tensor:
        """``K^H K x`` without storing the differences."""
        self.domain.check(x, "input of Difference.gram")
        out = torch.zeros_like(x)
        for axis in self.axes:
            a, n = self._axis(axis), self.space.shape[axis]
            step = (x.narrow(a, 1, n - 1) - x.narrow(a, 0, n - 1)) / self.spacing[axis] ** 2
            out.narrow(a, 0, n - 1).sub_(step)
            out.narrow(a, 1, n - 1).add_(step)
        return out
