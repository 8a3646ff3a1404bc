"""A separate calibration scan, brought to the matrix, the coils and the noise of its image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from medrecon.geometry.kspace import crop_or_pad
from medrecon.preprocessing.oversampling import remove_oversampling
from medrecon.raw.encoding import check_encoding, kept_width
from medrecon.raw.fill import check_alike, fill_kspace, upright
from medrecon.raw.images import Image
from medrecon.raw.scan import Encoding, RawScan
from medrecon.raw.whitening import Coils

_SAME_FOV = 0.01  # largest relative difference


def calibration_kspace(
    scan: RawScan,
    image: Image,
    order: Sequence[int],
    shape: tuple[int, int, int],
    coils: Coils,
) -> Tensor | None:
    """Centred k-space of the calibration scan on the grid of the image, zero where not measured.

    Parameters
    ----------
    scan
        The whole scan, for its encodings.
    image
        Knows its calibration readouts.
    order
        Counters of the slices along the grid's z.
    shape
        Voxels ``(z, y, x)`` of the image's grid.
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
    path = scan.path
    encoding = scan.encodings[image.calibration[0].encoding]
    check_encoding(encoding, path)
    readouts = tuple(upright(readout) for readout in image.calibration)
    reason = _misfit(image, encoding, readouts[0].data.shape[0], coils)
    if not reason and {readout.slice for readout in readouts} != set(order):
        reason = "it does not cover all slices"
    if reason:
        warnings.warn(f"{path}: the calibration scan is left out, for {reason}.", stacklevel=2)
        return None
    check_alike(readouts, path)
    filled = fill_kspace(readouts, order, encoding, path)
    kspace = remove_oversampling(coils.apply(filled.kspace, 1), kept_width(encoding))
    for axis, size in zip((-2, -1), shape[1:], strict=True):
        kspace = crop_or_pad(kspace, size, axis)
    if encoding.is_3d:
        return crop_or_pad(kspace[0], shape[0], -3).contiguous()
    return kspace[:, :, 0].contiguous()


def _misfit(image: Image, encoding: Encoding, coils: int, used: Coils) -> str:
    """Why a calibration encoding cannot be laid onto the image's k-space; empty if it can."""
    if any(readout.trajectory is not None for readout in image.calibration):
        return "it was not sampled on a Cartesian grid"
    if coils != used.total:
        return f"it has {coils} coils, the image {used.total}"
    if encoding.is_3d != image.encoding.is_3d:
        return "it does not encode the same axes as the image"
    own = (*_fov(encoding)[:2], encoding.readout_fov)
    wanted = (*_fov(image.encoding)[:2], image.encoding.readout_fov)
    if not np.allclose(own, wanted, rtol=_SAME_FOV):
        return f"its field of view {own} mm is not the image's {wanted} mm"
    return ""


def _fov(encoding: Encoding) -> tuple[float, float]:
    """Return the encoded field of view (z, y); slice-wise z does not count."""
    return (encoding.fov[0] if encoding.is_3d else 0.0, encoding.fov[1])
