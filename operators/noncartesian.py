"""Multi-coil MR along a trajectory: slice by slice, in stacks, or in 3D."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image
from medrecon.operators.base import LinearOperator
from medrecon.operators.coils import Coils
from medrecon.operators.nufft import NUFFT
from medrecon.operators.toeplitz import ToeplitzSense


@dataclass(frozen=True, eq=False)
class NonCartesianSense(LinearOperator):
    """``y = F S x``: coil maps, then the Fourier transform at the trajectory's positions.

    The transform is a NUFFT over ``(y, x)`` slice by slice; for a stack a centred FFT along z
    comes before it (partitions that were not measured are zero); for a trajectory with three axes
    it is a NUFFT over ``(z, y, x)``. All are orthonormal over the voxels that are encoded
    together. One slice with its coils, or one coil's volume, is worked on at a time.

    Parameters
    ----------
    maps
        Complex sensitivities, ``(z, coils, y, x)`` slice-wise, ``(coils, z, y, x)`` for a stack
        and in 3D.
    geometry
        Positions of the samples; a stack's partitions.

    Raises
    ------
    InconsistentError
        If maps and geometry do not fit.

    References
    ----------
    Pruessmann et al., Advances in sensitivity encoding with arbitrary k-space trajectories, Magn
    Reson Med 46 (2001), doi:10.1002/mrm.1241.
    """

    maps: Tensor
    geometry: NonCartesian

    def __post_init__(self) -> None:
        shape = Coils(self.maps, self.blocks).domain.shape
        partitions = self.geometry.partitions
        if partitions is not None and len(partitions) != shape[0]:
            raise InconsistentError(
                f"Coil maps of shape {tuple(self.maps.shape)} do not fit a stack of "
                f"{len(partitions)} partitions."
            )

    @property
    def domain(self) -> Space:
        """Complex image ``(z, y, x)``."""
        return Coils(self.maps, self.blocks).domain

    @property
    def codomain(self) -> Space:
        """Measurements: ``(z, coils, shots, samples)``, ``(coils, [z,] shots, samples)``."""
        leading = self.maps.shape[: 2 if self.blocks or self.geometry.is_stack else 1]
        samples = self.geometry.trajectory.shape[:-1]
        return Space((*leading, *samples), complex=True)

    @property
    def blocks(self) -> int:
        """1 slice-wise, 0 where z is encoded."""
        return self.geometry.coil_axis

    @cached_property
    def nufft(self) -> NUFFT:
        """The transform of one coil's slice, or volume."""
        axes = self.geometry.trajectory.shape[-1]
        shape = tuple(self.maps.shape[-axes:])
        return NUFFT(Space(shape, complex=True), self.geometry.trajectory)

    @cached_property
    def normal(self) -> ToeplitzSense:
        """``A^H A`` as an operator of its own."""
        return self.weighted_normal(None)

    def weighted_normal(self, weights: NDArray[np.float64] | None) -> ToeplitzSense:
        """``A^H W A`` with a real weight per sample of the trajectory, ``(shots, samples)``."""
        partitions = self.geometry.partitions
        return ToeplitzSense(self.maps, self.nufft, self.blocks, partitions, weights)

    def gram(self, x: Tensor) -> Tensor:
        """``A^H A x`` as a convolution, differentiable."""
        return self.normal(x)

    def _forward(self, x: Tensor) -> Tensor:
        maps = self.maps.to(device=x.device, dtype=x.dtype)
        batch = x.reshape(-1, *self.domain.shape)
        y = x.new_empty(len(batch), *self.codomain.shape)
        for image, measured in zip(batch, y, strict=True):
            for part, coils in enumerate(maps):
                seen = (image[part] if self.blocks else image) * coils
                measured[part] = self._encode(seen)
        return y.reshape(*x.shape[: x.ndim - 3], *self.codomain.shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        maps = self.maps.to(device=y.device, dtype=y.dtype)
        batch = y.reshape(-1, *self.codomain.shape)
        x = y.new_zeros(len(batch), *self.domain.shape)
        for measured, image in zip(batch, x, strict=True):
            for part, coils in enumerate(maps):
                seen = self._decode(measured[part]).mul_(coils.conj())
                if self.blocks:
                    image[part] = seen.sum(dim=0)
                else:
                    image += seen
        return x.reshape(*y.shape[: y.ndim - self.codomain.ndim], *self.domain.shape)

    def _encode(self, images: Tensor) -> Tensor:
        """Images as the coils see them to their samples."""
        if self.geometry.partitions is None:
            return self.nufft._forward(images)
        steps = torch.from_numpy(self.geometry.partitions).to(images.device)
        planes = image_to_kspace(images, (0,))
        samples = images.new_zeros(self.codomain.shape[1:])
        samples[steps] = self.nufft._forward(planes[steps])
        return samples

    def _decode(self, samples: Tensor) -> Tensor:
        """Adjoint of :meth:`_encode`."""
        if self.geometry.partitions is None:
            return self.nufft._adjoint(samples)
        steps = torch.from_numpy(self.geometry.partitions).to(samples.device)
        planes = samples.new_zeros(self.domain.shape)
        planes[steps] = self.nufft._adjoint(samples[steps])
        return kspace_to_image(planes, (0,))
