"""Multi-coil MR measurements computed from an image whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry
from medrecon.geometry.kspace import image_to_kspace
from medrecon.grid import Grid, Triple
from medrecon.study import Identity, Study
from medrecon.volume import Volume

_COIL_DISTANCE = 1.3  # of the coil centres from the middle, in half widths of the image
_COIL_RADIUS = 0.6  # of the loops, likewise
_PHASE = math.pi / 3  # rad, size of each term of the object's smooth phase
_TERMS = 9  # of first and second order in three coordinates


def simulate_mr(
    magnitude: Volume,
    *,
    coils: int,
    mask: NDArray[np.bool_],
    noise_std: float,
    generator: torch.Generator,
    encoded: int = 0,
) -> Study:
    """Measure an image with receive coils around it.

    ``k_c = M F (s_c m exp(i phi)) + n_c`` with coil sensitivities ``s_c`` of unit root sum of
    squares, a smooth object phase ``phi`` and white complex noise, independent per coil. The true
    maps are not handed on: a reconstruction has to estimate them, as on a scanner.

    Parameters
    ----------
    magnitude
        Real image; negative values count as 0.
    coils
        Number of receive coils.
    mask
        Measured samples: ``(y, x)`` for slice-wise, ``(z, y, x)`` for 3D encoding or for a
        pattern of its own in every slice.
    noise_std
        Root of ``E|n|^2`` per sample, relative to the image's 99th percentile.
    generator
        Source of phase and noise.
    encoded
        How many axes are encoded, 2 or 3; 0: as many as the mask has.

    Returns
    -------
    Study
        ``(z, coils, y, x)`` or ``(coils, z, y, x)``, complex64, with ``reference`` the image.

    Raises
    ------
    InconsistentError
        If the mask does not fit, or the image is empty or not finite.
    """
    shape = magnitude.grid.shape
    if shape[-mask.ndim :] != mask.shape:
        raise InconsistentError(f"A mask of shape {mask.shape} does not fit an image of {shape}.")
    image = signal_of(magnitude)
    geometry = Cartesian(mask=mask, encoded=encoded)
    maps = coil_sensitivities(magnitude.grid, coils)
    phase = ObjectPhase.drawn(generator).on(magnitude.grid)
    signal = image * torch.exp(1j * phase)
    clean = image_to_kspace(maps * signal.to(maps.dtype), range(-geometry.encoded, 0))
    deviation = noise_deviation(image, noise_std)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    kspace = clean + deviation * noise
    if not geometry.is_3d:
        kspace = kspace.transpose(0, 1).contiguous()
    kspace = kspace * torch.from_numpy(geometry.samples.copy())
    return simulated_study(kspace, geometry, magnitude.grid, image, phase, deviation)


def signal_of(magnitude: Volume) -> Tensor:
    """Take the image's voxels, float64, negative ones as 0.

    Raises
    ------
    InconsistentError
        If the image is empty or not finite.
    """
    image = magnitude.data.double().clamp_min(0)
    if not bool(torch.isfinite(image).all()) or not bool(image.any()):
        raise InconsistentError("The image to simulate from is empty or not finite.")
    return image


def noise_deviation(image: Tensor, noise_std: float) -> float:
    """Root of ``E|n|^2`` per sample, of a share of the image's 99th percentile."""
    return noise_std * float(np.quantile(image.numpy(), 0.99))


def simulated_study(
    kspace: Tensor,
    geometry: MRGeometry,
    grid: Grid,
    image: Tensor,
    phase: Tensor,
    deviation: float,
) -> Study:
    """Put simulated measurements, and the truth behind them, in one value."""
    return Study(
        measurements=kspace,
        geometry=geometry,
        grid=grid,
        noise_std=deviation if deviation > 0 else None,
        identity=Identity(simulated=True),
        reference=image.float(),
        reference_phase=phase.float(),
    )


def coil_sensitivities(grid: Grid, coils: int, center: Triple | None = None) -> Tensor:
    """Sensitivities of small loops on a ring around the grid, of unit root sum of squares.

    A loop of radius R with the unit moment ``m`` receives ``B_x - i B_y`` of the field
    ``B = (m (2 R^2 - r^2) + 3 (m.r) r) / rho^5`` with ``rho^2 = r^2 + R^2``, the curl of the
    potential ``m x r / rho^3``: exact on the loop's axis, a dipole far away, free of divergence
    everywhere; the main field lies along the patient's z. Neighbouring loops stand alternately a
    little higher and lower, so that they differ along z.

    Parameters
    ----------
    grid
        Where the sensitivities are wanted.
    coils
        Number of loops.
    center
        Middle of the ring, LPS mm; ``None``: that of the grid.

    Returns
    -------
    Tensor
        complex64, ``(coils, z, y, x)``.

    References
    ----------
    Jackson, Classical Electrodynamics, section 5.5 (the loop far away); Roemer et al., The NMR
    phased array, Magn Reson Med 16 (1990) (reception by reciprocity).
    """
    index = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float64) for n in grid.shape), indexing="ij"
    )
    affine = torch.from_numpy(grid.affine)
    offsets = torch.stack(index, dim=-1) @ affine[:3, :3].T + affine[:3, 3]
    middle = grid.center if center is None else center
    position = offsets - torch.tensor(middle, dtype=torch.float64)
    half = [n * d / 2 for n, d in zip(grid.shape, grid.spacing, strict=True)]
    radius = max(half)
    maps = torch.stack([_loop(position, c, coils, radius, half[0]) for c in range(coils)])
    norm = torch.linalg.vector_norm(maps, dim=0)
    unit: Tensor = (maps / norm).to(torch.complex64)
    return unit


def _loop(position: Tensor, number: int, coils: int, radius: float, height: float) -> Tensor:
    """Sensitivity of one loop, facing the middle."""
    angle = 2 * math.pi * number / coils
    inwards = torch.tensor([-math.cos(angle), -math.sin(angle), 0.0], dtype=torch.float64)
    up = torch.tensor([0.0, 0.0, (-1) ** number * height / 2], dtype=torch.float64)
    r = position - (-_COIL_DISTANCE * radius * inwards + up)
    r2, R2 = r.square().sum(-1), (_COIL_RADIUS * radius) ** 2
    field = inwards * (2 * R2 - r2)[..., None] + 3 * (r @ inwards)[..., None] * r
    field = field * (radius**3 / (r2 + R2) ** 2.5)[..., None]
    return torch.complex(field[..., 0], -field[..., 1])


@dataclass(frozen=True, eq=False)
class ObjectPhase:
    """Random phase of second order in the position, rad.

    Parameters
    ----------
    weights
        Of z, y, x, and of their products, at positions from -1 to 1 over the grid.
    """

    weights: Tensor

    @classmethod
    def drawn(cls, generator: torch.Generator) -> ObjectPhase:
        """Draw the weights."""
        terms = 2 * torch.rand(_TERMS, dtype=torch.float64, generator=generator) - 1
        return cls(_PHASE * terms)

    def __call__(self, places: Sequence[Tensor]) -> Tensor:
        """Phase ``(z, y, x)`` at places along the three axes."""
        axes = torch.meshgrid(*places, indexing="ij")
        terms = [*axes, *(a * b for i, a in enumerate(axes) for b in axes[i:])]
        total: Tensor = torch.stack([w * t for w, t in zip(self.weights, terms, strict=True)]).sum(
            0
        )
        return total

    def on(self, grid: Grid) -> Tensor:
        """Phase of every voxel of a grid."""
        return self([torch.linspace(-1, 1, n, dtype=torch.float64) for n in grid.shape])
