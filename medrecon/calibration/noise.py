"""How strong the noise is, read off the data where no noise scan was made."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import MRGeometry, NonCartesian
from medrecon.geometry.kspace import kspace_to_image

_SHARE = 0.1
_BANDS = 32  # of positions along an axis
_NO_SIGNAL = 1.15  # air: all lines over the outermost ones at most
_UNEVEN = 1.5  # strong over weak air
_MAD_TO_DEVIATION = 1.482602218505602  # 1 / Phi^-1(3/4)


def estimate_noise(kspace: Tensor, mask: NDArray[np.bool_]) -> float:
    """Estimate the root of ``E|n|^2`` where the object's signal is weakest.

    Two places are looked at: the outermost tenth of the measured k-space, where what signal remains
    makes the estimate too large, and the air beside the object, seen through every fully sampled
    axis. The smaller one is returned. Air is where the lines of k-space are no stronger in the
    middle than at the edge. It does not count where it is uneven: without oversampling the
    receiver's filter damps the edges of the field of view, and their noise is less than half of
    that in the object. The median absolute deviation of the real and imaginary parts ignores the
    few samples that stand out.

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
        lines = np.asarray(mask.take(0, axis=axis))
        fully_sampled = bool((mask == np.expand_dims(lines, axis)).all())
        if fully_sampled and mask.shape[axis] >= _BANDS:
            positions = kspace_to_image(kspace, (axis,)).movedim(axis, 0)
            estimates.append(_of_air(positions, lines))
    return min(estimates)


def _of_air(positions: Tensor, lines: NDArray[np.bool_]) -> float:
    """Deviation in the air along an axis; infinite where there is none.

    ``positions`` is ``(positions, coils, ..., *lines)``.
    """
    whole = torch.tensor_split(positions[..., torch.from_numpy(lines.copy())], _BANDS)
    outer = torch.tensor_split(positions[..., torch.from_numpy(_periphery(lines))], _BANDS)
    pairs = [
        (_deviation(a.movedim(0, -1)), _deviation(b.movedim(0, -1)))
        for a, b in zip(whole, outer, strict=True)
    ]
    air = [level for level, edge in pairs if level <= _NO_SIGNAL * edge]
    if not air or np.quantile(air, 0.9) > _UNEVEN * np.quantile(air, 0.1):
        return math.inf
    return float(np.median(air))


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
        outer = radius >= float(np.quantile(radius.numpy(), 1 - _SHARE))
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
