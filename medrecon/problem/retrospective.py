"""Leave samples of a measured MR scan out, as a protocol says."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from medrecon.geometry import Cartesian
from medrecon.protocol import CartesianScan, NonCartesianScan
from medrecon.sampling_masks import cartesian_mask, thin, undersample
from medrecon.study import Study


def retrospective(
    study: Study, acquisition: CartesianScan | NonCartesianScan, *, seed: int
) -> Study:
    """Undersample a fully sampled study as the protocol says; others stay as they are.

    Every image of a file has a pattern of its own, drawn from the seed and the image's label, so
    that it does not depend on which images are reconstructed.

    Parameters
    ----------
    study
        An MR study; a Cartesian one is undersampled only if it is complete (zero filling around
        it does not count where it has a reference), one along a
        trajectory if it has more shots than the protocol asks for.
    acquisition
        The protocol's.
    seed
        Of the pattern.
    """
    geometry = study.geometry
    if isinstance(acquisition, NonCartesianScan):
        if acquisition.shots is None or isinstance(geometry, Cartesian):
            return study
        golden = acquisition.golden or acquisition.pattern == "koosh"
        return thin(study, acquisition.shots, first=golden)
    if (
        not isinstance(geometry, Cartesian)
        or acquisition.pattern == "as_measured"
        or not _is_complete(study, geometry)
    ):
        return study
    generator = torch.Generator().manual_seed((seed + zlib.crc32(study.label.encode())) % 2**63)
    shape = geometry.mask.shape[-geometry.encoded :]
    slices = study.measurements.shape[0] if acquisition.per_slice and not geometry.is_3d else 0
    return undersample(study, sampling_pattern(acquisition, shape, slices, generator))


def _is_complete(study: Study, geometry: Cartesian) -> bool:
    """Whether all was measured, but for zero filling around it where the truth is known.

    fastMRI's complete scans are such: their matrix is larger than what was encoded.
    """
    if geometry.mask.all():
        return True
    measured = np.nonzero(geometry.mask)
    box = tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in measured)
    return study.reference is not None and bool(geometry.mask[box].all())


def sampling_pattern(
    acquisition: CartesianScan,
    shape: tuple[int, ...],
    slices: int,
    generator: torch.Generator,
) -> np.ndarray:
    """Draw the pattern of a protocol: one for all, or one for each of so many ``slices``."""
    if acquisition.pattern == "as_measured":
        return np.ones(shape, dtype=bool)
    masks = [
        cartesian_mask(
            shape,
            pattern=acquisition.pattern,
            acceleration=acquisition.acceleration,
            calibration_lines=acquisition.calibration_lines,
            generator=generator,
            axes=acquisition.axes,
        )
        for _ in range(max(slices, 1))
    ]
    return np.stack(masks) if slices else masks[0]
