"""Coil sensitivity maps, and images combined with and without them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.calibration.espirit import espirit
from medrecon.calibration.noise import estimate_noise
from medrecon.calibration.region import Box, calibration_region
from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import kspace_to_image


def estimate_maps(
    kspace: Tensor,
    mask: NDArray[np.bool_],
    *,
    calibration_lines: int = 24,
    kernel: int = 6,
    noise_std: float | None = None,
    crop: float = 0.0,
) -> Tensor:
    """Estimate coil maps by ESPIRiT from the fully sampled middle of k-space.

    Slice-wise data are calibrated slice by slice. 3D data are first transformed along their best
    sampled axis and then calibrated plane by plane. The maps have unit root-sum-of-squares at
    every voxel and the phase in which one fixed combination of the coils is real: the same for
    all slices, so that the image's phase stays smooth along z.

    Parameters
    ----------
    kspace
        Centred, complex, ``(z, coils, y, x)`` or ``(coils, z, y, x)``.
    mask
        Measured samples, ``(y, x)`` for the first layout, ``(z, y, x)`` for the second.
    calibration_lines
        Use at most so many lines around the centre along every axis.
    kernel
        Width of ESPIRiT's neighbourhoods in samples.
    noise_std
        Root of ``E|n|^2`` per sample, 1 for prewhitened data; ``None``: estimated from the
        periphery of k-space.
    crop
        Set maps to zero where ESPIRiT's eigenvalue is below; 0 keeps them everywhere, so that no
        hole can open inside the object.

    Returns
    -------
    Tensor
        Complex, shape of ``kspace``.

    Raises
    ------
    InconsistentError
        If the mask does not fit, the fully sampled middle is too small, or holds no signal.

    References
    ----------
    Uecker et al., Magn Reson Med 71 (2014), doi:10.1002/mrm.24751.
    """
    if kspace.ndim != 4 or tuple(kspace.shape[-mask.ndim :]) != mask.shape:
        raise InconsistentError(
            f"k-space of shape {tuple(kspace.shape)} does not fit a mask of shape {mask.shape}."
        )
    std = estimate_noise(kspace, mask) if noise_std is None else noise_std
    box = calibration_region(mask)
    if mask.ndim == 2:
        box = tuple(_middle(s, n, calibration_lines) for s, n in zip(box, mask.shape, strict=True))
        planes = kspace[(slice(None), slice(None), *box)]
        _check_size(box, mask, kernel)
        return _plane_maps(planes, mask.shape, kernel, std, crop)
    axis = _best_sampled(box, mask.shape)
    others = [i for i in range(3) if i != axis]
    box = tuple(
        s if i == axis else _middle(s, n, calibration_lines)
        for i, (s, n) in enumerate(zip(box, mask.shape, strict=True))
    )
    _check_size(tuple(box[i] for i in others), mask, kernel)
    planes = _hybrid(kspace, box, axis)
    shape = (mask.shape[others[0]], mask.shape[others[1]])
    maps = _plane_maps(planes, shape, kernel, std, crop)
    return maps.transpose(0, 1).movedim(1, axis + 1).contiguous()


def coil_combine(images: Tensor, maps: Tensor, axis: int) -> Tensor:
    """Combine coil images with known maps: ``sum_c conj(s_c) y_c / sum_c |s_c|^2``.

    Parameters
    ----------
    images, maps
        Complex, the same layout, coils along ``axis``.

    Returns
    -------
    Tensor
        Complex, without the coil axis; 0 where all maps are 0.
    """
    power = maps.abs().square().sum(dim=axis)
    combined = (maps.conj() * images).sum(dim=axis)
    return torch.where(power > 0, combined / power.clamp_min(1e-30), 0)


def rss(images: Tensor, axis: int) -> Tensor:
    """Root of the sum of squares over the coils along ``axis``; real."""
    norm: Tensor = torch.linalg.vector_norm(images, dim=axis)
    return norm


def _plane_maps(
    planes: Tensor, shape: tuple[int, ...], kernel: int, noise_std: float, crop: float
) -> Tensor:
    """Map planes one by one: ``(planes, coils, h, w)`` to ``(planes, coils, *shape)``."""
    if not bool(planes.abs().sum() > 0):
        raise InconsistentError("The middle of k-space is all zero: no coil map can be estimated.")
    reference = _reference(planes)
    out = planes.new_empty(*planes.shape[:2], *shape)
    for i, plane in enumerate(planes):
        # a plane of pure zeros (outside a 3D slab) has no direction; any map will do
        given = plane if bool(plane.abs().sum() > 0) else planes.sum(dim=0)
        maps, eigenvalue = espirit(given, (shape[0], shape[1]), kernel=kernel, noise_std=noise_std)
        phase = torch.tensordot(reference.conj(), maps, dims=1)
        phase = phase / phase.abs().clamp_min(torch.finfo(phase.abs().dtype).tiny)
        out[i] = maps * phase.conj() * (eigenvalue >= crop)
    return out


def _reference(planes: Tensor) -> Tensor:
    """Weights of the strongest virtual coil: leading eigenvector of the coils' covariance.

    Referring phases to a combination rather than to one coil avoids the phase jumps where that
    coil sees nothing.
    """
    data = planes.transpose(0, 1).flatten(1).to(torch.complex128)
    vectors: Tensor = torch.linalg.eigh(data @ data.mH).eigenvectors
    return vectors[:, -1].to(planes.dtype)


def _middle(region: slice, n: int, lines: int) -> slice:
    """At most ``lines`` of a region, nearest to ``n // 2``."""
    start = max(region.start, n // 2 - lines // 2)
    stop = min(region.stop, start + lines)
    return slice(max(region.start, stop - lines), stop)


def _best_sampled(box: Box, shape: tuple[int, ...]) -> int:
    """Axis with the largest share inside the box; the last one of equals (the readout)."""
    return max(range(len(shape)), key=lambda i: ((box[i].stop - box[i].start) / shape[i], i))


def _hybrid(kspace: Tensor, box: Box, axis: int) -> Tensor:
    """Calibration data as planes: inverse FFT along ``axis``; ``(planes, coils, h, w)``."""
    n = kspace.shape[axis + 1]
    lines = kspace[(slice(None), *box)].movedim(axis + 1, -1)
    count = lines.shape[-1]
    if count < n:  # a taper keeps the truncation from ringing into neighbouring planes
        lines = lines * torch.hann_window(count + 2, periodic=False)[1:-1].to(lines.real.dtype)
    full = lines.new_zeros(*lines.shape[:-1], n)
    full[..., box[axis]] = lines
    return kspace_to_image(full, (-1,)).movedim(-1, 0)


def _check_size(box: Box, mask: NDArray[np.bool_], kernel: int) -> None:
    found = min(s.stop - s.start for s in box)
    if found < kernel + 2:
        raise InconsistentError(
            f"Coil maps need at least {kernel + 2} fully sampled lines around the centre of "
            f"k-space, found {found} in a mask of shape {mask.shape}; measure calibration lines."
        )
