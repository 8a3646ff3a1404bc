"""The centred orthonormal Fourier transform as an operator."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image
from medrecon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class Fourier(LinearOperator):
    """Centred orthonormal FFT over the last axes; unitary, so the adjoint is the inverse.

    ``y[k] = n^(-1/2) sum_j x[j] exp(-2 pi i (k - n//2)(j - n//2) / n)``, see
    :mod:`medrecon.geometry.kspace`.

    Parameters
    ----------
    space
        What is transformed; complex.
    axes
        How many of its last axes are transformed: 2 for slice-wise, 3 for 3D encoding.

    Raises
    ------
    InconsistentError
        If the space is real or has fewer axes.

    Examples
    --------
    >>> import torch
    >>> F = Fourier(Space((3, 4), complex=True), axes=2)
    >>> x = torch.zeros(3, 4, dtype=torch.complex64)
    >>> x[1, 2] = 1
    >>> bool((F(x) - 12**-0.5).abs().max() < 1e-6)
    True
    """

    space: Space
    axes: int

    def __post_init__(self) -> None:
        if not self.space.complex or not 1 <= self.axes <= self.space.ndim:
            raise InconsistentError(
                f"A Fourier operator over {self.axes} axes needs a complex space with at least "
                f"as many, got {self.space}."
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
        """The axes that are not transformed."""
        return self.space.ndim - self.axes

    def _forward(self, x: Tensor) -> Tensor:
        return image_to_kspace(x, range(-self.axes, 0))

    def _adjoint(self, y: Tensor) -> Tensor:
        return kspace_to_image(y, range(-self.axes, 0))
