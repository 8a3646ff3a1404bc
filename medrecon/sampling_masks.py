"""Cartesian sampling patterns that have the acceleration they are asked for, and their use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import sigpy.mri
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.calibration.coils import coil_combine, estimate_maps
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.study import Study

Pattern = Literal["uniform", "random", "poisson"]
_GOLDEN_SECTION = (math.sqrt(5) - 1) / 2
_TOLERANCES = (0.1, 0.3, 1.0, 3.0)  # of sigpy's search, before the count is made exact


def cartesian_mask(
    shape: tuple[int, ...],
    *,
    pattern: Pattern,
    acceleration: float,
    calibration_lines: int,
    generator: torch.Generator,
    axes: Sequence[str] | None = None,
) -> NDArray[np.bool_]:
    """Choose the samples of a Cartesian scan; their number is ``size / acceleration``, rounded.

    ``uniform`` and ``random`` choose lines along y (evenly spaced, or at random with constant
    density) and keep whole readouts along x. ``poisson`` is a variable-density Poisson disc in
    ``(y, x)``, or in ``(z, y)`` with whole readouts along x where the shape has three axes. The
    fully sampled middle counts towards the acceleration.

    Parameters
    ----------
    shape
        ``(y, x)`` or ``(z, y, x)``.
    pattern
        See above.
    acceleration
        All samples over measured samples, at least 1.
    calibration_lines
        Width of the fully sampled middle, along y, or along both axes of a pattern in the plane.
    generator
        Source of all randomness.
    axes
        Along which axes of a 3D scan samples are left out: ``("y",)``, or ``("z", "y")`` for a
        pattern in their plane: at random, or evenly spaced along y with a shift from partition to
        partition, so that folds are spread along both axes. ``None``: both for ``poisson``, else
        y.

    Returns
    -------
    ndarray
        Boolean, of ``shape``.

    Raises
    ------
    InconsistentError
        If the fully sampled middle alone is more than the acceleration allows, or the pattern does
        not fit the axes.

    References
    ----------
    Bridson, Fast Poisson disk sampling in arbitrary dimensions, SIGGRAPH sketches (2007). Breuer
    et al., Controlled aliasing in volumetric parallel imaging (2D CAIPIRINHA), Magn Reson Med 55
    (2006), doi:10.1002/mrm.20787.
    """
    if not acceleration >= 1:
        raise InconsistentError(f"An acceleration is at least 1, got {acceleration}.")
    usual = ("z", "y") if pattern == "poisson" and len(shape) == 3 else ("y",)
    plane = usual if axes is None else tuple(axes)
    if len(plane) == 2 and len(shape) != 3:
        raise InconsistentError(
            "A pattern along z and y needs a scan that encodes z; this one is slice-wise."
        )
    if pattern == "poisson":
        if len(shape) == 3 and len(plane) == 1:
            raise InconsistentError("A Poisson disc of a 3D scan lies in z and y, not along y.")
        chosen = _poisson(shape[:2], acceleration, calibration_lines, generator)
        return np.broadcast_to(chosen if len(shape) == 2 else chosen[..., None], shape).copy()
    if len(plane) == 2:
        chosen = _plane(shape[:2], pattern, acceleration, calibration_lines, generator)
        return np.broadcast_to(chosen[..., None], shape).copy()
    lines = _lines(shape[-2], pattern, acceleration, calibration_lines, generator)
    return np.broadcast_to(lines[:, None], shape).copy()


def undersample(study: Study, mask: NDArray[np.bool_]) -> Study:
    """Keep only the masked samples of a measured scan.

    Where the scan was fully sampled and holds no truth yet, its coil-combined magnitude becomes
    the ``reference``.

    Parameters
    ----------
    study
        An MR study.
    mask
        Boolean, of the shape of the study's own mask, or ``(z, y, x)`` with a pattern for each
        slice; only what both hold is kept.

    Raises
    ------
    InconsistentError
        If the study is not MR, the mask has another shape, or nothing is left.
    """
    geometry = study.geometry
    if not isinstance(geometry, Cartesian):
        raise InconsistentError("Only Cartesian MR data can be undersampled by a k-space mask.")
    slices = study.measurements.shape[0]
    fitting = {geometry.mask.shape}
    if not geometry.is_3d:
        fitting |= {geometry.mask.shape[-2:], (slices, *geometry.mask.shape[-2:])}
    if mask.shape not in fitting:
        raise InconsistentError(
            f"The mask has shape {mask.shape}, the scan's k-space {geometry.mask.shape}."
        )
    if study.reference is None and geometry.mask.all():
        study = _with_reference(study, geometry)
    kept = replace(geometry, mask=mask & geometry.mask)
    measured = torch.from_numpy(kept.samples.copy()).to(study.measurements.device)
    return replace(study, measurements=study.measurements * measured, geometry=kept)


def thin(study: Study, shots: int, *, first: bool) -> Study:
    """Keep fewer spokes or interleaves of a scan along a trajectory.

    Parameters
    ----------
    study
        An MR study along a trajectory.
    shots
        How many are kept; a scan with no more stays as it is.
    first
        Whether the first ones are kept, which golden angles spread evenly, or ones evenly spaced
        in the order of acquisition.

    Raises
    ------
    InconsistentError
        If the study was not measured along a trajectory.
    """
    geometry = study.geometry
    if not isinstance(geometry, NonCartesian):
        raise InconsistentError("Only scans along a trajectory have spokes to leave out.")
    if geometry.shots <= shots:
        return study
    kept = np.arange(shots) if first else np.arange(shots) * geometry.shots // shots
    return replace(
        study,
        measurements=study.measurements[..., torch.from_numpy(kept), :],
        geometry=replace(geometry, trajectory=geometry.trajectory[kept]),
        weights=None if study.weights is None else _shots_of(study.weights, kept, geometry.shots),
    )


def _shots_of(weights: Tensor, kept: NDArray[np.intp], shots: int) -> Tensor:
    per_shot = weights.ndim > 1 and weights.shape[-2] == shots
    return weights[..., torch.from_numpy(kept), :] if per_shot else weights


def _with_reference(study: Study, geometry: Cartesian) -> Study:
    """Take the coil-combined image of a fully sampled scan as the truth."""
    maps = study.maps
    if maps is None or maps.ndim > study.measurements.ndim:
        maps = estimate_maps(study.measurements, geometry, noise_std=study.noise_std, crop=0)
    images = kspace_to_image(study.measurements, range(-geometry.encoded, 0))
    combined = coil_combine(images, maps, geometry.coil_axis)
    return replace(study, reference=combined.abs(), reference_phase=combined.angle())


def _budget(size: int, acceleration: float, calibration: int, shape: tuple[int, ...]) -> int:
    wanted = max(1, round(size / acceleration))
    if wanted < calibration:
        raise InconsistentError(
            f"The fully sampled middle alone has {calibration} of {size} samples of shape {shape}; "
            f"acceleration {acceleration:g} allows {wanted}: use fewer calibration lines."
        )
    return wanted


def _middle(n: int, lines: int) -> slice:
    lines = min(lines, n)
    start = n // 2 - lines // 2
    return slice(start, start + lines)


def _lines(
    n: int, pattern: str, acceleration: float, calibration: int, generator: torch.Generator
) -> NDArray[np.bool_]:
    chosen = np.zeros(n, dtype=bool)
    chosen[_middle(n, calibration)] = True
    missing = _budget(n, acceleration, int(chosen.sum()), (n,)) - int(chosen.sum())
    outer = np.flatnonzero(~chosen)
    if pattern == "uniform":
        start = float(torch.rand(1, generator=generator))
        index = np.floor((np.arange(missing) + start) * len(outer) / max(missing, 1)).astype(int)
    else:
        index = torch.randperm(len(outer), generator=generator)[:missing].numpy()
    chosen[outer[index]] = True
    return chosen


def _plane(
    shape: tuple[int, ...],
    pattern: str,
    acceleration: float,
    calibration: int,
    generator: torch.Generator,
) -> NDArray[np.bool_]:
    """Points in the plane of z and y: at random, or lines that shift from partition to partition.

    The shift is the golden section of the distance of lines, which no number of partitions repeats.
    """
    chosen = np.zeros(shape, dtype=bool)
    chosen[tuple(_middle(n, calibration) for n in shape)] = True
    missing = _budget(chosen.size, acceleration, int(chosen.sum()), shape) - int(chosen.sum())
    outer = np.flatnonzero(~chosen)
    if pattern == "random":
        chosen.reshape(-1)[outer[torch.randperm(len(outer), generator=generator)[:missing]]] = True
        return chosen
    start = float(torch.rand(1, generator=generator))
    free = np.cumsum([0, *(~chosen).sum(axis=1)])
    budget = np.diff(np.round(free * (missing / max(len(outer), 1))).astype(int))
    for z, count in enumerate(budget):
        lines = np.flatnonzero(~chosen[z])
        turn = (start + z * _GOLDEN_SECTION) % 1.0
        chosen[z, lines[((np.arange(count) + turn) * len(lines) / max(count, 1)).astype(int)]] = (
            True
        )
    return chosen


def _poisson(
    shape: tuple[int, ...], acceleration: float, calibration: int, generator: torch.Generator
) -> NDArray[np.bool_]:
    middle = np.zeros(shape, dtype=bool)
    middle[tuple(_middle(n, calibration) for n in shape)] = True
    wanted = _budget(middle.size, acceleration, int(middle.sum()), shape)
    chosen = middle | _disc(shape, acceleration, calibration, generator)
    surplus = int(chosen.sum()) - wanted
    # a few samples too many or too few are taken away or added at random, outside the middle
    candidates = np.flatnonzero((chosen if surplus > 0 else ~chosen) & ~middle)
    order = torch.randperm(len(candidates), generator=generator)[: abs(surplus)].numpy()
    chosen.reshape(-1)[candidates[order]] = surplus < 0
    return chosen


def _disc(
    shape: tuple[int, ...], acceleration: float, calibration: int, generator: torch.Generator
) -> NDArray[np.bool_]:
    """Draw sigpy's Poisson disc at the nearest acceleration that its search can reach."""
    if acceleration <= 1:
        return np.ones(shape, dtype=bool)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    for tolerance in _TOLERANCES:
        try:
            disc = sigpy.mri.poisson(
                shape, acceleration, calib=(calibration,) * 2, seed=seed, tol=tolerance, dtype=bool
            )
        except ValueError:
            continue
        return np.asarray(disc, dtype=bool)
    raise InconsistentError(
        f"No Poisson disc of shape {shape} with acceleration {acceleration:g} and {calibration} "
        "calibration lines was found; use fewer calibration lines."
    )
