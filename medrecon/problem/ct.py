"""From CT measurements and a protocol to a data term, analytic and iterative reconstructions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from medrecon.analytic.fbp import fbp
from medrecon.analytic.fdk import fdk
from medrecon.analytic.helical import helical
from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.geometry import CTGeometry, MRGeometry
from medrecon.geometry_facts import geometry_facts
from medrecon.grid import Grid
from medrecon.operators.base import LinearOperator
from medrecon.operators.ct import projector
from medrecon.physics.shadow import Truncation, truncation
from medrecon.problem.corrections import corrected
from medrecon.problem.problem import Problem
from medrecon.problem.views import Views, iterative
from medrecon.protocol import METHODS, Protocol
from medrecon.scanner import grid_of, kind_of, water_of
from medrecon.study import Study
from medrecon.units import hu_to_per_mm, per_mm_to_hu
from medrecon.volume import Unit, Volume

DEFAULT_WINDOW_HU = (-1000.0, 1600.0)
ANALYTIC: dict[str, Callable[..., Tensor]] = {"fbp": fbp, "fdk": fdk, "helical": helical}
_TV_STEPS = 8
"""Steps of conjugate gradients in one iteration of total variation, about."""


@dataclass(frozen=True)
class Scale:
    """Attenuation in 1/mm of an image in the prior's unit: ``scale * u + offset``."""

    scale: float
    offset: float

    def normalised(self, mu: Tensor) -> Tensor:
        """Attenuation to the prior's unit."""
        return (mu - self.offset) / self.scale

    def attenuation(self, u: Tensor) -> Tensor:
        """Image in the prior's unit to attenuation."""
        return self.scale * u + self.offset


def ct_problem(
    study: Study,
    protocol: Protocol,
    *,
    window_hu: tuple[float, float] = DEFAULT_WINDOW_HU,
    device: str = "cpu",
) -> Problem:
    """Set up a CT scan; the ``window_hu`` of the prior maps to [-1, 1].

    Raises
    ------
    InconsistentError
        If the protocol has no grid and the study neither, or they do not fit.
    UsageError
        If the protocol's backend cannot project this scan.
    """
    geometry = study.geometry
    if isinstance(geometry, MRGeometry):
        raise InconsistentError("This is an MR study; a CT protocol cannot reconstruct it.")
    study, done = corrected(study, protocol)
    grid = grid_of(protocol) or study.grid
    if grid is None:
        raise InconsistentError("Neither the protocol nor the measurements say the volume's grid.")
    water = water_of(study, protocol)
    cut = truncation(study.measurements, geometry, grid)
    if cut.is_truncated:
        warnings.warn(cut.remark, stacklevel=2)
    y = study.measurements.to(device)
    often = _applications(protocol) if device == "cpu" else 0  # matrices are kept on the CPU
    operator = projector(grid, geometry, protocol.backend, applications=often)
    operator.codomain.check(y, "the sinogram")
    low, high = window_hu
    unit = Scale(
        scale=hu_to_per_mm((high - low) / 2, water) - hu_to_per_mm(0.0, water),
        offset=hu_to_per_mm((high + low) / 2, water),
    )
    precision = _precision(study, protocol.model_std, y)
    views = Views(grid, geometry, protocol.backend, y, _on(study.weights, y))
    data = DataTerm(operator, y, precision, unit.scale, unit.offset)
    place = grid.shifted(study.isocenter)
    return Problem(
        data=data,
        grid=place,
        direct=_direct(y, geometry, grid, protocol, unit),
        iterative=iterative(views, unit.normalised),
        to_volume=lambda u: Volume(per_mm_to_hu(unit.attenuation(u), water).cpu(), place, Unit.HU),
        data_range=high - low,
        study=study,
        facts=_facts(geometry, protocol, operator, water, done) | {"truncation": _told(cut)},
    )


def _direct(
    y: Tensor, geometry: CTGeometry, grid: Grid, protocol: Protocol, unit: Scale
) -> dict[str, Callable[[], Tensor]]:
    """Name the closed formulas, each with the filter of its baseline."""
    filters: dict[str, str] = {baseline.method: baseline.filter for baseline in protocol.baselines}

    def reconstruct(name: str) -> Tensor:
        window = filters.get(name, "ramlak").replace("_", "-")
        return unit.normalised(ANALYTIC[name](y, geometry, grid, window))

    names = [name for name in METHODS[kind_of(geometry)] if name in ANALYTIC]
    return {name: partial(reconstruct, name) for name in names}


def _applications(protocol: Protocol) -> int:
    """About how often the projector and its transpose will be applied."""
    iterations = sum(
        baseline.iterations * (_TV_STEPS if baseline.method == "tv" else 1)
        for baseline in protocol.baselines
        if baseline.method in ("cgls", "tv")
    )
    if protocol.sampler is not None:
        iterations += protocol.sampler.steps * protocol.sampler.cg.max_iterations // 2
    return 2 * iterations


def _facts(
    geometry: CTGeometry,
    protocol: Protocol,
    operator: LinearOperator,
    water: float,
    done: tuple[str, ...],
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "geometry": geometry_facts(geometry),
        "mu_water_per_mm": water,
        "corrections": list(done),
        "backend": protocol.backend,
    }
    if not operator.adjoint_is_exact:
        facts["adjoint"] = "not the exact transpose of the projector"
    return facts


def _told(cut: Truncation) -> dict[str, Any]:
    return {
        "is_truncated": cut.is_truncated,
        "views_cut_left": round(cut.left, 4),
        "views_cut_right": round(cut.right, 4),
        "views_beyond_grid": round(cut.beyond_grid, 4),
        "object_reaches_mm": round(cut.reach, 2),
    }


def _on(weights: Tensor | None, y: Tensor) -> Tensor | None:
    return None if weights is None else weights.to(y)


def _precision(study: Study, model_std: float, y: Tensor) -> Tensor | float:
    """Inverse variance of line integrals: counting noise plus what the model leaves unexplained."""
    if study.weights is None:
        deviation = study.noise_std or _line_integral_noise(y)
        return 1 / (deviation**2 + model_std**2)
    weights = study.weights.to(y)
    if study.noise_std is not None:
        weights = weights / study.noise_std**2
    return weights / (1 + weights * model_std**2)


def _line_integral_noise(y: Tensor) -> float:
    """Noise of a sinogram from second differences along its columns (median absolute deviation)."""
    second = y[..., 2:] - 2 * y[..., 1:-1] + y[..., :-2]
    deviation = 1.4826 * float(second.abs().flatten()[:: max(1, second.numel() // 10**6)].median())
    floor = 1e-4 * float(y.abs().max())
    return max(deviation / 6**0.5, floor, 1e-12)
