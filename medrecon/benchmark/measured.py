"""Scans whose data come from another discretisation than the one that reconstructs them."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from medrecon.benchmark.images import middle
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, ConeBeam, CTGeometry, SliceGeometry
from medrecon.geometry.kspace import crop_or_pad, image_to_kspace, kspace_to_image
from medrecon.grid import Grid
from medrecon.operators.general import RayProjector
from medrecon.operators.slice_projector import JOSEPH, SliceProjector
from medrecon.physics.counts import detect, line_integrals
from medrecon.problem.retrospective import sampling_pattern
from medrecon.protocol import CartesianScan, CTScan, NonCartesianScan, Protocol
from medrecon.resample import resample
from medrecon.scanner import scanner
from medrecon.simulate_mr import (
    ObjectPhase,
    coil_sensitivities,
    noise_deviation,
    signal_of,
    simulated_study,
)
from medrecon.simulate_trajectory import simulate_trajectory, trajectory_of
from medrecon.study import Identity, Study
from medrecon.units import hu_to_per_mm
from medrecon.volume import Unit, Volume

FINER = 2
"""Voxels and detector cells that CT is measured with are this much finer."""
MEASURED = 7 / 8
"""Share of the object's k-space, along y and x, that Cartesian MR measures."""


def measure(image: Volume, protocol: Protocol, *, slices: int, seed: int) -> Study:
    """Measure an image with the scanner of a protocol, by physics of its own.

    CT: rays (Joseph's) through voxels half as large, to detector cells half as large whose
    intensities are added up, then Poisson and electronic noise; reconstructions have footprints on
    whole voxels and cells. The truth is the mean over the reconstruction's voxels.

    MR on a grid of lines: object, coils and phase on the image's own pixels, of whose k-space the
    middle seven eighths are measured: the object has more detail than the image can hold. The truth
    is the same part of the object's k-space.  Along trajectories: see
    :func:`medrecon.simulate_trajectory.simulate_trajectory`.

    Parameters
    ----------
    image
        Axial; CT in HU.
    protocol
        The scanner.
    slices
        Of an MR image, how many of its middle ones.
    seed
        Of noise and sampling pattern.

    Raises
    ------
    InconsistentError
        If image and protocol do not fit.
    """
    generator = torch.Generator().manual_seed(seed)
    acquisition = protocol.acquisition
    if isinstance(acquisition, CartesianScan):
        return _cartesian(middle(image, slices), acquisition, generator)
    if isinstance(acquisition, NonCartesianScan):
        part = middle(image, slices)
        return simulate_trajectory(
            part,
            coils=acquisition.coils,
            geometry=trajectory_of(acquisition, part.grid.shape),
            noise_std=acquisition.noise_std,
            generator=generator,
        )
    return _ct(image, protocol, acquisition, generator)


def _ct(image: Volume, protocol: Protocol, scan: CTScan, generator: torch.Generator) -> Study:
    settings = protocol.grid
    if settings is None or image.unit is not Unit.HU:
        raise InconsistentError("A CT case needs an image in HU and a grid in the protocol.")
    geometry = scanner(scan)
    grid = Grid.centred(settings.shape, settings.spacing_mm, settings.center_mm)
    (nz, ny, nx), (dz, dy, dx) = grid.shape, grid.spacing
    along_z = 1 if isinstance(geometry, SliceGeometry) else FINER
    fine = Grid.centred(
        (along_z * nz, FINER * ny, FINER * nx),
        (dz / along_z, dy / FINER, dx / FINER),
        settings.center_mm,
    )
    # Nothing attenuates less than vacuum: padding and ringing below are cut off, in the truth too.
    centre = image.grid.center
    hu = resample(image, fine.shifted(centre), outside=-1000.0).data.clamp_min(-1000.0)
    y = _line_integrals(hu_to_per_mm(hu, protocol.mu_water_per_mm), fine, geometry)
    weights = None
    if scan.photons is not None:
        noise = scan.electronic_noise_quanta
        quanta = detect(y, scan.photons, electronic_noise=noise, generator=generator)
        seen = line_integrals(
            quanta,
            scan.photons,
            policy=protocol.counts.low_counts,
            electronic_noise=noise,
            tolerated=1.0,
        )
        y, weights = seen.values, seen.weights
        if seen.repaired:
            warnings.warn(f"The simulated scan: {seen.remark}.", stacklevel=3)
    return Study(
        measurements=y,
        geometry=geometry,
        grid=grid,
        weights=weights,
        isocenter=centre,
        identity=Identity(simulated=True),
        reference=hu.view(nz, along_z, ny, FINER, nx, FINER).mean((1, 3, 5)),
    )


def _line_integrals(mu: Tensor, fine: Grid, geometry: CTGeometry) -> Tensor:
    """Average the intensity of the rays that a cell collects."""
    width = FINER * geometry.columns
    if isinstance(geometry, SliceGeometry):
        spacing = geometry.column_spacing / FINER
        finer = replace(geometry, columns=width, column_spacing=spacing)
        return _seen(SliceProjector(fine, finer, JOSEPH)(mu), (FINER,))
    if not isinstance(geometry, ConeBeam):
        raise InconsistentError("A case is a scan by a fan, a cone on a circle, or parallel rays.")
    whole = replace(
        geometry,
        columns=width,
        column_spacing=geometry.column_spacing / FINER,
        rows=FINER * geometry.rows,
        row_spacing=geometry.row_spacing / FINER,
    )
    return _seen(RayProjector(fine, whole)(mu), (FINER, FINER))


def _seen(rays: Tensor, cell: tuple[int, ...]) -> Tensor:
    """Line integrals of cells of so many rays along the last axes, from their mean intensity."""
    intensity = torch.exp(-rays.double())
    for axis, count in zip(range(-len(cell), 0), cell, strict=True):
        parts = [intensity.movedim(axis, -1)[..., first::count] for first in range(count)]
        intensity = torch.stack(parts).mean(0).movedim(-1, axis)
    return -intensity.log().float()


def _cartesian(image: Volume, scan: CartesianScan, generator: torch.Generator) -> Study:
    magnitude = signal_of(image)
    nz, *plane = image.grid.shape
    ny, nx = (2 * round(MEASURED * n / 2) for n in plane)
    share = ((ny * nx) / (plane[0] * plane[1])) ** 0.5
    phase = ObjectPhase.drawn(generator).on(image.grid)
    signal = (magnitude * torch.exp(1j * phase)).to(torch.complex64)

    def measured(x: Tensor) -> Tensor:
        kspace = image_to_kspace(x, (-2, -1))
        part: Tensor = share * crop_or_pad(crop_or_pad(kspace, ny, -2), nx, -1)
        return part

    truth = kspace_to_image(measured(signal), (-2, -1))
    slices = nz if scan.per_slice else 0
    mask = sampling_pattern(scan, (ny, nx), slices, generator)
    geometry = Cartesian(mask=mask)
    clean = measured(coil_sensitivities(image.grid, scan.coils) * signal).transpose(0, 1)
    deviation = noise_deviation(magnitude, scan.noise_std)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator)
    kspace = (clean + deviation * noise) * torch.from_numpy(geometry.samples.copy())
    dz, dy, dx = image.grid.spacing
    spacing = (dz, dy * plane[0] / ny, dx * plane[1] / nx)
    grid = replace(image.grid, shape=(nz, ny, nx), spacing=spacing)
    shift = np.array([0.0, *(_origin(n, m) for n, m in zip(plane, (ny, nx), strict=True)), 1.0])
    x, y, z = (float(v) for v in (image.grid.affine @ shift)[:3])
    grid = replace(grid, origin=(x, y, z))
    return simulated_study(kspace, geometry, grid, truth.abs(), truth.angle(), deviation)


def _origin(fine: int, coarse: int) -> float:
    """Index, on the object's pixels, of the first pixel: the origins ``n // 2`` coincide."""
    return fine // 2 - (coarse // 2) * fine / coarse
