"""Volumes of any orientation and pixel as slices in the prior's unit, by MONAI's transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Lambda,
    Orientation,
    Resize,
    ResizeWithPadOrCrop,
    ScaleIntensityRange,
)
from torch import Tensor

from medrecon.training.settings import PERCENTILE, WINDOW_HU, Data, Modality
from medrecon.volume import Volume

_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_AXIAL = "LPS"  # the indices x, y, z grow to the patient's left, back and head
_ENDS = (("L", "R"), ("P", "A"), ("I", "S"))  # of the axes of an affine in RAS


def prepare(volume: Volume, data: Data, modality: Modality) -> Tensor:
    """Return the axial slices of a volume as the prior sees them.

    Axes are reordered and flipped to the nearest axial orientation; the plane is resampled to the
    recipe's pixel (averaged where it becomes coarser), cut or padded about its middle; values are
    mapped to the prior's unit. Nothing is interpolated along z.

    Parameters
    ----------
    volume
        CT in HU, MR magnitudes in any unit.
    data
        ``size`` and ``pixel_mm`` are used.
    modality
        ``"CT"``: HU in [-1000, 1600] to [-1, 1], cut off there. ``"MR"``: the 99.5th percentile of
        the magnitude to 1.

    Returns
    -------
    Tensor
        float32 ``(z, size, size)``.
    """
    image = Orientation(axcodes=_AXIAL, labels=_ENDS)(to_monai(volume))
    steps: list[Any] = [_scaling(image, modality)]
    if data.pixel_mm is not None:
        steps += _resampling(image, data.pixel_mm)
    ready = Compose(steps)(image)
    axial = ready.as_tensor()[0].permute(2, 1, 0).to(torch.float32)
    return fit(axial, data.size, modality)


def fit(slices: Tensor, size: int, modality: Modality) -> Tensor:
    """Cut or pad slices ``(z, y, x)`` in the prior's unit about their middle, with air."""
    air = -1.0 if modality == "CT" else 0.0
    fitted: Tensor = ResizeWithPadOrCrop((size, size), value=air)(slices)
    plain = fitted.as_tensor() if isinstance(fitted, MetaTensor) else fitted
    return plain.contiguous()


def to_monai(volume: Volume) -> Any:
    """Make a MONAI image ``(1, x, y, z)`` with its affine in RAS mm, as MONAI counts."""
    affine = _RAS_LPS @ volume.grid.affine[:, [2, 1, 0, 3]]
    return MetaTensor(volume.data.permute(2, 1, 0)[None].clone(), affine=torch.from_numpy(affine))


def _scaling(image: Any, modality: Modality) -> Any:
    if modality == "CT":
        return ScaleIntensityRange(*WINDOW_HU, b_min=-1.0, b_max=1.0, clip=True)
    magnitude = image.as_tensor().abs()
    one = float(np.percentile(magnitude.numpy(), PERCENTILE)) or 1.0
    return Lambda(lambda values: values.abs() / one)


def _resampling(image: Any, pixel_mm: float) -> list[Any]:
    """Resample in plane: area averages where pixels grow, which do not alias; else linearly."""
    size = np.array(image.shape[1:3])
    spacing = np.array([float(d) for d in image.pixdim[:2]])
    wanted = np.maximum(1, np.round(size * spacing / pixel_mm)).astype(int)
    shape = (int(wanted[0]), int(wanted[1]), image.shape[3])
    if (wanted == size).all():
        return []
    mode = "area" if pixel_mm > spacing.min() else "trilinear"
    return [Resize(shape, mode=mode)]
