"""Phases of MR images: smooth ones, and such as gradient echoes of real tissue have."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.network import position_channels
from medrecon.training.randomness import Draw


def smooth_phase(shape: tuple[int, int], draw: Draw) -> Tensor:
    """Draw a smooth phase ``(y, x)`` in rad: a constant, a slope and low-order bumps."""
    constant = draw.uniform(0, 2 * math.pi)
    bumps = draw.bumps(5, shape) * draw.uniform(0, 2)
    slope = 1.5 * draw.normal(2)
    return constant + bumps + (position_channels(*shape) * slope[:, None, None]).sum(0)


def detailed_phase(magnitude: Tensor, draw: Draw) -> Tensor:
    """Draw a phase ``(y, x)`` in rad that is rough as a gradient echo's.

    A smooth phase, and each with its own probability: finer bumps (imperfect shim), fields of
    dipoles (air and iron), and phase that follows the tissue's contrast (susceptibility, chemical
    shift).

    Parameters
    ----------
    magnitude
        The image that is to get the phase, ``(y, x)``, 1 at the brightest tissue.
    draw
        Source of randomness.

    References
    ----------
    The field of a small sphere is ``(3 cos^2 - 1) / r^3``: Haacke et al., Magnetic Resonance
    Imaging: Physical Principles and Sequence Design, 2nd ed., section 25.2.
    """
    height, width = magnitude.shape
    shape = (height, width)
    phase = smooth_phase(shape, draw)
    if draw.chance(0.6):
        phase = phase + draw.bumps(9 + draw.integer(12), shape) * draw.uniform(0, 0.6)
    if draw.chance(0.4):
        phase = phase + draw.bumps(24 + draw.integer(24), shape) * draw.uniform(0, 0.25)
    if draw.chance(0.5):
        phase = phase + dipoles(shape, draw)
    if draw.chance(0.6):
        fine = magnitude - _blurred(magnitude, 4 + draw.integer(12))
        phase = phase + 1.5 * draw.normal(1) * fine
    if draw.chance(0.3):
        phase = phase + 1.5 * draw.normal(1) * _blurred(magnitude, 2 + draw.integer(6))
    return phase


def dipoles(shape: tuple[int, int], draw: Draw) -> Tensor:
    """Draw the phase ``(y, x)`` in rad around one to four magnetised bodies."""
    position = position_channels(*shape)
    phase = torch.zeros(shape)
    for _ in range(1 + draw.integer(4)):
        centre = 1.6 * draw.uniforms(2) - 0.8
        radius, angle = draw.uniform(0.03, 0.15), draw.uniform(0, math.pi)
        x, y = position - centre[:, None, None]
        distance = (x**2 + y**2 + radius**2).sqrt()
        cosine = (x * math.cos(angle) + y * math.sin(angle)) / distance
        phase = phase + 3 * draw.normal(1) * (radius / distance) ** 3 * (3 * cosine**2 - 1)
    return phase


def _blurred(image: Tensor, factor: int) -> Tensor:
    """Blur ``(y, x)`` by about ``factor`` pixels: fewer pixels and back."""
    height, width = image.shape
    coarse = (max(4, height // factor), max(4, width // factor))
    fewer = F.interpolate(image[None, None], coarse, mode="bilinear", antialias=True)
    return F.interpolate(fewer, (height, width), mode="bicubic")[0, 0]
