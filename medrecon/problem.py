"""From a study and a protocol to a data term: the only place where the modalities differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrecon.analytic.fbp import fbp
from medrecon.analytic.fdk import fdk
from medrecon.calibration.coils import estimate_maps, rss
from medrecon.calibration.noise import estimate_noise
from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, ConeBeam
from medrecon.geometry.kspace import kspace_to_image
from medrecon.grid import Grid
from medrecon.operators.cartesian import sense_operator
from medrecon.operators.ct import projector
from medrecon.protocol import CartesianScan, Protocol
from medrecon.sampling_masks import cartesian_mask, undersample
from medrecon.solvers.cg import conjugate_gradients
from medrecon.study import Study
from medrecon.units import hu_to_per_mm, per_mm_to_hu
from medrecon.volume import Unit, Volume

DEFAULT_WINDOW_HU = (-1000.0, 1600.0)
DEFAULT_PERCENTILE = 99.5
_SCALING_ITERATIONS = 6


@dataclass(frozen=True, eq=False)
class Problem:
    """What every reconstruction needs, whatever the modality.

    Parameters
    ----------
    data
        The data term on images in the prior's unit.
    grid
        Where the volume lies in the patient, LPS mm.
    direct
        Reconstructions that need no iteration, by name; in the prior's unit.
    to_volume
        An image in the prior's unit to a volume in HU or arbitrary unit.
    data_range
        Fixed range for PSNR and SSIM, in the volume's unit.
    study
        The study as it is reconstructed (undersampled, where the protocol says so).
    """

    data: DataTerm
    grid: Grid
    direct: Mapping[str, Callable[[], Tensor]]
    to_volume: Callable[[Tensor], Volume]
    data_range: float
    study: Study


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
    """
    geometry = study.geometry
    if isinstance(geometry, Cartesian):
        raise InconsistentError("This is an MR study; a CT protocol cannot reconstruct it.")
    if protocol.grid is not None:
        settings = protocol.grid
        grid = Grid.centred(settings.shape, settings.spacing_mm, settings.center_mm)
    elif study.grid is not None:
        grid = study.grid
    else:
        raise InconsistentError("Neither the protocol nor the measurements say the volume's grid.")
    y = study.measurements.to(device)
    operator = projector(grid, geometry)
    operator.codomain.check(y, "the sinogram")
    low, high = window_hu
    water = protocol.mu_water_per_mm
    scale = hu_to_per_mm((high - low) / 2, water) - hu_to_per_mm(0.0, water)
    offset = hu_to_per_mm((high + low) / 2, water)
    data = DataTerm(operator, y, _ct_precision(study, protocol.model_std, y), scale, offset)

    def analytic(window: str) -> Tensor:
        window = window.replace("_", "-")
        if isinstance(geometry, ConeBeam):
            mu = fdk(y, geometry, grid, window)
        else:
            mu = fbp(y, geometry, grid, window)
        return (mu - offset) / scale

    place = grid.shifted(study.isocenter)
    name = "fdk" if isinstance(geometry, ConeBeam) else "fbp"
    filters: dict[str, str] = {baseline.method: baseline.filter for baseline in protocol.baselines}
    return Problem(
        data=data,
        grid=place,
        direct={name: lambda: analytic(filters.get(name, "ramlak"))},
        to_volume=lambda u: Volume(per_mm_to_hu(scale * u + offset, water).cpu(), place, Unit.HU),
        data_range=high - low,
        study=study,
    )


def _ct_precision(study: Study, model_std: float, y: Tensor) -> Tensor | float:
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
