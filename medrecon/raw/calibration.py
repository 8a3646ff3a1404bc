"""A separate calibration scan, brought to the matrix, the coils and the noise of its image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medrecon.geometry.kspace import crop_or_pad
from medrecon.grid import Grid
from medrecon.preprocessing.oversampling import kept_samples, kept_size, remove_oversampling
from medrecon.raw.encoding import check_encoding
from medrecon.raw.fill import check_alike, fill_kspace
from medrecon.raw.images import Image
from medrecon.raw.scan import Encoding, RawScan
from medrecon.raw.whitening import Coils

_SAME_FOV = 0.01  # largest relative difference


def calibration_kspace(
    scan: RawScan, image: Image, order: Sequence[int], grid: Grid, coils: Coils
) -> Tensor | None:
    """Centred k-space of the calibration scan on the grid of the image, zero where not measured.

    A larger field of view is cropped, in the image; a smaller one cannot be used.

    Parameters
    ----------
    scan
        The whole scan, for its encodings.
    image
        Knows its calibration readouts.
    order
        Counters of the slices along the grid's z.
    grid
        Of the image.
    coils
        Of the image: the same are used, whitened alike.

    Returns
    -------
    Tensor or None
        ``(z, coils, y, x)`` slice-wise, ``(coils, z, y, x)`` for 3D; ``None`` where there is no
        calibration scan, or (with a warning) none that fits the image.

    Raises
    ------
    InconsistentError
        If the calibration readouts do not fit each other or their header.
    """
    if not image.calibration:
        return None
    encoding = scan.encodings[image.calibration[0].encoding]
    check_encoding(encoding, scan.path)
    reason = _misfit(image, order, encoding, grid, coils)
    if reason:
        warnings.warn(f"{scan.path}: the calibration scan is left out: {reason}.", stacklevel=2)
        return None
    check_alike(image.calibration, scan.path)
    filled = fill_kspace(image.calibration, order, encoding, scan.path)
    kspace, counts = coils.apply(filled.kspace, 1), filled.counts
    for axis in (-3, -2, -1) if encoding.is_3d else (-2, -1):
        n, fov = encoding.matrix[axis], encoding.fov[axis]
        kept = kept_size(n, fov, grid.shape[axis] * grid.spacing[axis])
        kspace = remove_oversampling(kspace, kept, axis)
        counts = np.moveaxis(kept_samples(np.moveaxis(counts, axis, -1), kept), -1, axis)
    kspace = kspace * torch.from_numpy(counts[:, None] > 0)
    for axis in (-3, -2, -1) if encoding.is_3d else (-2, -1):
        kspace = crop_or_pad(kspace, grid.shape[axis], axis)
    return (kspace[0] if encoding.is_3d else kspace[:, :, 0]).contiguous()


def _misfit(
    image: Image, order: Sequence[int], encoding: Encoding, grid: Grid, coils: Coils
) -> str:
    """Why a calibration scan cannot be laid onto the image's k-space; empty if it can."""
    found = {readout.data.shape[0] for readout in image.calibration}
    if any(readout.trajectory is not None for readout in image.calibration):
        return "it was not sampled on a Cartesian grid"
    if found != {coils.total}:
        return f"it has {sorted(found)} coils, the image {coils.total}"
    if encoding.is_3d != image.encoding.is_3d:
        return "it does not encode the same axes as the image"
    for axis in (-3, -2, -1) if encoding.is_3d else (-2, -1):
        n, fov = encoding.matrix[axis], encoding.fov[axis]
        wanted = grid.shape[axis] * grid.spacing[axis]
        own = kept_size(n, fov, wanted) * fov / n
        if abs(own - wanted) > _SAME_FOV * wanted:
            return f"its field of view, {fov:g} mm, cannot be cropped to the image's {wanted:g} mm"
    if {readout.slice for readout in image.calibration} != set(order):
        return "it does not cover all slices"
    return ""
