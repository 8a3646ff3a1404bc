"""What a generator of anatomy gives: an image, the same without lesions, and the lesions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.anatomy.lesion import Lesion
from medrecon.errors import InconsistentError


@dataclass(frozen=True)
class Phantom:
    """A stack of slices of a body that never was.

    Parameters
    ----------
    image
        ``(slices, y, x)``, real HU or complex MR.
    healthy
        The same body, texture and noise without the lesions.
    lesions
        What was put in; may be empty.
    pixel_mm, slice_mm
        Size of a pixel and distance of slices in mm.
    """

    image: Tensor
    healthy: Tensor
    lesions: tuple[Lesion, ...]
    pixel_mm: float
    slice_mm: float

    def mask(self) -> Tensor:
        """Share of each voxel that any lesion fills, ``(slices, y, x)`` in [0, 1]."""
        slices, y, x = self.image.shape
        mask = torch.zeros(slices, y, x)
        for lesion in self.lesions:
            one = lesion.mask((slices, y, x), pixel_mm=self.pixel_mm, slice_mm=self.slice_mm)
            mask = torch.maximum(mask, one)
        return mask


def check_sizes(slices: int, size: int, pixel_mm: float, slice_mm: float) -> None:
    """Refuse a stack that has no voxels.

    Raises
    ------
    InconsistentError
        If a size is not positive, or a slice has fewer than 16 pixels a side.
    """
    if slices < 1 or size < 16 or not pixel_mm > 0 or not slice_mm > 0:
        raise InconsistentError(
            f"{slices} slices of {size} pixels a side, {pixel_mm} mm wide and {slice_mm} mm apart, "
            "are no stack of anatomy; ask for at least one slice of 16 pixels and sizes above zero."
        )
