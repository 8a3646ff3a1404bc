"""Multi-coil MR measurements along a trajectory, computed from an image whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian
from medrecon.geometry.kspace import crop_or_pad, image_to_kspace, kspace_to_image
from medrecon.grid import Grid
from medrecon.operators.noncartesian import NonCartesianSense
from medrecon.protocol import NonCartesianScan
from medrecon.simulate_mr import (
    ObjectPhase,
    coil_sensitivities,
    noise_deviation,
    signal_of,
    simulated_study,
)
from medrecon.study import Study
from medrecon.trajectories import koosh, radial, spiral, stack
from medrecon.volume import Volume

FINER = 2
"""The image is measured on voxels this much finer along the axes of the trajectory."""


def trajectory_of(scan: NonCartesianScan, shape: tuple[int, int, int]) -> NonCartesian:
    """Lay a protocol's trajectory over an image of ``(z, y, x)`` voxels.

    Raises
    ------
    InconsistentError
        If the protocol takes the trajectory from the data.
    """
    plane, along = shape[1:], scan.samples or math.ceil(scan.oversampling * max(shape[1:]))
    shots = scan.shots or 1
    match scan.pattern:
        case "radial":
            found = radial(plane, shots, along, golden=scan.golden)
        case "stack_of_stars":
            every = np.ones(shape[0], dtype=bool)
            found = stack(radial(plane, shots, along, golden=scan.golden), every)
        case "koosh":
            along = scan.samples or math.ceil(scan.oversampling * max(shape))
            found = koosh(shape, shots, along)
        case "spiral":
            # a winding leaves one cycle to the next, so an interleave is this long
            length = math.pi * (max(plane) / 2) ** 2 / shots
            found = spiral(plane, shots, scan.samples or math.ceil(scan.oversampling * length))
        case "as_measured":
            raise InconsistentError(
                "A simulation along a trajectory needs acquisition.pattern: radial, spiral, "
                "stack_of_stars or koosh; as_measured takes it from data."
            )
    if scan.readout_ms is None:
        return found
    step = scan.readout_ms * 1e-3 / found.samples_per_shot
    times = np.arange(found.samples_per_shot, dtype=np.float64) * step
    return replace(found, times=times.astype(np.float64))


def simulate_trajectory(
    magnitude: Volume,
    *,
    coils: int,
    geometry: NonCartesian,
    noise_std: float,
    generator: torch.Generator,
) -> Study:
    """Measure an image along a trajectory with receive coils around it.

    As :func:`medrecon.simulate_mr.simulate_mr`. The image is taken as band-limited and brought by
    Fourier interpolation onto voxels half as large along the axes of the trajectory, where coil
    sensitivities and phase are multiplied with it: so the data come from another discretisation
    than the operator that reconstructs them, and from what it cannot represent, the products'
    frequencies beyond the grid's, but by the same transform (a NUFFT exact to about 1e-6).

    Parameters
    ----------
    magnitude
        Real image; negative values count as 0.
    coils
        Number of receive coils.
    geometry
        The trajectory.
    noise_std
        Root of ``E|n|^2`` per sample, relative to the image's 99th percentile.
    generator
        Source of phase and noise.

    Returns
    -------
    Study
        Laid out as its geometry says, complex64, with the image as ``reference``.

    Raises
    ------
    InconsistentError
        If the image is empty or not finite, or the trajectory does not fit it.
    """
    image = signal_of(magnitude)
    axes = tuple(range(3 - geometry.trajectory.shape[-1], 3))
    phase = ObjectPhase.drawn(generator)
    fine = _finer_grid(magnitude.grid, axes)
    signal = _finer(image, axes) * torch.exp(1j * phase(_finer_places(magnitude.grid, axes)))
    maps = coil_sensitivities(fine, coils, magnitude.grid.center)
    clean = torch.stack([_measured(signal, one, geometry) for one in maps], geometry.coil_axis)
    clean *= FINER ** (-len(axes) / 2)  # orthonormal over the fine voxels to that over the coarse
    deviation = noise_deviation(image, noise_std)
    kspace = clean + deviation * torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    if geometry.partitions is not None:
        kspace[:, torch.from_numpy(~geometry.partitions)] = 0
    truth = phase.on(magnitude.grid)
    return simulated_study(kspace, geometry, magnitude.grid, image, truth, deviation)


def _measured(signal: Tensor, sensitivity: Tensor, geometry: NonCartesian) -> Tensor:
    """Take the samples of one coil, without the coil axis."""
    axis = geometry.coil_axis
    operator = NonCartesianSense(sensitivity.unsqueeze(axis), geometry)
    return operator(signal.to(torch.complex64)).squeeze(axis)


def _finer(image: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Interpolate a real image by its own frequencies; the origin stays at ``n // 2``."""
    kspace = image_to_kspace(image, axes)
    for axis in axes:
        kspace = crop_or_pad(kspace, FINER * image.shape[axis], axis)
    finer: Tensor = kspace_to_image(kspace, axes).real * FINER ** (len(axes) / 2)
    return finer


def _first(n: int) -> float:
    """Coarse index of the first fine voxel."""
    return n // 2 - (FINER * n // 2) / FINER


def _finer_grid(grid: Grid, axes: tuple[int, ...]) -> Grid:
    start = [_first(n) if axis in axes else 0.0 for axis, n in enumerate(grid.shape)]
    factor = [FINER if axis in axes else 1 for axis in range(3)]
    x, y, z = (float(v) for v in (grid.affine @ [*start, 1.0])[:3])
    nz, ny, nx = (f * n for f, n in zip(factor, grid.shape, strict=True))
    dz, dy, dx = (d / f for f, d in zip(factor, grid.spacing, strict=True))
    return replace(grid, shape=(nz, ny, nx), spacing=(dz, dy, dx), origin=(x, y, z))


def _finer_places(grid: Grid, axes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Coarse indices of the fine voxels along every axis, from -1 to 1 over the grid."""
    places = []
    for axis, n in enumerate(grid.shape):
        index = torch.arange(n, dtype=torch.float64)
        if axis in axes:
            index = _first(n) + torch.arange(FINER * n, dtype=torch.float64) / FINER
        places.append(2 * index / max(n - 1, 1) - 1)
    return tuple(places)
