"""Phases of MR images: what coils, fields and tissues do to the angle of a voxel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medrecon.anatomy.dice import Dice
from medrecon.anatomy.fields import bumps
from medrecon.anatomy.frame import plain_grid

_STEPS = 12.0  # correlation of phases along z, in slices


def smooth_phase(generator: torch.Generator, shape: tuple[int, int, int]) -> Tensor:
    """Slow phase of coils and shim: a constant, a ramp and a few bumps.

    Parameters
    ----------
    generator
        Source of randomness, on the CPU.
    shape
        ``(slices, y, x)``.

    Returns
    -------
    Tensor
        Phase in rad ``(slices, y, x)``, not wrapped.
    """
    dice = Dice(generator)
    grid = plain_grid((1, shape[1], shape[2]), 2 / shape[1], 1.0)
    ramp = dice.normal(0, 1.5) * grid.y + dice.normal(0, 1.5) * grid.x
    slow = bumps(generator, shape, 5, _STEPS) * dice.uniform(0, 2)
    return 2 * math.pi * dice.uniform() + ramp + slow


def detailed_phase(generator: torch.Generator, magnitude: Tensor, air: Tensor) -> Tensor:
    """Smooth phase and what gradient echoes add: finer bumps, dipoles of air, tissue's own.

    The field of a susceptibility is its convolution with the dipole kernel
    ``1/3 - kz^2 / |k|^2``; B0 lies in the plane here, in a random direction, so that slices show
    the pattern of a dipole whatever their orientation was. See Marques and Bowtell, Concepts
    Magn. Reson. B 25 (2005), doi:10.1002/cmr.b.20034.

    Parameters
    ----------
    generator
        Source of randomness, on the CPU.
    magnitude
        ``(slices, y, x)``; fine structure of tissue turns the phase with it.
    air
        Share of air in each voxel, ``(slices, y, x)`` in [0, 1]; what lies outside of the body
        counts as well.

    Returns
    -------
    Tensor
        Phase in rad ``(slices, y, x)``, not wrapped.
    """
    slices, y, x = magnitude.shape
    shape = slices, y, x
    dice = Dice(generator)
    phase = smooth_phase(generator, shape)
    if dice.chance(0.6):
        phase = phase + bumps(generator, shape, 9 + dice.integer(0, 11), 6) * dice.uniform(0, 0.6)
    if dice.chance(0.4):
        nodes = 24 + dice.integer(0, 23)
        phase = phase + bumps(generator, shape, nodes, 3) * dice.uniform(0, 0.25)
    angle = math.pi * dice.uniform()
    if dice.chance(0.5):
        phase = phase + dice.uniform(2, 12) * dipole_field(air, angle)
    if dice.chance(0.6):
        phase = phase + dice.normal(0, 4.0) * dipole_field(magnitude, angle)
    return phase


def dipole_field(source: Tensor, angle: float) -> Tensor:
    """Field of a susceptibility that changes slowly across slices, ``(slices, y, x)``.

    Parameters
    ----------
    source
        Susceptibility, any unit.
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
