"""Calibration data as planes: what every method that estimates maps in 2D starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.calibration.region import Box, calibration_region, check_lines, middle
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image


@dataclass(frozen=True)
class Planes:
    """Fully sampled middles of k-space, one for every plane of the maps.

    Parameters
    ----------
    data
        Complex, ``(coils, h, w)`` each; sizes may differ between the slices of a scan.
    axis
        The axis of the maps ``(z, y, x)`` that counts the planes: 0 slice-wise.
    noise
        Deviation of the planes' noise over that of the measurements'.
    """

    data: tuple[Tensor, ...]
    axis: int = 0
    noise: float = 1.0


def slice_planes(kspace: Tensor, geometry: Cartesian, *, lines: int, kernel: int) -> Planes:
    """Take the middle of every slice of ``(z, coils, y, x)``.

    Raises
    ------
    InconsistentError
        If there are fewer than ``kernel + 2`` lines.
    """
    masks = geometry.mask if geometry.is_per_slice else geometry.mask[None]
    boxes = [_plane_box(mask, lines, kernel) for mask in masks]
    boxes = boxes if len(boxes) > 1 else boxes * len(kspace)
    return Planes(tuple(k[(slice(None), *box)] for k, box in zip(kspace, boxes, strict=True)))


def volume_planes(kspace: Tensor, mask: NDArray[np.bool_], *, lines: int, kernel: int) -> Planes:
    """Transform the middle of ``(coils, z, y, x)`` along its best sampled axis, the readout.

    An axis of which only a part is sampled is tapered, lest its truncation rings into
    neighbouring planes.

    Raises
    ------
    InconsistentError
        If there are fewer than ``kernel + 2`` lines along the other axes.
    """
    box = calibration_region(mask)
    sizes = [s.stop - s.start for s in box]
    axis = max(range(3), key=lambda i: (sizes[i] / mask.shape[i], i))
    box = tuple(
        s if i == axis else middle(s, n, lines)
        for i, (s, n) in enumerate(zip(box, mask.shape, strict=True))
    )
    _check(tuple(s for i, s in enumerate(box) if i != axis), kernel, mask.shape)
    n = mask.shape[axis]
    window = taper(sizes[axis], n)
    part = kspace[(slice(None), *box)].movedim(axis + 1, -1)
    full = part.new_zeros(*part.shape[:-1], n)
    full[..., box[axis]] = part * window.to(part)
    planes = kspace_to_image(full, (-1,)).movedim(-1, 0).contiguous()
    return Planes(tuple(planes), axis, math.sqrt(float(window.square().sum()) / n))


def measured(calibration: Tensor, coil_axis: int) -> Cartesian:
    """Where a separate calibration scan, zero elsewhere, was measured in any slice.

    Raises
    ------
    InconsistentError
        If it is all zero.
    """
    mask = (calibration != 0).any(dim=coil_axis)
    if coil_axis == 1:
        mask = mask.any(dim=0)
    if not bool(mask.any()):
        raise InconsistentError("The calibration scan is all zero: no coil map can be estimated.")
    return Cartesian(mask=mask.cpu().numpy())


def low_resolution(plane: Tensor, shape: tuple[int, int]) -> tuple[Tensor, float]:
    """Coil images ``(coils, *shape)`` of a plane's few lines, tapered against ringing.

    Returns
    -------
    images : Tensor
        Complex.
    gain : float
        Variance of the images' noise over that of the plane's.
    """
    h, w = plane.shape[-2:]
    window = torch.outer(taper(h, shape[0]), taper(w, shape[1]))
    full = plane.new_zeros(len(plane), *shape)
    y, x = shape[0] // 2 - h // 2, shape[1] // 2 - w // 2
    full[:, y : y + h, x : x + w] = plane * window.to(plane)
    return kspace_to_image(full, (-2, -1)), float(window.square().sum()) / math.prod(shape)


def taper(count: int, size: int) -> Tensor:
    """Hann window of ``count`` lines without its zeros; ones where all of an axis is sampled."""
    if count >= size:
        return torch.ones(count, dtype=torch.float64)
    return torch.hann_window(count + 2, periodic=False, dtype=torch.float64)[1:-1]


def _plane_box(mask: NDArray[np.bool_], lines: int, kernel: int) -> Box:
    region = calibration_region(mask)
    box = tuple(middle(s, n, lines) for s, n in zip(region, mask.shape, strict=True))
    _check(box, kernel, mask.shape)
    return box


def _check(box: Box, kernel: int, shape: tuple[int, ...]) -> None:
    found = min(s.stop - s.start for s in box)
    check_lines(found, kernel, f"in a mask of shape {shape}")
