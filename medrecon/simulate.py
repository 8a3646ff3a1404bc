"""Measure an image with a protocol's scanner."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, ConeBeam, CTGeometry, FanBeam, ParallelBeam
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.io.ismrmrd import write_ismrmrd
from medrecon.io.orientation import nearest_axial
from medrecon.io.projections import write_projections
from medrecon.operators.ct import projector
from medrecon.protocol import CartesianScan, ConeScan, FanScan, ParallelScan, Protocol
from medrecon.resample import resample
from medrecon.sampling_masks import cartesian_mask
from medrecon.simulate_mr import simulate_mr
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
    and measured with Poisson noise of the protocol's ``photons``.  The reference is the average of
    the fine image over the reconstruction's voxels.
    MR: see :func:`medrecon.simulate_mr.simulate_mr`.

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
        pattern = acquisition.pattern
        shape = image.grid.shape[1:]
        mask = torch.ones(shape, dtype=torch.bool).numpy()
        if pattern != "as_measured":
            mask = cartesian_mask(
                shape,
                pattern=pattern,
                acceleration=acquisition.acceleration,
                calibration_lines=acquisition.calibration_lines,
                generator=generator,
            )
        study = simulate_mr(
            image,
            coils=acquisition.coils,
            mask=mask,
            noise_std=acquisition.noise_std,
            generator=generator,
        )
        return replace(study, identity=identity)
    study = _simulate_ct(image, protocol, scanner(acquisition), acquisition.photons, generator)
    return replace(study, identity=identity)


def scanner(scan: ParallelScan | FanScan | ConeScan) -> CTGeometry:
    """Geometry of a protocol's CT scanner."""
    angles = equiangular(
        scan.views, arc=math.radians(scan.arc_deg), start=math.radians(scan.start_deg)
    )
    if isinstance(scan, ParallelScan):
        return ParallelBeam(
            angles=angles,
            columns=scan.columns,
            column_spacing=scan.column_spacing_mm,
            column_offset=scan.column_offset_mm,
        )
    if isinstance(scan, FanScan):
        return FanBeam(
            angles=angles,
            source_to_axis=scan.source_to_axis_mm,
            source_to_detector=scan.source_to_detector_mm,
            columns=scan.columns,
            column_spacing=scan.column_spacing_mm,
            column_offset=scan.column_offset_mm,
        )
    return ConeBeam(
        angles=angles,
        source_to_axis=scan.source_to_axis_mm,
        source_to_detector=scan.source_to_detector_mm,
        rows=scan.rows,
        columns=scan.columns,
        row_spacing=scan.row_spacing_mm,
        column_spacing=scan.column_spacing_mm,
        row_offset=scan.row_offset_mm,
        column_offset=scan.column_offset_mm,
    )


def write_study(path: Path, study: Study) -> None:
    """Write measurements: ISMRMRD for MR, the project's HDF5 for CT."""
    if isinstance(study.geometry, Cartesian):
        write_ismrmrd(path, study)
    else:
        write_projections(path, study)


def _simulate_ct(
    image: Volume,
    protocol: Protocol,
    geometry: CTGeometry,
    photons: float | None,
    generator: torch.Generator,
) -> Study:
    settings = protocol.grid
    if settings is None or image.unit is not Unit.HU:
        raise InconsistentError(
            f"A CT simulation needs an image in HU and a grid in the protocol, got "
            f"{image.unit.value}."
        )
    center = image.grid.center
    grid = Grid.centred(settings.shape, settings.spacing_mm, settings.center_mm)
    nz, ny, nx = settings.shape
    dz, dy, dx = settings.spacing_mm
    refine_z = REFINEMENT if isinstance(geometry, ConeBeam) else 1
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
    y, weights = (y, None) if photons is None else _count(y, photons, generator)
    reference = hu.view(nz, refine_z, ny, REFINEMENT, nx, REFINEMENT).mean((1, 3, 5))
    return Study(
        measurements=y,
        geometry=geometry,
        grid=grid,
        weights=weights,
        isocenter=center,
        reference=reference,
    )


def _count(y: Tensor, photons: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Poisson counts of ``photons`` through ``y``; line integrals of them and their weights.

    A cell that counted nothing is set to one quantum: its line integral is a lower bound, and its
    weight of one leaves it next to no say.
    """
    counts = torch.poisson(photons * torch.exp(-y), generator=generator).clamp_min(1)
    return -torch.log(counts / photons), counts
