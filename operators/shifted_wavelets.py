"""The tight frame of several shifts of a wavelet transform."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator
from medrecon.operators.wavelet import Wavelet


@dataclass(frozen=True, eq=False)
class ShiftedWavelets(LinearOperator):
    r"""A transform of several shifts of the image: a tight frame, :math:`K^H K = I`.

    .. math:: K x = S^{-1/2} (W T_1 x, \dots, W T_S x)

    with :math:`T_s` a circular shift. Thresholds in one wavelet basis leave blocks on its grid;
    shifted grids share the error out, and unlike shifts that change from iteration to iteration
    the sum over all of them has a minimum to converge to.

    Parameters
    ----------
    wavelet
        W.
    shifts
        Voxels to shift by, for each shift one number per axis of ``wavelet.axes``.

    Raises
    ------
    InconsistentError
        If there is no shift, or one has another number of axes.

    References
    ----------
    Coifman and Donoho 1995, doi:10.1007/978-1-4612-2544-7_9.
    """

    wavelet: Wavelet
    shifts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        axes = self.wavelet.axes
        if not self.shifts or any(len(shift) != len(axes) for shift in self.shifts):
            raise InconsistentError(
                f"ShiftedWavelets: shifts {self.shifts} do not fit the axes {axes}."
            )

    @property
    def domain(self) -> Space:
        """The image."""
        return self.wavelet.domain

    @property
    def codomain(self) -> Space:
        """One array of coefficients per shift: ``(shifts, *coefficients)``."""
        coefficients = self.wavelet.codomain
        return Space((len(self.shifts), *coefficients.shape), coefficients.complex)

    @property
    def details(self) -> Tensor:
        """As the wavelet's; broadcasts to the codomain."""
        return self.wavelet.details

    def _forward(self, x: Tensor) -> Tensor:
        axes, scale = self.wavelet.axes, len(self.shifts) ** -0.5
        moved = [torch.roll(x, shift, axes) for shift in self.shifts]
        stacked = torch.stack(moved, dim=-1 - self.domain.ndim)
        return self.wavelet._forward(stacked).mul_(scale)

    def _adjoint(self, y: Tensor) -> Tensor:
        axes, scale = self.wavelet.axes, len(self.shifts) ** -0.5
        images = self.wavelet._adjoint(y).unbind(-1 - self.domain.ndim)
        total = torch.zeros_like(images[0])
        for image, shift in zip(images, self.shifts, strict=True):
            total += torch.roll(image, [-s for s in shift], axes)
        return total.mul_(scale)

    def gram(self, x: Tensor) -> Tensor:
        """``K^H K x = x``."""
        self.domain.check(x, "input of ShiftedWavelets.gram")
        return x.clone()


def interleaved_shifts(count: int, axes: int, levels: int) -> tuple[tuple[int, ...], ...]:
    """Shifts that move the grids of all levels alike, the first one zero.

    A level's grid tells even from odd places along every axis, so ``2^axes`` shifts see all there
    is at one level. Here every level is moved by another order of the same ``2^axes`` choices;
    the first half of them is balanced in itself.

    Parameters
    ----------
    count
        How many of them, at most ``2^axes``.
    axes, levels
        Of the wavelet transform.

    Raises
    ------
    InconsistentError
        If there are not so many.

    Examples
    --------
    >>> interleaved_shifts(4, 2, 4)
    ((0, 0), (15, 15), (5, 10), (10, 5))
    """
    if not 1 <= count <= 1 << axes:
        raise InconsistentError(
            f"There are 1 to {1 << axes} shifts of a wavelet transform along {axes} axes, got "
            f"{count}."
        )
    words = sorted(range(1 << axes), key=lambda word: (word.bit_count() % 2, word))
    return tuple(
        tuple(
            sum((word >> (axis + level) % axes & 1) << level for level in range(levels))
            for axis in range(axes)
        )
        for word in words[:count]
    )
