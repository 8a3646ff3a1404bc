"""Partial Fourier: k-space that was left out on one side, filled by its conjugate symmetry.

The spectrum of a real image is conjugate symmetric, so half of it would do. Images are not real,
but their phase is smooth and therefore known from the middle of k-space, which *is* measured on
both sides. Two ways to use it:

* homodyne detection: the measured side counts twice, the phase is taken off, and the real part
  stays. One step, and the noise of measured samples changes.
* projections onto convex sets (POCS): images of that phase and images of the measured samples, in
  turns. Measured samples stay as they are.

Both work coil by coil on data that have no gaps next to the missing side. Undersampled coil images
are folded, and the phase of a fold is not smooth: fill the gaps first (GRAPPA), or leave the
missing side to the reconstruction.

References
----------
Noll, Nishimura, Macovski, Homodyne detection in magnetic resonance imaging, IEEE Trans Med Imaging
10 (1991), doi:10.1109/42.79473.
Haacke, Lindskog, Lin, A fast, iterative, partial-Fourier technique capable of local phase recovery,
J Magn Reson 92 (1991), doi:10.1016/0022-2364(91)90253-P.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image
from medrecon.preprocessing.partial_fourier_mask import (
    Band,
    Mask,
    as_bool,
    bands_of,
    filled_mask,
    partial_fourier_axis,
    require_whole_lines,
)

__all__ = ["filled_mask", "homodyne", "partial_fourier_axis", "pocs", "zero_fill"]


def zero_fill(kspace: Tensor, mask: Mask, axes: Sequence[int], *, transition: int = 0) -> Tensor:
    """Leave what is missing at zero, with a soft edge if wanted.

    Parameters
    ----------
    kspace
        Complex, centred.
    mask
        Boolean, broadcasts to ``kspace``.
    axes
        The encoded axes of ``kspace``.
    transition
        Samples over which measured k-space is faded out (a Hann flank) at the side that is
        missing, against ringing; it costs resolution.

    Returns
    -------
    Tensor
        k-space of the same shape.

    Raises
    ------
    InconsistentError
        If the mask does not fit.
    """
    known, axes = _fitted(kspace, mask, axes)
    filled = kspace * known.to(kspace.device)
    for band in bands_of(known, axes) if transition > 0 else ():
        n = kspace.shape[band.axis]
        depth = (band.distance(n) + band.near + 0.5).clamp(0, transition) / transition
        filled = filled * _along(torch.sin(0.5 * torch.pi * depth) ** 2, band.axis, kspace)
    return filled


def homodyne(kspace: Tensor, mask: Mask, axes: Sequence[int]) -> Tensor:
    """Fill one missing side by homodyne detection.

    The measured side counts twice and the missing one not at all, with a smooth step between that
    leaves the inner half of the symmetric middle as it is; a sample and its mirror add up to 2. The
    real part after the phase of the middle is taken off is the image. Where several axes are
    partial, the one with the smallest share is filled. A linear ramp through the centre would shade
    images whose phase is steep: where it moves the centre of k-space, signal would count more or
    less than once.

    Parameters
    ----------
    kspace
        Complex, centred; any axes that are not encoded are images of their own (coils, slices).
    mask
        Boolean, broadcasts to ``kspace``.
    axes
        The encoded axes of ``kspace``.

    Returns
    -------
    Tensor
        k-space of the same shape; unchanged where no side is missing. The measured samples
        differ from those given by as much as image and phase do not fit each other.

    Raises
    ------
    InconsistentError
        If the mask does not fit, has gaps beside the missing side, or too little was measured on
        the short side of the centre.
    """
    known, axes = _fitted(kspace, mask, axes)
    bands = bands_of(known, axes)
    if not bands:
        return zero_fill(kspace, known, axes)
    require_whole_lines(known, bands[:1])
    band = bands[0]
    distance = band.distance(kspace.shape[band.axis])
    step = _step(distance.abs() / (band.near + 1))
    ramp = 1 + distance.sign() * step
    if len(ramp) % 2 == 0:
        ramp[0] = ramp[0].clamp(max=1)  # its own mirror: the period of the transform is even

    def detect(y: Tensor, known: Tensor) -> Tensor:
        phase = _phase(y * known, bands[:1], axes)
        image = kspace_to_image(y * known * _along(ramp, band.axis, y), axes)
        return image_to_kspace((image * phase.conj()).real * phase, axes)

    return _one_by_one(detect, kspace, known, axes)


def pocs(kspace: Tensor, mask: Mask, axes: Sequence[int], *, iterations: int = 20) -> Tensor:
    """Fill missing sides by projections onto convex sets.

    In turns, the image is projected onto those of the phase of the symmetric middle (either sign,
    so that noise is not made positive) and its k-space onto those with the measured samples. For
    an image of exactly that phase the error halves with every iteration. Index 0 of an even axis
    has no mirror but itself and stays at zero where it was not measured.

    Parameters
    ----------
    kspace
        Complex, centred; any axes that are not encoded are images of their own (coils, slices).
    mask
        Boolean, broadcasts to ``kspace``.
    axes
        The encoded axes of ``kspace``; several of them may be partial.
    iterations
        Number of projections.

    Returns
    -------
    Tensor
        k-space of the same shape, with all measured samples as they were.

    Raises
    ------
    InconsistentError
        As :func:`homodyne`.
    """
    known, axes = _fitted(kspace, mask, axes)
    bands = bands_of(known, axes)
    if not bands:
        return zero_fill(kspace, known, axes)
    require_whole_lines(known, bands)

    def project(y: Tensor, known: Tensor) -> Tensor:
        measured = y * known
        phase = _phase(measured, bands, axes)
        filled = measured
        for _ in range(iterations):
            image = kspace_to_image(filled, axes)
            image = (image * phase.conj()).real * phase
            filled = torch.where(known, measured, image_to_kspace(image, axes))
        return filled

    return _one_by_one(project, kspace, known, axes)


def _fitted(kspace: Tensor, mask: Mask, axes: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    known = as_bool(mask)
    try:
        known = known.expand(kspace.shape)
        negative = tuple(sorted({axis % kspace.ndim - kspace.ndim for axis in axes}))
    except RuntimeError as error:
        raise InconsistentError(
            f"A mask of shape {tuple(known.shape)} does not fit k-space of shape "
            f"{tuple(kspace.shape)}."
        ) from error
    return known, negative


def _along(values: Tensor, axis: int, like: Tensor) -> Tensor:
    """Shape ``values`` of one axis so that they can be multiplied with ``like``."""
    return values.to(like.device, like.real.dtype).reshape(-1, *[1] * (-axis - 1))


def _step(distance: Tensor) -> Tensor:
    """Rise from 0 at half of the symmetric middle (0.5) to 1 at its edge (1), a Hann flank."""
    return torch.sin(0.5 * torch.pi * (2 * distance - 1).clamp(0, 1)) ** 2


def _phase(measured: Tensor, bands: Sequence[Band], axes: tuple[int, ...]) -> Tensor:
    """Give ``exp(i phase)`` of the image whose k-space is the symmetric middle, tapered."""
    for band in bands:
        distance = band.distance(measured.shape[band.axis]).abs() / (band.near + 1)
        measured = measured * _along(1 - _step(distance), band.axis, measured)
    image = kspace_to_image(measured, axes)
    size = image.abs()
    return torch.where(size > 0, image / size.clamp_min(torch.finfo(size.dtype).tiny), 1)


def _one_by_one(
    fill: Callable[[Tensor, Tensor], Tensor], kspace: Tensor, known: Tensor, axes: tuple[int, ...]
) -> Tensor:
    """Work through the leading axis (coils or slices) one by one, to need little memory."""
    known = known.to(kspace.device)
    if -kspace.ndim in axes:
        return fill(kspace, known)
    out = torch.empty_like(kspace)
    for i in range(len(kspace)):
        out[i] = fill(kspace[i], known[i])
    return out
