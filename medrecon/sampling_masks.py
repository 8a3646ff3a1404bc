"""Cartesian sampling patterns that have the acceleration they are asked for, and their use."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import sigpy.mri
import torch
from numpy.typing import NDArray

from medrecon.calibration.coils import coil_combine, estimate_maps
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.study import Study

Pattern = Literal["uniform", "random", "poisson"]
_TOLERANCES = (0.1, 0.3, 1.0, 3.0)  # of sigpy's search, before the count is made exact


def cartesian_mask(
    shape: tuple[int, ...],
    *,
    pattern: Pattern,
    acceleration: float,
    calibration_lines: int,
    generator: torch.Generator,
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
        Width of the fully sampled middle, along y, or along both axes of the Poisson disc.
    generator
        Source of all randomness.

    Returns
    -------
    ndarray
        Boolean, of ``shape``.

    Raises
    ------
    InconsistentError
        If the fully sampled middle alone is more than the acceleration allows.

    References
    ----------
    Bridson, Fast Poisson disk sampling in arbitrary dimensions, SIGGRAPH sketches (2007).
    """
    if not acceleration >= 1:
        raise InconsistentError(f"An acceleration is at least 1, got {acceleration}.")
    if pattern == "poisson":
        plane = shape[:2]
        chosen = _poisson(plane, acceleration, calibration_lines, generator)
        return np.broadcast_to(chosen if len(shape) == 2 else chosen[..., None], shape).copy()
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
        Boolean, of the shape of the study's own mask; only what both hold is kept.

    Raises
    ------
    InconsistentError
        If the study is not MR, the mask has another shape, or nothing is left.
    """
    geometry = study.geometry
    if not isinstance(geometry, Cartesian):
        raise InconsistentError("Only Cartesian MR data can be undersampled by a k-space mask.")
    if mask.shape != geometry.mask.shape:
        raise InconsistentError(
            f"The mask has shape {mask.shape}, the scan's k-space {geometry.mask.shape}."
        )
    reference = study.reference
    if reference is None and geometry.mask.all():
        maps = estimate_maps(study.measurements, geometry.mask, noise_std=study.noise_std)
        images = kspace_to_image(study.measurements, range(-mask.ndim, 0))
        reference = coil_combine(images, maps, 0 if geometry.is_3d else 1).abs()
    kept = Cartesian(mask=mask & geometry.mask)
    measurements = study.measurements * torch.from_numpy(kept.mask).to(study.measurements.device)
    return replace(study, measurements=measurements, geometry=kept, reference=reference)


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
