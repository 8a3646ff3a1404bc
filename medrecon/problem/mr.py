"""From Cartesian k-space and a protocol to a data term."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from medrecon.calibration.coils import estimate_maps, rss
from medrecon.calibration.noise import estimate_noise
from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.operators.cartesian import sense_operator
from medrecon.problem.problem import Problem
from medrecon.protocol import CartesianScan, Protocol
from medrecon.sampling_masks import cartesian_mask, undersample
from medrecon.solvers.cg import conjugate_gradients
from medrecon.study import Study
from medrecon.volume import Unit, Volume

DEFAULT_PERCENTILE = 99.5
_SCALING_ITERATIONS = 6


def mr_problem(
    study: Study,
    protocol: Protocol,
    *,
    percentile: float = DEFAULT_PERCENTILE,
    seed: int = 0,
    device: str = "cpu",
) -> Problem:
    """Set up a Cartesian MR scan: undersample if asked, estimate noise, coil maps and scale.

    The ``percentile`` of the magnitude of a first reconstruction becomes 1.

    Raises
    ------
    InconsistentError
        If the study is not MR, has no grid, no calibration lines, or no signal.
    """
    acquisition = protocol.acquisition
    if isinstance(acquisition, CartesianScan):
        study = retrospective(study, acquisition, seed=seed)
    geometry, grid = study.geometry, study.grid
    if not isinstance(geometry, Cartesian) or not isinstance(acquisition, CartesianScan):
        raise InconsistentError("This is a CT study; an MR protocol cannot reconstruct it.")
    if grid is None:
        raise InconsistentError("The MR study has no grid: its header says no field of view.")
    kspace = study.measurements
    noise = study.noise_std or estimate_noise(kspace, geometry.mask)
    maps = estimate_maps(
        kspace,
        geometry.mask,
        calibration_lines=acquisition.calibration_lines or 24,
        noise_std=noise,
    )
    operator = sense_operator(geometry, maps.to(device))
    y = kspace.to(device)
    first = conjugate_gradients(
        operator.gram,
        operator.adjoint(y),
        blocks=operator.blocks,
        max_iterations=_SCALING_ITERATIONS,
        tolerance=1e-3,
    ).value
    scale = _quantile(first.abs(), percentile / 100)
    if scale <= 0:
        raise InconsistentError("The k-space holds no signal: every measured sample is zero.")
    data = DataTerm(operator, y, 2 / noise**2, scale)
    coil_axis = 0 if geometry.is_3d else 1
    axes = (-3, -2, -1) if geometry.is_3d else (-2, -1)
    reference = study.reference
    bright = scale if reference is None else _quantile(reference, percentile / 100)
    return Problem(
        data=data,
        grid=grid,
        direct={
            "zero_filled": lambda: rss(kspace_to_image(y, axes), coil_axis) / scale,
            "adjoint": lambda: operator.adjoint(y) / scale,
        },
        to_volume=lambda u: Volume((scale * u.abs()).float().cpu(), grid, Unit.ARBITRARY),
        data_range=bright,
        study=replace(study, noise_std=noise),
    )


def retrospective(study: Study, acquisition: CartesianScan, *, seed: int) -> Study:
    """Undersample a fully sampled study as the protocol says; others stay as they are."""
    geometry = study.geometry
    if (
        not isinstance(geometry, Cartesian)
        or acquisition.pattern == "as_measured"
        or not geometry.mask.all()
    ):
        return study
    mask = cartesian_mask(
        geometry.mask.shape,
        pattern=acquisition.pattern,
        acceleration=acquisition.acceleration,
        calibration_lines=acquisition.calibration_lines,
        generator=torch.Generator().manual_seed(seed),
    )
    return undersample(study, mask)


def _quantile(values: Tensor, q: float) -> float:
    """Quantile of a large tensor (``torch.quantile`` refuses more than 16 million elements)."""
    flat = values.flatten()
    k = max(1, min(flat.numel(), round(q * flat.numel())))
    return float(flat.kthvalue(k).values)
