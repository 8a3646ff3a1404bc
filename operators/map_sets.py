"""Several sets of coil maps: soft SENSE.

Where the field of view is too small, or objects overlap, one map per coil cannot explain what the
coils saw; ESPIRiT then gives several sets, each with an image of its own, and
``y = sum_s A_s x_s``.

References
----------
Uecker et al., ESPIRiT: an eigenvalue approach to autocalibrating parallel MRI: where SENSE meets
GRAPPA, Magn Reson Med 71 (2014), doi:10.1002/mrm.24751.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class MapSets(LinearOperator):
    """``u_c = sum_s S_sc x_s``: what the coils see of the images of all sets.

    Parameters
    ----------
    maps
        Complex sensitivities, ``(sets, z, coils, y, x)`` with ``axis=1`` for slice-wise encoding,
        ``(sets, coils, z, y, x)`` with ``axis=0`` where z is encoded.
    axis
        Where the sets stand in the images: ``(z, sets, y, x)`` or ``(sets, z, y, x)``.

    Raises
    ------
    InconsistentError
        If the maps are not complex with five axes, or the axis is neither 0 nor 1.
    """

    maps: Tensor
    axis: int

    def __post_init__(self) -> None:
        if self.maps.ndim != 5 or not self.maps.is_complex() or self.axis not in (0, 1):
            raise InconsistentError(
                "Sets of coil maps are complex with axes (sets, z, coils, y, x), axis 1, or "
                f"(sets, coils, z, y, x), axis 0; got {self.maps.dtype} with shape "
                f"{tuple(self.maps.shape)}, axis {self.axis}."
            )

    @property
    def domain(self) -> Space:
        """Complex images, ``(z, sets, y, x)`` or ``(sets, z, y, x)``."""
        sets, _, z, y, x = self._coils_first.shape
        return Space((z, sets, y, x) if self.axis else (sets, z, y, x), complex=True)

    @property
    def codomain(self) -> Space:
        """Complex coil images ``(coils, z, y, x)``, always with the coils first."""
        return Space(tuple(self._coils_first.shape[1:]), complex=True)

    @property
    def _coils_first(self) -> Tensor:
        """Maps as ``(sets, coils, z, y, x)``."""
        return self.maps.movedim(1 + self.axis, 1)

    def _forward(self, x: Tensor) -> Tensor:
        maps = self._coils_first.to(device=x.device, dtype=x.dtype)
        images = x.movedim(self.axis - 4, 0).unsqueeze(-4)
        total = images[0] * maps[0]
        for image, coils in zip(images[1:], maps[1:], strict=True):
            total.addcmul_(image, coils)
        return total

    def _adjoint(self, y: Tensor) -> Tensor:
        maps = self._coils_first.to(device=y.device, dtype=y.dtype)
        return torch.stack([(y * coils.conj()).sum(dim=-4) for coils in maps], dim=self.axis - 4)


@dataclass(frozen=True, eq=False)
class SoftSense(LinearOperator):
    """``y = sum_s A_s x_s``: every coil image, the sum over all sets, is encoded once.

    Its ``gram`` holds all cross terms between the sets at the price of one set.

    Parameters
    ----------
    maps
        As of :class:`MapSets`.
    encoding
        The acquisition with one coil of sensitivity 1: from ``(z, y, x)`` to measurements with
        a coil axis of size 1.

    Raises
    ------
    InconsistentError
        If maps and encoding do not fit.
    """

    maps: Tensor
    encoding: LinearOperator

    def __post_init__(self) -> None:
        if self.sets.codomain.shape[1:] != self.encoding.domain.shape:
            raise InconsistentError(
                f"Sets of coil maps of shape {tuple(self.maps.shape)} do not fit an acquisition "
                f"of images of shape {self.encoding.domain.shape}."
            )

    @cached_property
    def sets(self) -> MapSets:
        """From the sets' images to coil images."""
        return MapSets(self.maps, self.blocks)

    @property
    def domain(self) -> Space:
        """Complex images, ``(z, sets, y, x)`` or ``(sets, z, y, x)``."""
        return self.sets.domain

    @property
    def codomain(self) -> Space:
        """Measurements of all coils."""
        shape = list(self.encoding.codomain.shape)
        shape[self.blocks] = self.sets.codomain.shape[0]
        return Space(tuple(shape), complex=True)

    @property
    def blocks(self) -> int:
        """1 slice-wise, 0 where z is encoded."""
        return self.encoding.blocks

    def gram(self, x: Tensor) -> Tensor:
        """``A^H A x``, differentiable."""
        return self.sets.adjoint(self.encoding.gram(self.sets(x)))

    def _forward(self, x: Tensor) -> Tensor:
        measured = self.encoding._forward(self.sets._forward(x))
        ndim = self.encoding.codomain.ndim
        measured = measured.squeeze(self.blocks - ndim)
        return measured.movedim(-ndim, self.blocks - ndim)

    def _adjoint(self, y: Tensor) -> Tensor:
        ndim = self.encoding.codomain.ndim
        measured = y.movedim(self.blocks - ndim, -ndim).unsqueeze(self.blocks - ndim)
        return self.sets._adjoint(self.encoding._adjoint(measured))
