"""The non-uniform Fourier transform as an operator."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator
from medrecon.operators.nufft_plans import Plans


class NUFFT(LinearOperator):
    """Samples of an image's Fourier transform anywhere, orthonormal over the image's grid.

    ``y_k = N^(-1/2) sum_j x_j exp(-2 pi i sum_a k_a (j_a - n_a // 2) / n_a)`` with positions
    ``k`` in cycles per field of view; on integers in ``[-n//2, n - n//2)`` it is the centred FFT
    of :class:`medrecon.operators.fourier.Fourier`. The relative error is about 1e-6 for single
    and 1e-12 for double precision on the CPU; on CUDA single precision rounds positions too
    (about 1e-5 at 256 voxels a side, growing with the grid). The adjoint is the exact transpose
    of what is computed, in either precision.

    Plans are made when first needed and kept, a few per operator; see
    :mod:`medrecon.operators.nufft_plans`.

    Parameters
    ----------
    space
        Complex images; the last 2 or 3 axes (as many as the trajectory has) are transformed.
    trajectory
        Positions ``(*samples, 2)`` as ``(ky, kx)`` or ``(*samples, 3)`` as ``(kz, ky, kx)``,
        cycles per field of view; any number, aliases included.

    Raises
    ------
    InconsistentError
        If the space is real or has too few axes, or a position is not finite.
    ResourceError
        When it is applied: too little memory, or no cufinufft for a CUDA input.

    References
    ----------
    Barnett, Magland, af Klinteberg, A parallel nonuniform fast Fourier transform library based
    on an "exponential of semicircle" kernel, SIAM J Sci Comput 41 (2019),
    doi:10.1137/18M120885X; Shih et al., cuFINUFFT, IPDPSW (2021),
    doi:10.1109/IPDPSW52791.2021.00105.

    Examples
    --------
    >>> import torch
    >>> A = NUFFT(Space((4, 6), complex=True), np.array([[0.0, 0.0], [0.5, -2.3]]))
    >>> x = torch.zeros(4, 6, dtype=torch.complex64)
    >>> x[2, 3] = 1  # the origin
    >>> bool((A(x) - 24**-0.5).abs().max() < 1e-6)
    True
    """

    def __init__(self, space: Space, trajectory: Tensor | NDArray[np.float64]) -> None:
        if isinstance(trajectory, Tensor):
            trajectory = trajectory.detach().cpu().numpy()
        self.space = space
        self.trajectory: NDArray[np.float64] = np.array(trajectory, dtype=np.float64)
        shape = self.trajectory.shape
        if len(shape) < 2 or shape[-1] not in (2, 3) or 0 in shape:
            raise InconsistentError(f"A trajectory has the shape (*samples, 2 or 3), got {shape}.")
        if not np.isfinite(self.trajectory).all():
            raise InconsistentError("A trajectory has positions that are NaN or infinite.")
        if not self.space.complex or self.space.ndim < self.axes:
            raise InconsistentError(
                f"A non-uniform Fourier transform over {self.axes} axes needs a complex space "
                f"with at least as many, got {self.space}."
            )
        self.plans = Plans(self._shape, self._points())

    @property
    def axes(self) -> int:
        """How many axes are transformed: 2 or 3."""
        return int(self.trajectory.shape[-1])

    @property
    def domain(self) -> Space:
        """The space."""
        return self.space

    @property
    def codomain(self) -> Space:
        """Leading axes of the space, then those of the trajectory."""
        leading = self.space.shape[: self.blocks]
        return Space((*leading, *self.trajectory.shape[:-1]), complex=True)

    @property
    def blocks(self) -> int:
        """The axes that are not transformed."""
        return self.space.ndim - self.axes

    def _forward(self, x: Tensor) -> Tensor:
        images = x.reshape(-1, *self._shape)
        y = self.plans.forward(images).mul_(self._scale)
        return y.reshape(*x.shape[: x.ndim - self.axes], *self.trajectory.shape[:-1])

    def _adjoint(self, y: Tensor) -> Tensor:
        samples = self.trajectory.shape[:-1]
        x = self.plans.adjoint(y.reshape(-1, math.prod(samples))).mul_(self._scale)
        return x.reshape(*y.shape[: y.ndim - len(samples)], *self._shape)

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.space.shape[self.space.ndim - self.axes :]

    @property
    def _scale(self) -> float:
        return 1 / math.sqrt(math.prod(self._shape))

    def _points(self) -> NDArray[np.float64]:
        """Radians per voxel, ``(axes, samples)``; whole turns are taken off before pi rounds."""
        turns = self.trajectory.reshape(-1, self.axes).T / np.array(self._shape)[:, None]
        return np.ascontiguousarray(2 * np.pi * (turns - np.rint(turns)))
