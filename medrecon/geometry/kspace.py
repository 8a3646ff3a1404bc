"""The k-space convention, in one place: centred and orthonormal.

``F[k] = n^(-1/2) sum_j f[j] exp(-2 pi i (k - n//2)(j - n//2) / n)`` along every axis: the sample
at index ``n // 2`` is the centre of k-space, the voxel at ``n // 2`` is the Fourier origin. The
same convention as sigpy, mrpro and ``bart fft -u``; it holds for odd sizes too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def image_to_kspace(image: Tensor, axes: Sequence[int]) -> Tensor:
    """Transform an image: centred orthonormal FFT over ``axes``; real input becomes complex."""
    axes = tuple(axes)
    spectrum = torch.fft.fftn(torch.fft.ifftshift(image, dim=axes), dim=axes, norm="ortho")
    kspace: Tensor = torch.fft.fftshift(spectrum, dim=axes)
    return kspace


def kspace_to_image(kspace: Tensor, axes: Sequence[int]) -> Tensor:
    """Transform back: the inverse and the adjoint of :func:`image_to_kspace`."""
    axes = tuple(axes)
    signal = torch.fft.ifftn(torch.fft.ifftshift(kspace, dim=axes), dim=axes, norm="ortho")
    image: Tensor = torch.fft.fftshift(signal, dim=axes)
    return image


def crop_or_pad(x: Tensor, size: int, axis: int) -> Tensor:
    """Crop or zero-fill ``axis`` to ``size`` so that index ``n // 2`` stays the centre.

    Examples
    --------
    >>> crop_or_pad(torch.arange(6), 3, 0)
    tensor([2, 3, 4])
    >>> crop_or_pad(torch.arange(3), 6, 0)
    tensor([0, 0, 0, 1, 2, 0])
    """
    n = x.shape[axis]
    shift = n // 2 - size // 2
    x = x.movedim(axis, -1)
    if shift >= 0 and size <= n:
        x = x[..., shift : shift + size]
    else:
        x = pad(x, (-shift, size - n + shift))
    return x.movedim(-1, axis)
