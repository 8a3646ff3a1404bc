"""Coil maps as the local principal direction of coil images: adaptive combination.

References
----------
Walsh, Gmitro and Marcellin, Adaptive reconstruction of phased array MR imagery, Magn Reson Med 43
(2000), doi:10.1002/(SICI)1522-2594(200005)43:5<682::AID-MRM10>3.0.CO;2-G.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d, pad

from medrecon.calibration.eigenvectors import eigenvectors, lower_triangle

_BLOCK = 5  # voxels; of images at full resolution
_CHUNK = 1 << 23  # complex numbers of the covariances held at once


def walsh(images: Tensor, *, block: int = _BLOCK) -> tuple[Tensor, Tensor]:
    """Leading eigenvector of the coils' covariance in a block around every voxel.

    Parameters
    ----------
    images
        Complex, ``(coils, y, x)`` or ``(coils, z, y, x)``.
    block
        Width of the neighbourhood in voxels, odd.

    Returns
    -------
    maps : Tensor
        Shape of ``images``, of unit norm over the coils, each with an arbitrary phase.
    share : Tensor
        Real, without the coils: share of the local energy that the maps explain; 0 where there is
        none.
    """
    if images.ndim == 3:
        maps, share = walsh(images[:, None], block=block)
        return maps[:, 0], share[0]
    pairs = len(images) * (len(images) + 1) // 2
    planes = max(1, _CHUNK // (pairs * images[0, 0].numel()))
    deep = images.shape[1]
    parts = [_slab(images, slice(a, min(a + planes, deep)), block) for a in range(0, deep, planes)]
    return torch.cat([m for m, _ in parts], dim=1), torch.cat([s for _, s in parts])


def adaptive_combine(images: Tensor, axis: int) -> Tensor:
    """Combine coil images without maps, by their local principal direction.

    ``v(q)^H y(q)`` with the unit eigenvector ``v`` of the coils' covariance around ``q``, in the
    phase in which one fixed combination of the coils is real. Where one coil sensitivity rules,
    that is the image times the root sum of squares of the sensitivities, with less noise than
    :func:`medrecon.calibration.coils.rss`.

    Parameters
    ----------
    images
        Complex, ``(z, coils, y, x)`` with ``axis`` 1: neighbourhoods lie in the slice;
        ``(coils, z, y, x)`` or ``(coils, y, x)`` with ``axis`` 0: in all other axes.

    Returns
    -------
    Tensor
        Complex, without the coil axis.
    """
    if images.ndim == 4 and axis % images.ndim == 1:
        stack = images.transpose(0, 1)
        reference = principal_direction(stack)
        return torch.stack([_combine(image, reference) for image in images])
    return _combine(images, principal_direction(images))


def principal_direction(data: Tensor) -> Tensor:
    """Weights ``(coils,)`` of the strongest virtual coil of ``(coils, ...)``.

    The leading eigenvector of the coils' covariance. Referring phases to a combination rather
    than to one coil avoids the phase jumps where that coil sees nothing.

    References
    ----------
    Buehrer et al., Array compression for MRI with large coil arrays, Magn Reson Med 57 (2007).
    """
    flat = data.flatten(1).to(torch.complex128)
    vectors: Tensor = torch.linalg.eigh(flat @ flat.mH).eigenvectors
    return vectors[:, -1].to(data.dtype)


def refer_phase(maps: Tensor, reference: Tensor) -> Tensor:
    """Turn maps ``(coils, ...)`` so that the reference's virtual coil is real and positive."""
    seen = torch.tensordot(reference.conj(), maps, dims=1)
    phase = torch.where(seen == 0, 1, torch.sgn(seen))
    return maps * phase.conj()


def _combine(images: Tensor, reference: Tensor) -> Tensor:
    maps = refer_phase(walsh(images)[0], reference)
    return (maps.conj() * images).sum(dim=0)


def _slab(images: Tensor, planes: slice, block: int) -> tuple[Tensor, Tensor]:
    """Find the maps of some planes ``(coils, planes, y, x)``, from a slab with a margin."""
    coils, deep, height, width = images.shape
    reach = block // 2
    low, high = max(planes.start - reach, 0), min(planes.stop + reach, deep)
    y = images[:, low:high]
    a, b = lower_triangle(coils)
    products = y[a] * y[b].conj()
    inside = slice(planes.start - low, planes.stop - low)
    smooth = torch.stack([_box(part, block) for part in (products.real, products.imag)])
    covariance = smooth[:, :, inside]  # (2, pairs, planes, y, x)
    trace = covariance[0, a == b].sum(dim=0)
    scale = trace.clamp_min(torch.finfo(trace.dtype).tiny)
    triangles = (covariance / scale).permute(2, 3, 0, 1, 4).flatten(0, 1)
    vectors, values = eigenvectors(triangles, bound=1.0)
    maps = vectors[0].reshape(coils, -1, height, width)
    share = values[0].reshape(-1, height, width)
    return maps, torch.where(trace > 0, share, 0)


def _box(x: Tensor, block: int) -> Tensor:
    """Sum, over the block's size, around every voxel of ``(pairs, z, y, x)``; zero outside."""
    reach = (block // 2,) * 2
    if x.shape[1] == 1:
        return avg_pool2d(pad(x[:, 0], reach * 2), block, 1)[:, None]
    return avg_pool3d(pad(x, reach * 3), block, 1)
