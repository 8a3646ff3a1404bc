"""How strong the noise is, read off the data where no noise scan was made."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import MRGeometry, NonCartesian
from medrecon.geometry.kspace import kspace_to_image

_SHARE = 0.1
_MAD_TO_DEVIATION = 1.482602218505602  # 1 / Phi^-1(3/4)


def estimate_noise(kspace: Tensor, mask: NDArray[np.bool_]) -> float:
    """Estimate the root of ``E|n|^2`` where the object's signal is weakest.

    Two places are looked at: the outermost tenth of the measured k-space, and, along every fully
    sampled axis, the emptiest tenth of the positions after an inverse FFT (the air beside the
    object, seen through the readout). What signal remains there makes either estimate too large,
    never too small, so the smaller one is returned. The median absolute deviation of the real and
    imaginary parts ignores the few samples that stand out.

    Parameters
    ----------
    kspace
        Centred k-space, ``(z, coils, y, x)`` or ``(coils, z, y, x)``.
    mask
        Measured samples, ``(y, x)`` or ``(z, y, x)``.

    Returns
    -------
    float
        Standard deviation per complex sample, in the unit of ``kspace``; the root mean square
        over the coils.

    Raises
    ------
    InconsistentError
        If mask and data do not fit.

    References
    ----------
    Rousseeuw and Croux, Alternatives to the median absolute deviation, JASA 88 (1993).
    """
    if tuple(kspace.shape[-mask.ndim :]) != mask.shape:
        raise InconsistentError(
            f"k-space of shape {tuple(kspace.shape)} does not fit a mask of shape {mask.shape}."
        )
    if mask.ndim == 2:  # one layout from here on: coils first, encoded axes last
        kspace = kspace.transpose(0, 1)
    estimates = [_deviation(kspace[..., torch.from_numpy(_periphery(mask))])]
    for axis in range(-mask.ndim, 0):
        lines = mask.take(0, axis=axis)
        fully_sampled = bool((mask == np.expand_dims(lines, axis)).all())
        if fully_sampled and mask.shape[axis] * _SHARE >= 1:
            positions = kspace_to_image(kspace, (axis,)).movedim(axis, 0)
            measured = positions[..., torch.from_numpy(lines.copy())]
            estimates.append(
                float(torch.tensor([_deviation(m) for m in measured]).quantile(_SHARE))
            )
    return min(estimates)


def noise_level(kspace: Tensor, geometry: MRGeometry) -> float:
    """Estimate the root of ``E|n|^2`` of any MR scan.

    Cartesian: :func:`estimate_noise`; with a pattern for each slice, the root mean square over the
    slices. Along a trajectory: from the tenth of the samples that is farthest from the centre.

    Parameters
    ----------
    kspace
        Measurements, laid out as their geometry says.
    geometry
        How they were measured.

    Raises
    ------
    InconsistentError
        If they do not fit each other.
    """
    if isinstance(geometry, NonCartesian):
        radius = torch.from_numpy(np.linalg.norm(geometry.trajectory, axis=-1))
        if kspace.shape[-2:] != radius.shape:
            raise InconsistentError(
                f"k-space of shape {tuple(kspace.shape)} does not fit a trajectory of "
                f"{tuple(radius.shape)} samples."
            )
        outer = radius >= radius.flatten().quantile(1 - _SHARE)
        data = kspace.movedim(geometry.coil_axis, 0)
        if geometry.partitions is not None:
            data = data[:, torch.from_numpy(geometry.partitions)]
        return _deviation(data[..., outer])
    if geometry.is_per_slice:
        pairs = zip(kspace, geometry.mask, strict=True)
        levels = [estimate_noise(one[None], mask) for one, mask in pairs]
        return float(np.sqrt(np.mean(np.square(levels))))
    return estimate_noise(kspace, geometry.mask)


def _periphery(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Outermost tenth of the measured samples."""
    axes = np.meshgrid(*((np.arange(n) - n // 2) / n for n in mask.shape), indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    outer: NDArray[np.bool_] = mask & (radius >= np.quantile(radius[mask], 1 - _SHARE))
    return outer


def _deviation(samples: Tensor) -> float:
    """Robust root of ``E|n|^2`` of complex ``(coils, ...)``, root mean square over the coils."""
    parts = torch.view_as_real(samples.resolve_conj()).abs().double().flatten(1)
    return float(_MAD_TO_DEVIATION * (2 * parts.median(dim=1).values.square().mean()).sqrt())
