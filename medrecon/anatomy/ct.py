"""CT slices of bodies that never were, in HU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medrecon.anatomy.body import HEIGHTS, Region, paint_body, random_region
from medrecon.anatomy.canvas import Canvas, Palette
from medrecon.anatomy.couch import paint_couch
from medrecon.anatomy.dice import Dice
from medrecon.anatomy.fields import filtered_noise, grain
from medrecon.anatomy.frame import deformed_frame, plain_grid
from medrecon.anatomy.lesion import Lesion, how_many, random_lesions, with_lesions
from medrecon.anatomy.phantom import Phantom, check_sizes
from medrecon.anatomy.tissues import ENHANCEMENT, HOUNSFIELD, Tissue
from medrecon.anatomy.torso import random_torso

_CHANCES: dict[Region, float] = {
    "chest": 0.5,
    "abdomen": 0.28,
    "pelvis": 0.14,
    "head": 0.08,
}
_GRAIN = ((-1100, 0.0), (-950, 18.0), (-600, 30.0), (-150, 7.0), (120, 5.0), (300, 45.0))
"""Standard deviation of texture in HU where an image has this many HU; linear in between."""


def ct_stack(
    generator: torch.Generator,
    slices: int = 3,
    size: int = 256,
    pixel_mm: float = 1.4,
    slice_mm: float = 2.5,
    *,
    region: Region | None = None,
) -> Tensor:
    """Random axial CT slices of one body, consistent in z.

    Parameters
    ----------
    generator
        Source of randomness, on the CPU.
    slices
        Number of slices, from the feet to the head.
    size
        Pixels a side.
    pixel_mm, slice_mm
        Size of a pixel and distance of slices in mm.
    region
        Part of the body; absent for a random one, half of them chests.

    Returns
    -------
    Tensor
        ``(slices, y, x)`` in HU, y to the back and x to the patient's left.

    Raises
    ------
    InconsistentError
        If a size is not positive.

    Examples
    --------
    >>> stack = ct_stack(torch.Generator().manual_seed(1), slices=2, size=64, pixel_mm=5.6)
    >>> stack.shape
    torch.Size([2, 64, 64])
    """
    return ct_phantom(generator, slices, size, pixel_mm, slice_mm, region=region).image


def ct_phantom(
    generator: torch.Generator,
    slices: int = 3,
    size: int = 256,
    pixel_mm: float = 1.4,
    slice_mm: float = 2.5,
    *,
    region: Region | None = None,
    lesions: int | None = None,
) -> Phantom:
    """Random CT slices with the lesions in them known; parameters as in :func:`ct_stack`.

    Parameters
    ----------
    generator, slices, size, pixel_mm, slice_mm, region
        See :func:`ct_stack`.
    lesions
        How many are tried (one falls away where its organ is not in the stack); absent for a
        random number, none in half of all bodies.

    Returns
    -------
    Phantom
        The stack with and without lesions.

    Raises
    ------
    InconsistentError
        If a size is not positive.
    """
    check_sizes(slices, size, pixel_mm, slice_mm)
    dice = Dice(generator)
    part = region or random_region(dice, _CHANCES)
    torso = random_torso(dice)
    shape = (slices, size, size)
    low, high = HEIGHTS[part]
    shift = dice.normal(0, 12), dice.normal(0, 9)
    frame = deformed_frame(
        generator,
        shape,
        pixel_mm,
        slice_mm,
        middle_mm=dice.uniform(low, high),
        shift_mm=shift,
        turn=dice.normal(0, 0.05),
        slow_mm=3.0 if part == "head" else 6.0,
        fine_mm=0.8 if part == "head" else 1.3,
    )
    canvas = Canvas(frame, _palette(dice), dice)
    paint_body(canvas, part, torso)
    if dice.chance(0.75):
        depth = 95.0 if part == "head" else torso.half_depth
        below = shift[0] + depth + dice.uniform(-4, 14)
        paint_couch(canvas, plain_grid(shape, pixel_mm, slice_mm), below)
    found = _lesions(canvas, lesions, slice_mm)
    return _finished(canvas, found, slice_mm, 0.4 if part == "head" else 1.0)


def _palette(dice: Dice) -> Palette:
    """CT numbers of one patient, with or without contrast agent."""
    agent = dice.uniform(0.4, 1.1) if dice.chance(0.6) else 0.0
    phase = dice.uniform()
    values = {t: dice.normal(mean, spread) for t, (mean, spread) in HOUNSFIELD.items()}
    for tissue, (arterial, venous) in ENHANCEMENT.items():
        values[tissue] += agent * ((1 - phase) * arterial + phase * venous)
    return values.__getitem__


def _lesions(canvas: Canvas, wanted: int | None, slice_mm: float) -> tuple[Lesion, ...]:
    dice = canvas.dice

    def contrast(tissue: Tissue) -> float:
        """HU: brighter or darker; in a lung solid or ground glass."""
        added = dice.uniform(15, 70) * (1 if dice.chance(0.4) else -1)
        if tissue == Tissue.LUNG:
            added = 890.0 if dice.chance(0.7) else dice.uniform(200, 600)
        return added

    count = how_many(dice, wanted, 4)
    return random_lesions(canvas, canvas.sites, count, contrast, slice_mm)


def _finished(canvas: Canvas, lesions: tuple[Lesion, ...], slice_mm: float, dose: float) -> Phantom:
    """Add texture, the scanner's blur and its noise; those are the same with every lesion."""
    dice, shape, pixel = canvas.dice, canvas.frame.shape, canvas.frame.pixel_mm
    generator = dice.generator
    bare = canvas.image
    texture = grain(generator, shape, fine_mm=1.2, pixel_mm=pixel, slice_mm=slice_mm)
    texture = texture * _by_value(bare) * dice.uniform(0.4, 1.3)
    noise = filtered_noise(generator, shape, finest=dice.uniform(0.35, 0.7))
    noise = noise * dice.uniform(2, 18) * (1 + 0.5 * (bare > -500)) * dose

    blur = dice.uniform(0.3, 0.65)
    healthy = _blurred(bare + texture, blur) + noise
    image = healthy
    if lesions:
        filled = with_lesions(bare, lesions, pixel_mm=pixel, slice_mm=slice_mm)
        # a nodule on a vessel is no denser than either
        filled = torch.where((bare < 0) & (filled > 100), torch.full_like(filled, 100.0), filled)
        image = healthy + _blurred(filled - bare, blur)
    return Phantom(image.clamp_min(-1024), healthy.clamp_min(-1024), lesions, pixel, slice_mm)


def _by_value(image: Tensor) -> Tensor:
    """Strength of texture, piecewise linear in HU."""
    at = torch.tensor([point[0] for point in _GRAIN], dtype=image.dtype)
    strength = torch.tensor([point[1] for point in _GRAIN])
    index = torch.bucketize(image, at).clamp(1, len(_GRAIN) - 1)
    share = ((image - at[index - 1]) / (at[index] - at[index - 1])).clamp(0, 1)
    return strength[index - 1] + share * (strength[index] - strength[index - 1])


def _blurred(image: Tensor, pixels: float) -> Tensor:
    """Gaussian point spread in the plane."""
    taps = torch.exp(-0.5 * (torch.arange(-2, 3) / pixels).square())
    taps = taps / taps.sum()
    padded = functional.pad(image[:, None], (2, 2, 2, 2), mode="replicate")
    rows = functional.conv2d(padded, taps.view(1, 1, 5, 1))
    return functional.conv2d(rows, taps.view(1, 1, 1, 5))[:, 0]
