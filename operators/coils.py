"""Receive coils: one image seen through several sensitivities."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class Coils(LinearOperator):
    """``y_c = s_c x``; the adjoint is ``sum_c conj(s_c) y_c``.

    Parameters
    ----------
    maps
        Complex sensitivities; ``(z, coils, y, x)`` with ``axis=1`` for slice-wise encoding,
        ``(coils, z, y, x)`` with ``axis=0`` for 3D encoding. Cast to the precision of the input.
    axis
        Where the coils stand in ``maps`` and in the codomain.

    Raises
    ------
    InconsistentError
        If the maps are not complex with four axes, or the axis is neither 0 nor 1.

    References
    ----------
    Pruessmann et al., SENSE: sensitivity encoding for fast MRI, Magn Reson Med 42 (1999).
    """

    maps: Tensor
    axis: int

    def __post_init__(self) -> None:
        if self.maps.ndim != 4 or not self.maps.is_complex() or self.axis not in (0, 1):
            raise InconsistentError(
                "Coil maps are complex with axes (z, coils, y, x), axis 1, or (coils, z, y, x), "
                f"axis 0; got {self.maps.dtype} with shape {tuple(self.maps.shape)}, axis "
                f"{self.axis}."
            )

    @property
    def domain(self) -> Space:
        """Complex image ``(z, y, x)``."""
        shape = tuple(n for i, n in enumerate(self.maps.shape) if i != self.axis)
        return Space(shape, complex=True)

    @property
    def codomain(self) -> Space:
        """Complex coil images, the shape of the maps."""
        return Space(tuple(self.maps.shape), complex=True)

    @property
    def blocks(self) -> int:
        """The axes before the coils."""
        return self.axis

    def _forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(self.axis - 4) * self.maps.to(device=x.device, dtype=x.dtype)

    def _adjoint(self, y: Tensor) -> Tensor:
        maps = self.maps.to(device=y.device, dtype=y.dtype)
        return (maps.conj() * y).sum(dim=self.axis - 4)
