"""Measure an image with a protocol's scanner."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import MRGeometry, SliceGeometry
from medrecon.grid import Grid
from medrecon.io.ismrmrd import write_ismrmrd
from medrecon.io.orientation import nearest_axial
from medrecon.io.projections import write_projections
from medrecon.operators.ct import projector
from medrecon.physics.counts import detect, line_integrals
from medrecon.problem.retrospective import sampling_pattern
from medrecon.protocol import CartesianScan, Counts, CTScan, NonCartesianScan, Protocol
from medrecon.resample import resample
from medrecon.scanner import scanner
from medrecon.simulate_mr import simulate_mr
from medrecon.simulate_trajectory import simulate_trajectory, trajectory_of
from medrecon.study import Identity, Study
from medrecon.units import hu_to_per_mm
from medrecon.volume import Unit, Volume

REFINEMENT = 2
"""A CT image is measured on voxels this much finer in-plane than those it is reconstructed on."""


def simulate(
    image: Volume, protocol: Protocol, *, seed: int = 0, identity: Identity | None = None
) -> Study:
    """Measure an image with the scanner of a protocol.

    CT: the image's middle is put at the isocentre; the image is interpolated to voxels finer than
    those of the protocol's grid, so that the reconstruction never sees its own discretisation,
    and measured with Poisson noise of the protocol's ``photons`` and the noise of its electronics.
    The reference is the average of the fine image over the reconstruction's voxels.
    MR: see :func:`medrecon.simulate_mr.simulate_mr` and, along a trajectory,
    :func:`medrecon.simulate_trajectory.simulate_trajectory`.

    Parameters
    ----------
    image
        CT in HU, MR in an arbitrary unit.
    protocol
        The scanner.
    seed
        Seed of noise and sampling pattern.
    identity
        Of the image; the study is marked as simulated.

    Raises
    ------
    InconsistentError
        If image and protocol do not fit.
    """
    generator = torch.Generator().manual_seed(seed)
    identity = replace(identity or Identity(), simulated=True)
    image = nearest_axial(image)
    acquisition = protocol.acquisition
    if isinstance(acquisition, CartesianScan):
        shape = image.grid.shape[-acquisition.encoded :]
        slices = image.grid.shape[0] if acquisition.per_slice else 0
        mask = sampling_pattern(acquisition, shape, slices, generator)
        study = simulate_mr(
            image,
            coils=acquisition.coils,
            mask=mask,
            noise_std=acquisition.noise_std,
            generator=generator,
            encoded=acquisition.encoded,
        )
        return replace(study, identity=identity)
    if isinstance(acquisition, NonCartesianScan):
        study = simulate_trajectory(
            image,
            coils=acquisition.coils,
            geometry=trajectory_of(acquisition, image.grid.shape),
            noise_std=acquisition.noise_std,
            generator=generator,
        )
        return replace(study, identity=identity)
    study = _simulate_ct(image, protocol, acquisition, generator)
    return replace(study, identity=identity)


def write_study(path: Path, study: Study) -> None:
    """Write measurements: ISMRMRD for MR, the project's HDF5 for CT."""
    if isinstance(study.geometry, MRGeometry):
        write_ismrmrd(path, study)
    else:
        write_projections(path, study)


def _simulate_ct(
    image: Volume,
    protocol: Protocol,
    scan: CTScan,
    generator: torch.Generator,
) -> Study:
    settings = protocol.grid
    if settings is None or image.unit is not Unit.HU:
        raise InconsistentError(
            f"A CT simulation needs an image in HU and a grid in the protocol, got "
            f"{image.unit.value}."
        )
    geometry = scanner(scan)
    center = image.grid.center
    grid = Grid.centred(settings.shape, settings.spacing_mm, settings.center_mm)
    nz, ny, nx = settings.shape
    dz, dy, dx = settings.spacing_mm
    refine_z = 1 if isinstance(geometry, SliceGeometry) else REFINEMENT
    fine = Grid.centred(
        (refine_z * nz, REFINEMENT * ny, REFINEMENT * nx),
        (dz / refine_z, dy / REFINEMENT, dx / REFINEMENT),
        settings.center_mm,
    )
    # Nothing attenuates less than vacuum: padding and ringing below -1000 HU are cut off, in the
    # reference too.
    hu = resample(image, fine.shifted(center), outside=-1000.0).data.clamp_min(-1000.0)
    mu = hu_to_per_mm(hu, protocol.mu_water_per_mm)
    y = projector(fine, geometry)(mu)
    y, weights = _detected(y, scan, protocol.counts, generator)
    reference = hu.view(nz, refine_z, ny, REFINEMENT, nx, REFINEMENT).mean((1, 3, 5))
    return Study(
        measurements=y,
        geometry=geometry,
        grid=grid,
        weights=weights,
        isocenter=center,
        reference=reference,
    )


def _detected(
    y: Tensor, scan: CTScan, counts: Counts, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Line integrals as the detector sees them, with their weights; exact ones without photons."""
    if scan.photons is None:
        return y, None
    noise = scan.electronic_noise_quanta
    quanta = detect(y, scan.photons, electronic_noise=noise, generator=generator)
    seen = line_integrals(
        quanta,
        scan.photons,
        policy=counts.low_counts,
        electronic_noise=noise,
        tolerated=1.0,
    )
    if seen.repaired:
        warnings.warn(f"The simulated scan: {seen.remark}.", stacklevel=3)
    return seen.values, seen.weights
