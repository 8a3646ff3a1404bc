"""Phases of MR images: what coils, fields and tissues do to the angle of a voxel.

They are drawn for stacks and go on smoothly from slice to slice; a single slice is a stack of one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from medrecon.anatomy.draw import Draw
from medrecon.anatomy.fields import along_z, bumps

# correlation along z, in slices
_SHIM, _COARSE, _FINE, _BODY = 12.0, 6.0, 3.0, 4.0


def smooth_phase(draw: Draw, magnitude: Tensor) -> Tensor:
    """Slow phase of coils and shim: a constant, a ramp and a few bumps.

    Parameters
    ----------
    draw
        Source of randomness.
    magnitude
        The images that are to get the phase, for their shape ``(slices, y, x)``.

    Returns
    -------
    Tensor
        Phase in rad ``(slices, y, x)``, not wrapped.
    """
    shape = _stack(magnitude)
    constant = draw.uniform(0, 2 * math.pi)
    slow = bumps(draw.generator, shape, 5, _SHIM) * draw.uniform(0, 2)
    slope = 1.5 * draw.normal(2)
    y, x = _places(shape)
    return constant + slow + (slope[0] * x + slope[1] * y)


def detailed_phase(draw: Draw, magnitude: Tensor) -> Tensor:
    """Phase as rough as a gradient echo's.

    A smooth phase, and each with its own probability: finer bumps (imperfect shim), fields of
    dipoles (air and iron), and phase that follows the tissue's contrast (susceptibility, chemical
    shift).

    Parameters
    ----------
    draw
        Source of randomness.
    magnitude
        The images that are to get the phase, ``(slices, y, x)``, 1 at the brightest tissue.

    Returns
    -------
    Tensor
        Phase in rad ``(slices, y, x)``, not wrapped.
    """
    shape = _stack(magnitude)
    phase = smooth_phase(draw, magnitude)
    if draw.chance(0.6):
        nodes = 9 + draw.integer(12)
        phase = phase + bumps(draw.generator, shape, nodes, _COARSE) * draw.uniform(0, 0.6)
    if draw.chance(0.4):
        nodes = 24 + draw.integer(24)
        phase = phase + bumps(draw.generator, shape, nodes, _FINE) * draw.uniform(0, 0.25)
    if draw.chance(0.5):
        phase = phase + _bodies(draw, shape)
    if draw.chance(0.6):
        fine = magnitude - _blurred(magnitude, 4 + draw.integer(12))
        phase = phase + 1.5 * draw.normal(1) * fine
    if draw.chance(0.3):
        phase = phase + 1.5 * draw.normal(1) * _blurred(magnitude, 2 + draw.integer(6))
    return phase


def _bodies(draw: Draw, shape: tuple[int, int, int]) -> Tensor:
    """Phase in rad around one to four magnetised bodies, stronger in some slices than in others."""
    phase = torch.zeros(shape)
    for _ in range(1 + draw.integer(4)):
        centre = 1.6 * draw.uniforms(2) - 0.8
        radius, angle = draw.uniform(0.03, 0.15), draw.uniform(0, math.pi)
        strength = 3 * along_z(draw.normal(shape[0]), 1.0, _BODY)[:, None, None]
        y, x = _places(shape)
        phase = phase + sphere_field(y - centre[1], x - centre[0], radius, angle, strength)
    return phase


def sphere_field(y: Tensor, x: Tensor, radius: float, angle: float, strength: Tensor) -> Tensor:
    """Field of a small magnetised sphere, soft inside.

    ``strength (radius / r)^3 (3 cos^2 - 1)`` with ``r^2 = x^2 + y^2 + radius^2``: Haacke et al.,
    Magnetic Resonance Imaging: Physical Principles and Sequence Design, 2nd ed., section 25.2.

    Parameters
    ----------
    y, x
        Places from the centre of the sphere, of shapes that broadcast, in the unit of ``radius``.
    radius
        Of the sphere.
    angle
        Direction of the main field in the plane, in rad from x.
    strength
        Scale of the field, of a shape that broadcasts.

    Returns
    -------
    Tensor
        Field in the unit of ``strength``.
    """
    distance = (x**2 + y**2 + radius**2).sqrt()
    cosine = (x * math.cos(angle) + y * math.sin(angle)) / distance
    return strength * (radius / distance) ** 3 * (3 * cosine**2 - 1)


def dipole_field(source: Tensor, angle: float) -> Tensor:
    """Field of a susceptibility that changes slowly across slices, ``(slices, y, x)``.

    The field is the susceptibility's convolution with the dipole kernel ``1/3 - kz^2 / |k|^2``;
    the main field lies in the plane, so that slices show the pattern of a dipole whatever their
    orientation was. See Marques and Bowtell, Concepts Magn. Reson. B 25 (2005),
    doi:10.1002/cmr.b.20034.

    Parameters
    ----------
    source
        Susceptibility, any unit, ``(slices, y, x)``.
    angle
        Direction of the main field in the plane, in rad from x.
    """
    _, height, width = source.shape
    ky = torch.fft.fftfreq(height)[:, None]
    kx = torch.fft.rfftfreq(width)
    along = ky * math.sin(angle) + kx * math.cos(angle)
    square = ky.square() + kx.square()
    square[0, 0] = 1.0
    kernel = 1 / 3 - along.square() / square
    kernel[0, 0] = 0.0
    field: Tensor = torch.fft.irfft2(torch.fft.rfft2(source) * kernel, (height, width))
    return field


def _stack(images: Tensor) -> tuple[int, int, int]:
    slices, height, width = images.shape
    return slices, height, width


def _places(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Rows ``(y, 1)`` and columns ``(x,)``, -1 to 1 over the slice."""
    return torch.linspace(-1, 1, shape[1])[:, None], torch.linspace(-1, 1, shape[2])


def _blurred(images: Tensor, factor: int) -> Tensor:
    """Blur ``(slices, y, x)`` by about ``factor`` pixels: fewer pixels and back."""
    _, height, width = _stack(images)
    coarse = (max(4, height // factor), max(4, width // factor))
    fewer = functional.interpolate(images[:, None], coarse, mode="bilinear", antialias=True)
    return functional.interpolate(fewer, (height, width), mode="bicubic")[:, 0]
