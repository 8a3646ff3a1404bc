"""Images on which a foreign network is tried: known phantoms, or slices of the user's."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from medrecon.anatomy.ct import ct_stack
from medrecon.anatomy.mr import mr_stack
from medrecon.errors import InconsistentError
from medrecon.io.read import read_image
from medrecon.priors.card import Intensity

_FIELD_MM = 358.0
"""Width of a phantom's slice: a chest of 256 pixels of 1.4 mm."""


def phantom(intensity: Intensity, slices: int, size: int) -> Tensor:
    """Draw slices of a body in the prior's unit, the same every time; (z, y, x).

    Parameters
    ----------
    intensity
        CT with its window of HU, or MR.
    slices, size
        Their number; pixels a side.
    """
    generator = torch.Generator().manual_seed(20)
    if intensity.window_hu is None:
        return mr_stack(generator, slices, size)
    pixel_mm = _FIELD_MM / size
    stack = ct_stack(generator, slices, size, pixel_mm, slice_mm=20.0, region="chest")
    return to_unit(stack, intensity)


def slices_of(path: Path, intensity: Intensity, count: int) -> Tensor:
    """Take slices from the middle half of an image, in the prior's unit; (z, y, x).

    Raises
    ------
    MedreconError
        If the image cannot be read.
    InconsistentError
        If it is not what the prior is of.
    """
    image, _ = read_image(path)
    data = image.data
    if (intensity.window_hu is not None) != (image.unit.name == "HU"):
        raise InconsistentError(f"{path.name} is no image of the modality of the prior.")
    quarter = len(data) // 4
    index = torch.linspace(quarter, len(data) - 1 - quarter, min(count, len(data))).round().long()
    return to_unit(data[index], intensity)


def to_unit(data: Tensor, intensity: Intensity) -> Tensor:
    """Scale HU of the window to [-1, 1], MR to a magnitude of 1 at the percentile."""
    if intensity.window_hu is not None:
        low, high = intensity.window_hu
        return 2 * (data.clamp(low, high) - low) / (high - low) - 1
    values = data.abs().flatten().double()
    share = (intensity.percentile or 100.0) / 100
    top = torch.quantile(values[:: max(1, len(values) // 1_000_000)], share)
    return (data / float(top)).to(torch.complex64)


def channels_of(stack: Tensor) -> Tensor:
    """Slices as a batch of images of 1 channel, or of 2 where they are complex."""
    if stack.is_complex():
        return torch.view_as_real(stack).movedim(-1, 1).contiguous()
    return stack[:, None]
