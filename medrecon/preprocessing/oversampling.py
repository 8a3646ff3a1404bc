"""Readout oversampling taken off: the field of view is cropped in the image, the voxel stays.

A receiver samples the readout faster than the image needs, because it costs no time; what lies
beyond the wanted field of view is air, or anatomy that nobody asked for. The crop is made after an
inverse FFT along the readout, so the voxel's size, the resolution and the noise per k-space sample
stay as they were. Cropping k-space instead would lower the resolution and keep the field of view.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import crop_or_pad, image_to_kspace, kspace_to_image


def kept_size(size: int, fov: float, kept_fov: float) -> int:
    """Count the samples that are left of ``size`` when the field of view shrinks to ``kept_fov``.

    Parameters
    ----------
    size
        Samples of the oversampled readout.
    fov, kept_fov
        Its field of view and the wanted one, the same unit. A larger wanted field of view changes
        nothing: there are no measurements of it.

    Returns
    -------
    int
        Between 1 and ``size``, the nearest to ``size * kept_fov / fov``.

    Examples
    --------
    >>> kept_size(640, 480.0, 240.0)
    320
    >>> kept_size(320, 240.0, 300.0)
    320
    """
    return max(1, min(size, round(size * kept_fov / fov)))


def remove_oversampling(kspace: Tensor, kept: int, axis: int = -1) -> Tensor:
    """Crop the field of view along one axis of centred k-space.

    Parameters
    ----------
    kspace
        Complex, any layout; worked on piece by piece along its first axis, to save memory.
    kept
        Samples to keep, at most as many as there are.
    axis
        The readout.

    Returns
    -------
    Tensor
        k-space of the cropped image: white noise keeps its variance per sample.

    Raises
    ------
    InconsistentError
        If more samples are to be kept than there are.
    """
    size = kspace.shape[axis]
    if not 1 <= kept <= size:
        raise InconsistentError(f"A readout of {size} samples cannot be cropped to {kept}.")
    if kept == size:
        return kspace
    axis = axis % kspace.ndim
    if axis == 0:
        return _crop(kspace, kept, 0)
    shape = [*kspace.shape]
    shape[axis] = kept
    result = torch.empty(shape, dtype=kspace.dtype, device=kspace.device)
    for piece, target in zip(kspace, result, strict=True):
        target.copy_(_crop(piece, kept, axis - 1))
    return result


def kept_samples(samples: NDArray[np.int32], kept: int) -> NDArray[np.int32]:
    """How often the samples of the cropped readout were measured.

    The crop spreads its samples over the same stretch of k-space; one counts as measured where
    the sample at its place (or just before) was. An incomplete echo so stays incomplete by the
    same share.

    Parameters
    ----------
    samples
        How often each sample was measured, readout last.
    kept
        Samples after the crop.
    """
    size = samples.shape[-1]
    if kept == size:
        return samples
    place = size // 2 + (np.arange(kept) - kept // 2) * (size / kept)
    return samples[..., np.clip(np.floor(place + 1e-9).astype(np.intp), 0, size - 1)]


def _crop(kspace: Tensor, kept: int, axis: int) -> Tensor:
    return image_to_kspace(crop_or_pad(kspace_to_image(kspace, (axis,)), kept, axis), (axis,))
