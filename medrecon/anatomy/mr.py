"""Complex MR slices of bodies that never were."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from medrecon.anatomy.body import HEIGHTS, Region, paint_body, random_region
from medrecon.anatomy.canvas import Canvas, Palette
from medrecon.anatomy.dice import Dice
from medrecon.anatomy.draw import Draw
from medrecon.anatomy.fields import bumps, grain
from medrecon.anatomy.frame import deformed_frame
from medrecon.anatomy.lesion import Lesion, how_many, random_lesions, with_lesions
from medrecon.anatomy.phantom import Phantom, check_sizes
from medrecon.anatomy.phase import detailed_phase, dipole_field, smooth_phase
from medrecon.anatomy.tissues import RELAXATION, Relaxation, Tissue
from medrecon.anatomy.torso import random_torso

_CHANCES: dict[Region, float] = {
    "head": 0.75,
    "pelvis": 0.1,
    "abdomen": 0.1,
    "chest": 0.05,
}
_FATTY = frozenset({Tissue.FAT, Tissue.MARROW})
Contrast = Callable[[Relaxation], float]


def mr_stack(
    generator: torch.Generator,
    slices: int = 3,
    size: int = 256,
    pixel_mm: float | None = None,
    slice_mm: float = 3.0,
    *,
    region: Region | None = None,
) -> Tensor:
    """Random axial MR slices of one body, complex and consistent in z.

    Magnitudes follow the equations of spin echo, gradient echo and inversion recovery with
    random times; there are a bias field, a smooth or a detailed phase, and a little noise.

    Parameters
    ----------
    generator
        Source of randomness, on the CPU.
    slices
        Number of slices, from the feet to the head.
    size
        Pixels a side.
    pixel_mm
        Size of a pixel in mm; absent for a field of view that fits: 240 mm for heads, 380 mm for
        trunks.
    slice_mm
        Distance of slices in mm.
    region
        Part of the body; absent for a random one, three in four of them heads.

    Returns
    -------
    Tensor
        Complex ``(slices, y, x)``; the magnitude's 99.5th percentile is 1.

    Raises
    ------
    InconsistentError
        If a size is not positive.

    Examples
    --------
    >>> stack = mr_stack(torch.Generator().manual_seed(1), slices=2, size=64)
    >>> stack.shape, stack.dtype
    (torch.Size([2, 64, 64]), torch.complex64)
    """
    return mr_phantom(generator, slices, size, pixel_mm, slice_mm, region=region).image


def mr_phantom(
    generator: torch.Generator,
    slices: int = 3,
    size: int = 256,
    pixel_mm: float | None = None,
    slice_mm: float = 3.0,
    *,
    region: Region | None = None,
    lesions: int | None = None,
) -> Phantom:
    """Random MR slices with the lesions in them known; parameters as in :func:`mr_stack`.

    Parameters
    ----------
    generator, slices, size, pixel_mm, slice_mm, region
        See :func:`mr_stack`.
    lesions
        How many are tried (one falls away where its organ is not in the stack); absent for a
        random number, none in half of all bodies.

    Returns
    -------
    Phantom
        The stack with and without lesions; 1 is the 99.5th percentile of the healthy one, and a
        lesion's contrast is what it adds before the bias field.

    Raises
    ------
    InconsistentError
        If a size is not positive.
    """
    check_sizes(slices, size, 1.0 if pixel_mm is None else pixel_mm, slice_mm)
    dice = Dice(generator)
    part = region or random_region(dice, _CHANCES)
    torso = random_torso(dice)
    low, high = HEIGHTS[part]
    head = part == "head"
    pixel = (240.0 if head else 380.0) / size if pixel_mm is None else pixel_mm
    frame = deformed_frame(
        generator,
        (slices, size, size),
        pixel,
        slice_mm,
        middle_mm=dice.uniform(low, high),
        shift_mm=(dice.normal(0, 8), dice.normal(0, 8)),
        turn=dice.normal(0, 0.08),
        slow_mm=3.0 if head else 6.0,
        fine_mm=0.9 if head else 1.3,
    )
    canvas = Canvas(frame, _palette(dice), dice)
    paint_body(canvas, part, torso)
    found = _lesions(canvas, lesions, slice_mm)
    return _finished(canvas, found, slice_mm)


def _palette(dice: Dice) -> Palette:
    """Signals of tissues in one scan: the brightest common one is 1."""
    contrast = _contrast(dice)
    fat = dice.uniform(0.03, 0.25) if dice.chance(0.35) else 1.0
    values = {}
    for tissue, times in RELAXATION.items():
        own = Relaxation(
            times.density * dice.uniform(0.92, 1.08),
            times.t1 * dice.uniform(0.85, 1.15),
            times.t2 * dice.uniform(0.85, 1.15),
        )
        values[tissue] = contrast(own) * (fat if tissue in _FATTY else 1.0)
    top = max(values[t] for t in (Tissue.GREY, Tissue.WHITE, Tissue.MUSCLE))
    return {t: min(v / top, 2.2) for t, v in values.items()}.__getitem__


def _contrast(dice: Dice) -> Contrast:
    """Draw a sequence: T1- or T2-weighted or intermediate spin echo, FLAIR, or gradient echo."""
    draw = dice.uniform()
    if draw < 0.3:
        return _spin_echo(dice.uniform(350, 800), dice.uniform(8, 18))
    if draw < 0.55:
        return _spin_echo(dice.uniform(3000, 6000), dice.uniform(75, 115))
    if draw < 0.65:
        return _spin_echo(dice.uniform(2000, 4000), dice.uniform(12, 40))
    if draw < 0.85:
        tr = dice.uniform(8000, 11000)
        return _inversion(tr, dice.uniform(2200, 2700), dice.uniform(85, 130))
    return _gradient_echo(
        dice.uniform(8, 60), dice.uniform(2, 20), math.radians(dice.uniform(8, 40))
    )


def _spin_echo(tr: float, te: float) -> Contrast:
    """``density (1 - exp(-TR/T1)) exp(-TE/T2)``, times in ms."""
    return lambda r: r.density * (1 - math.exp(-tr / r.t1)) * math.exp(-te / r.t2)


def _inversion(tr: float, ti: float, te: float) -> Contrast:
    """``density |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2)``, times in ms."""
    return lambda r: (
        r.density * abs(1 - 2 * math.exp(-ti / r.t1) + math.exp(-tr / r.t1)) * math.exp(-te / r.t2)
    )


def _gradient_echo(tr: float, te: float, flip: float) -> Contrast:
    """Spoiled steady state (Ernst): ``sin a (1 - E1) / (1 - cos a E1)``, T2* half of T2."""

    def signal(r: Relaxation) -> float:
        e1 = math.exp(-tr / r.t1)
        steady = math.sin(flip) * (1 - e1) / (1 - math.cos(flip) * e1)
        return r.density * steady * math.exp(-2 * te / r.t2)

    return signal


def _lesions(canvas: Canvas, wanted: int | None, slice_mm: float) -> tuple[Lesion, ...]:
    dice = canvas.dice
    count = how_many(dice, wanted, 6)
    sign = 1 if dice.chance(0.6) else -1  # of all lesions in one contrast

    def contrast(tissue: Tissue) -> float:
        return sign * dice.uniform(0.1, 0.6) * canvas.palette(tissue)

    sites = [site for site in canvas.sites if site[0] != Tissue.LUNG]
    return random_lesions(canvas, sites, count, contrast, slice_mm)


def _finished(canvas: Canvas, lesions: tuple[Lesion, ...], slice_mm: float) -> Phantom:
    """Add texture, bias field, phase, the blur of a finite k-space, noise; scale to 1."""
    dice, shape, pixel = canvas.dice, canvas.frame.shape, canvas.frame.pixel_mm
    generator, bare = dice.generator, canvas.image
    texture = grain(generator, shape, fine_mm=1.0, pixel_mm=pixel, slice_mm=slice_mm)
    strength = dice.uniform(0.01, 0.06)
    texture = strength * texture * bare
    bias = (bumps(generator, shape, 3 + dice.integer(0, 2), 30) * dice.uniform(0, 0.3)).exp()
    gain = torch.polar(bias, _phase(dice, bare))
    window = _window(dice, shape)
    noise = torch.randn(*shape, 2, generator=generator) * dice.uniform(0.002, 0.025)
    healthy = _sampled(gain * (bare + texture) + torch.view_as_complex(noise), window)
    scale = 1 / float(torch.quantile(healthy.abs().flatten()[::2], 0.995).clamp_min(1e-6))
    image = healthy = scale * healthy
    if lesions:
        filled = with_lesions(bare, lesions, pixel_mm=pixel, slice_mm=slice_mm)
        image = healthy + scale * _sampled(gain * (filled.clamp_min(0) - bare), window)
    lesions = tuple(replace(lesion, contrast=scale * lesion.contrast) for lesion in lesions)
    return Phantom(image, healthy, lesions, pixel, slice_mm)


def _phase(dice: Dice, bare: Tensor) -> Tensor:
    """Phase in rad of a spin echo or, rougher, of a gradient echo with the air of this body."""
    draw = Draw(dice.generator)
    if not dice.chance(0.7):
        return smooth_phase(draw, bare)
    phase = detailed_phase(draw, bare)
    if dice.chance(0.5):
        air = (1 - bare / 0.15).clamp(0, 1)  # what lies outside of the body counts as well
        phase = phase + dice.uniform(2, 12) * dipole_field(air, math.pi * dice.uniform())
    return phase


def _window(dice: Dice, shape: tuple[int, int, int]) -> Tensor:
    """Share of k-space that was measured, with soft edges or, sharp, with Gibbs' ringing."""
    reach_y, reach_x = dice.uniform(0.6, 1.05), dice.uniform(0.8, 1.05)
    edge = dice.uniform(0.03, 0.3)
    ky = torch.fft.fftfreq(shape[1]).abs()[:, None] * 2 / reach_y
    kx = torch.fft.fftfreq(shape[2]).abs() * 2 / reach_x
    return torch.sigmoid((1 - ky) / (0.2 * edge)) * torch.sigmoid((1 - kx) / (0.2 * edge))


def _sampled(image: Tensor, window: Tensor) -> Tensor:
    seen: Tensor = torch.fft.ifft2(torch.fft.fft2(image) * window)
    return seen
