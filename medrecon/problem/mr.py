"""From multi-coil k-space and a protocol to a data term."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medrecon.baselines import l1_wavelet
from medrecon.calibration.noise import noise_level
from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.geometry import MRGeometry
from medrecon.geometry_facts import geometry_facts
from medrecon.grid import Grid
from medrecon.operators.sense import sense_operator
from medrecon.problem.mr_coils import Coils, Mixing, check_maps, coil_maps, mixing_of
from medrecon.problem.mr_direct import Measured, direct_methods
from medrecon.problem.mr_files import read_coil_maps, read_field_map
from medrecon.problem.mr_scale import density_weights, quantile
from medrecon.problem.mr_series import Series, alike, brightest
from medrecon.problem.problem import Iterates, Problem
from medrecon.problem.retrospective import retrospective
from medrecon.protocol import Baseline, MRScan, Protocol
from medrecon.solvers.progress import Progress
from medrecon.study import Study
from medrecon.volume import Unit, Volume

DEFAULT_PERCENTILE = 99.5


@dataclass(frozen=True, eq=False)
class _Scan:
    """One image's measurements, as they are reconstructed."""

    study: Study
    geometry: MRGeometry
    grid: Grid


@dataclass(frozen=True, eq=False)
class _Shared:
    """What the images of a series have in common: coils, and the intensity that counts as 1."""

    mixing: Mixing
    coils: Coils
    scale: float
    facts: Mapping[str, Any]


def mr_problem(
    study: Study,
    protocol: Protocol,
    *,
    percentile: float = DEFAULT_PERCENTILE,
    seed: int = 0,
    device: str = "cpu",
) -> Problem:
    """Set up one MR image; see :func:`mr_problems`."""
    return mr_problems((study,), protocol, percentile=percentile, seed=seed, device=device)[0]


def mr_problems(
    studies: Sequence[Study],
    protocol: Protocol,
    *,
    percentile: float = DEFAULT_PERCENTILE,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[Problem, ...]:
    """Set up MR images: undersample if asked, estimate noise, coil maps and scale.

    The ``percentile`` of the magnitude of the zero-filled image becomes 1: ``A^H (w y)``, combined
    with the coil maps, where w makes up for samples that are missing around a measured one.
    Without w the image of a pattern with no full middle is dimmer by the acceleration.

    Where the protocol has ``llr``, images of the same place and size share coil maps and scale,
    those of the image with the most signal, and are reconstructed together.

    Parameters
    ----------
    studies
        Images of one file.
    protocol
        What to do.
    percentile
        Of the prior.
    seed
        Of retrospective patterns.
    device
        Torch device.

    Raises
    ------
    InconsistentError
        If a study is not MR, has no grid, no calibration lines, or no signal; if maps or field map
        do not fit; if ``llr`` has no series to work on.
    """
    scans = [_scan(study, protocol, seed) for study in studies]
    set_up = partial(_set_up, protocol=protocol, percentile=percentile, device=device)
    if not any(baseline.method == "llr" for baseline in protocol.baselines):
        return tuple(set_up(scan) for scan in scans)
    problems: dict[int, Problem] = {}
    for group in alike([scan.study for scan in scans]):
        main = brightest([scans[i].study for i in group])
        shared = _shared(next(s for s in scans if s.study is main), protocol, percentile, device)
        together = [set_up(scans[i], shared=shared) for i in group]
        series = Series([problem.data for problem in together])
        for position, (i, problem) in enumerate(zip(group, together, strict=True)):
            llr: dict[str, Iterates] = {"llr": partial(series.image, position)}
            problems[i] = replace(problem, iterative={**problem.iterative, **llr})
    return tuple(problems[i] for i in range(len(scans)))


def _scan(study: Study, protocol: Protocol, seed: int) -> _Scan:
    acquisition = protocol.acquisition
    if isinstance(acquisition, MRScan):
        study = retrospective(study, acquisition, seed=seed)
    geometry, grid = study.geometry, study.grid
    if not isinstance(geometry, MRGeometry) or not isinstance(acquisition, MRScan):
        raise InconsistentError("This is a CT study; an MR protocol cannot reconstruct it.")
    if grid is None:
        raise InconsistentError("The MR study has no grid: its header says no field of view.")
    noise = study.noise_std or noise_level(study.measurements, geometry)
    if not noise > 0:
        raise InconsistentError("The k-space holds no signal: every measured sample is zero.")
    return _Scan(replace(study, noise_std=noise), geometry, grid)


def _shared(scan: _Scan, protocol: Protocol, percentile: float, device: str) -> _Shared:
    """Calibrate on one image: virtual coils, coil maps, intensity scale."""
    mixing = mixing_of(scan.study, scan.geometry, protocol)
    study = mixing(_with_given_maps(scan, protocol))
    coils = coil_maps(study, scan.geometry, protocol)
    measured = _measured(study, scan, protocol, coils, device)
    scale = quantile(_over_sets(measured.compensated(), scan.geometry).abs(), percentile / 100)
    if not scale > 0:
        raise InconsistentError("The k-space holds no signal: every measured sample is zero.")
    facts = {
        "value": scale,
        "percentile": percentile,
        "of": "zero-filled image, density-compensated, combined with the coil maps",
        "image": study.label,
    }
    return _Shared(mixing, coils, scale, facts)


def _with_given_maps(scan: _Scan, protocol: Protocol) -> Study:
    """Put the maps of the protocol's file in the place of those given with the data."""
    settings, study = protocol.coil_maps, scan.study
    if settings is not None and settings.file is not None:
        maps = read_coil_maps(Path(settings.file), is_3d=scan.geometry.is_3d)
        study = replace(study, maps=maps)
    if study.maps is None:
        return study
    check_maps(study.maps, study, scan.geometry)
    if study.maps.ndim == 5 and protocol.prior is not None:
        raise InconsistentError(
            f"The given coil maps have {len(study.maps)} sets, which make as many images, and a "
            "prior takes one; give one set, or leave out prior and sampler."
        )
    return study


def _measured(study: Study, scan: _Scan, protocol: Protocol, coils: Coils, device: str) -> Measured:
    """Put data, operator and weights on the device."""
    field_map = None
    if protocol.field_map_file is not None:
        field_map = read_field_map(Path(protocol.field_map_file), scan.grid).to(device)
    maps = coils.maps.to(device)
    return Measured(
        kspace=study.measurements.to(device),
        operator=sense_operator(scan.geometry, maps, field_map=field_map),
        maps=maps,
        weights=density_weights(scan.geometry, scan.grid.shape).to(device),
        calibration=None if study.calibration is None else study.calibration.to(device),
        partial_fourier=protocol.partial_fourier or "zero_fill",
    )


def _set_up(
    scan: _Scan,
    *,
    protocol: Protocol,
    percentile: float,
    device: str,
    shared: _Shared | None = None,
) -> Problem:
    shared = shared or _shared(scan, protocol, percentile, device)
    study, geometry, grid, scale = shared.mixing(scan.study), scan.geometry, scan.grid, shared.scale
    measured = _measured(study, scan, protocol, shared.coils, device)
    data = DataTerm(measured.operator, measured.kspace, _precision(study, device), scale)
    reference = study.reference

    def to_volume(u: Tensor) -> Volume:
        image = _over_sets(u, geometry) if u.ndim > 3 else u
        return Volume.of((scale * image).cpu(), grid, Unit.ARBITRARY)

    return Problem(
        data=data,
        grid=grid,
        direct={
            name: partial(_normalised, formula, scale)
            for name, formula in direct_methods(measured, geometry).items()
        },
        iterative={"wavelet": partial(_wavelet, data)},
        to_volume=to_volume,
        data_range=scale if reference is None else quantile(reference, percentile / 100),
        study=study,
        facts={
            "geometry": geometry_facts(geometry),
            "coil_maps": {"sets": _sets(shared.coils.maps), **shared.coils.facts},
            "coil_compression": shared.mixing.facts,
            "scale": dict(shared.facts),
            "acquisition": dict(study.facts),
        },
    )


def _precision(study: Study, device: str) -> Tensor | float:
    """Inverse variance per real channel; samples that were averaged more often count for more."""
    noise = study.noise_std or 1.0
    if study.weights is None:
        return 2 / noise**2
    return study.weights.to(device) * (2 / noise**2)


def _normalised(formula: Callable[[], Tensor], scale: float) -> Tensor:
    return formula() / scale


def _wavelet(data: DataTerm, spec: Baseline) -> Iterator[Progress]:
    return l1_wavelet(data, weight=spec.strength, iterations=spec.iterations)


def _sets(maps: Tensor) -> int:
    return len(maps) if maps.ndim == 5 else 1


def _over_sets(image: Tensor, geometry: MRGeometry) -> Tensor:
    """Combine the images of several map sets: root of the sum of squares, phase of the first."""
    if image.ndim == 3:
        return image
    first = image.select(geometry.coil_axis, 0)
    return torch.polar(torch.linalg.vector_norm(image, dim=geometry.coil_axis), first.angle())
