"""The normal operator of a non-Cartesian acquisition: a convolution, coil by coil.

``A^H A = sum_c conj(s_c) T s_c`` where ``T`` has the entries
``t(j - j') = N^(-1) sum_k w_k exp(2 pi i k (j - j') / n)``: a convolution with a kernel that
reaches twice the image (Toeplitz), diagonal in Fourier space on the doubled grid.

References
----------
Wajer & Pruessmann, Major speedup of reconstruction for sensitivity encoding with arbitrary
trajectories, ISMRM (2001), p. 767; Fessler, Lee, Olafsson, Shi, Noll, Toeplitz-based iterative
image reconstruction for MRI with correction for magnetic field inhomogeneity, IEEE Trans Signal
Process 53 (2005), doi:10.1109/TSP.2005.853152.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.operators.base import LinearOperator
from medrecon.operators.coils import Coils
from medrecon.operators.kernels import toeplitz
from medrecon.operators.nufft import NUFFT


@dataclass(frozen=True, eq=False)
class ToeplitzSense(LinearOperator):
    """``x -> sum_c conj(s_c) F^H W F s_c x``: self-adjoint, and never leaves the image grid.

    Parameters
    ----------
    maps
        Complex sensitivities, ``(z, coils, y, x)`` slice-wise, ``(coils, z, y, x)`` where z is
        encoded.
    nufft
        The transform of one coil's slice (``(y, x)``) or volume (``(z, y, x)``).
    axis
        Where the coils stand in ``maps``: 1 slice-wise, 0 where z is encoded.
    partitions
        Boolean ``(z,)`` for a stack: the Cartesian steps along z that were measured, centred.
    weights
        Real weights of the samples, the shape of the trajectory; all 1 by default.
    """

    maps: Tensor
    nufft: NUFFT
    axis: int
    partitions: NDArray[np.bool_] | None = None
    weights: NDArray[np.float64] | None = None
    _spectra: dict[tuple[torch.dtype, torch.device], Tensor] = field(
        init=False, repr=False, default_factory=dict
    )

    @property
    def domain(self) -> Space:
        """Complex image ``(z, y, x)``."""
        return Coils(self.maps, self.axis).domain

    @property
    def codomain(self) -> Space:
        """As the domain."""
        return self.domain

    @property
    def blocks(self) -> int:
        """1 slice-wise, 0 where z is encoded."""
        return self.axis

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        """Itself."""
        return self

    def _forward(self, x: Tensor) -> Tensor:
        maps = self.maps.to(device=x.device, dtype=x.dtype)
        spectrum = self._spectrum(x.real.dtype, x.device)
        batch = x.detach().reshape(-1, *self.domain.shape)
        if _on_cpu(x):
            images = batch.resolve_conj().numpy()
            arrays = images, maps.resolve_conj().numpy(), spectrum.numpy()
            out = torch.from_numpy(toeplitz.gram(*arrays, self.axis, self._steps))
        else:
            steps = None if self._steps is None else torch.from_numpy(self._steps).to(x.device)
            out = toeplitz.gram_on_device(batch, maps, spectrum, self.axis, steps)
        return out.reshape(x.shape)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)

    @property
    def _steps(self) -> NDArray[np.bool_] | None:
        """The partitions in the FFT's order."""
        return None if self.partitions is None else np.fft.ifftshift(self.partitions)

    def _spectrum(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Eigenvalues where and how they are needed; in single precision half the memory."""
        if (dtype, device) not in self._spectra:
            values = eigenvalues(self.nufft, self.weights, device).to(dtype)
            self._spectra[dtype, device] = values
        return self._spectra[dtype, device]


def eigenvalues(
    nufft: NUFFT,
    weights: NDArray[np.float64] | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Transform the kernel ``t`` on the doubled grid, sorted by parity, over ``2**axes``.

    The value at frequency ``2 q + p`` is a plain transform of the kernel folded from ``2 n`` to
    ``n`` samples with the signs of the parity ``p``. Folding in space is a factor on the samples:
    ``1 + (-1)^p exp(-2 pi i k)``, so every parity is one adjoint NUFFT of the image's own size.
    The kernel at distance ``n`` exactly meets no pair of voxels; its Hermitian part is taken,
    which makes the values real.

    Returns
    -------
    Tensor
        float64, ``(2, ..., 2, *shape)``.
    """
    shape = nufft.domain.shape[-nufft.axes :]
    positions = torch.from_numpy(nufft.trajectory).to(device)
    centre = torch.tensor([n // 2 / n for n in shape], dtype=torch.float64, device=device)
    samples = _turn(positions @ centre)  # the NUFFT's first voxel becomes distance 0
    if weights is not None:
        samples = samples * torch.from_numpy(weights).to(device)
    folds = [_turn(-along) for along in positions.unbind(dim=-1)]
    phases = toeplitz.half_turns(shape, samples)
    scale = math.prod(shape) ** -0.5 / 2 ** len(shape)
    values = torch.empty(*[2] * len(shape), *shape, dtype=torch.float64, device=device)
    for parities in itertools.product((0, 1), repeat=len(shape)):
        folded = samples
        for fold, parity in zip(folds, parities, strict=True):
            folded = folded * (1 - fold if parity else 1 + fold)
        kernel = nufft.adjoint(folded)
        for phase, parity in zip(phases, parities, strict=True):
            kernel = kernel * phase if parity else kernel
        values[parities] = torch.fft.fftn(kernel).real * scale
    return values


def _turn(cycles: Tensor) -> Tensor:
    """``exp(2 pi i cycles)``."""
    return torch.polar(torch.ones_like(cycles), 2 * torch.pi * (cycles - cycles.round()))


def _on_cpu(x: Tensor) -> bool:
    """Whether the cache-sized CPU kernels serve ``x``; any other device takes whole slices."""
    return x.device.type == "cpu"
