"""Density compensation: how much of k-space every sample of a trajectory stands for.

For direct (gridding) reconstruction only, ``A^H (w y)``: an iterative reconstruction weighs samples
by their noise, which is the same for all of them. Weights are areas (volumes in space) in cycles
per field of view, so that ``A^H W A`` is close to the identity inside the sampled disc.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian
from medrecon.operators.nufft import NUFFT

Array = NDArray[np.float64]

_STRAIGHT = 1e-4  # of the step between samples: how far they may stand beside an even, straight row


def radial_density(geometry: NonCartesian, shape: tuple[int, ...]) -> Array:
    r"""Weights of spokes through the centre: the trapezoid rule in polar coordinates.

    A sample at radius r has the weight :math:`\Delta\theta\, |r| \Delta r` in the plane, with
    :math:`\Delta\theta` half the angle between its spoke's neighbours, and
    :math:`\Delta\Omega\, r^2 \Delta r` in space, where all spokes share the sphere alike. In the
    plane :math:`|r|` has a kink at the centre, for which Euler and Maclaurin's formula gives the
    sample there :math:`\Delta\theta \Delta r^2 / 6` (half of it to spokes that begin there); the
    disc's area, which is often taken, is half as much again and leaves a pedestal under the image.

    Parameters
    ----------
    geometry
        Straight, evenly sampled spokes, such as :func:`medrecon.trajectories.radial` and ``koosh``
        or a stack of stars; from the centre outwards or right through it.
    shape
        The axes of the image that the trajectory encodes, ``(y, x)`` or ``(z, y, x)``.

    Returns
    -------
    ndarray
        float64 ``(shots, samples)``.

    Raises
    ------
    InconsistentError
        If the trajectory does not consist of such spokes.

    References
    ----------
    Lauzon and Rutt, Effects of polar sampling in k-space, Magn Reson Med 36 (1996).
    """
    k = geometry.trajectory / np.array(shape, dtype=np.float64)  # cycles per voxel: round
    direction, along, step = _spokes(k)
    through = bool(along.min() < -step / 2)
    if k.shape[-1] == 2:
        share = _sectors(direction, through)
        weight = np.where(np.abs(along) < step / 4, step / (6 if through else 12), np.abs(along))
    else:
        share = np.full(len(k), (2 if through else 4) * math.pi / len(k))
        weight = along**2
    areas: Array = share[:, None] * weight * step * math.prod(shape)
    return areas


def pipe_menon(geometry: NonCartesian, shape: tuple[int, ...], *, iterations: int = 10) -> Array:
    r"""Density compensation of any trajectory, by fixed-point iteration.

    .. math:: w \leftarrow w / (\psi * w)

    with a kernel :math:`\psi \ge 0` whose inverse transform is the overlap of two discs (balls) of
    the field of view's size: what the samples say about an object inside the field of view.

    Parameters
    ----------
    geometry
        Any trajectory; of a stack its plane.
    shape
        The axes of the image that the trajectory encodes.
    iterations
        How many; many more than 10 gain nothing and make the weights of neighbours differ.

    Returns
    -------
    ndarray
        float64 ``(shots, samples)``.

    References
    ----------
    Pipe and Menon, Sampling density compensation in MRI, Magn Reson Med 41 (1999); Zwart, Johnson
    and Pipe, Efficient sample density estimation by combining gridding and an optimized kernel,
    Magn Reson Med 67 (2012), doi:10.1002/mrm.23041 (the kernel).
    """
    double = tuple(2 * n for n in shape)
    A = NUFFT(Space(double, complex=True), 2 * geometry.trajectory)
    window = _overlap(shape)
    scale = math.prod(double) ** -0.5
    ones = torch.ones(geometry.trajectory.shape[:2], dtype=torch.complex128)
    w = ones.clone()
    for _ in range(iterations):
        w = w / A(window * A.adjoint(w)).abs().clamp_min(scale * 1e-9)
    areas: Array = w.real.numpy() / 2 ** len(shape)
    return areas


def _spokes(k: Array) -> tuple[Array, Array, float]:
    """Directions ``(shots, d)``, positions along them ``(shots, samples)``, and the step."""
    ends = k[:, -1] - k[:, 0]
    length = np.linalg.norm(ends, axis=-1, keepdims=True)
    if k.shape[1] < 2 or (length <= 0).any():
        raise InconsistentError(
            "Analytic density compensation needs spokes of at least two samples; use pipe_menon."
        )
    direction = ends / length
    along = (k * direction[:, None]).sum(-1)
    step = float(length.mean() / (k.shape[1] - 1))
    beside = np.abs(k - along[..., None] * direction[:, None]).max()
    uneven = np.abs(np.diff(along, axis=1) - step).max()
    if max(beside, uneven) > _STRAIGHT * step:
        raise InconsistentError(
            "Analytic density compensation needs straight, evenly sampled spokes through the "
            "centre of k-space; this trajectory is another, use pipe_menon."
        )
    return direction, along, step


def _sectors(direction: Array, through: bool) -> Array:
    """Angle that every spoke has for itself: half the way to both neighbours, rad."""
    turn = math.pi if through else 2 * math.pi
    angle = np.mod(np.arctan2(direction[:, 0], direction[:, 1]), turn)
    order = np.argsort(angle, kind="stable")
    gap = np.diff(np.append(angle[order], angle[order[0]] + turn))
    sectors = np.empty_like(angle)
    sectors[order] = (gap + np.roll(gap, 1)) / 2
    return sectors


def _overlap(shape: tuple[int, ...]) -> torch.Tensor:
    """Overlap of two unit discs (balls), from 1 where they coincide to 0 one diameter apart."""
    axes = [(torch.arange(2 * n, dtype=torch.float64) - n) / n for n in shape]
    r = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt().clamp_max(1)
    if len(shape) == 2:
        return 2 / math.pi * (torch.acos(r) - r * (1 - r**2).sqrt())
    return (1 - r) ** 2 * (1 + r / 2)
