"""Bodies as signed distances: millimetres inside the surface, negative outside."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medrecon.anatomy.frame import Places, Point

_TINY = 1e-6


def ellipsoid(
    places: Places, centre: Point, radii: Point, *, turn: float = 0.0, power: float = 2.0
) -> Tensor:
    r"""Depth below the surface of a (super)ellipsoid, along the line to its centre.

    ``|z/a|^p + |y/b|^p + |x/c|^p = 1``; depth is ``|r| (1 / f - 1)`` with ``f`` the p-norm of the
    scaled place, exact for spheres.

    Parameters
    ----------
    places
        Where.
    centre, radii
        Millimetres (z, y, x); a radius of infinity makes a cylinder.
    turn
        Turn of the axes about z in rad.
    power
        2 for ellipsoids, more for boxes with round corners.

    Returns
    -------
    Tensor
        Millimetres, shape of ``places``.
    """
    y, x = places.y - centre[1], places.x - centre[2]
    if turn:
        cosine, sine = math.cos(turn), math.sin(turn)
        y, x = cosine * y - sine * x, sine * y + cosine * x
    length = y.square().add_(x.square())
    flat = math.isinf(radii[0])
    z = None if flat else places.z - centre[0]
    if z is not None:
        length = length + z.square()
    if power == 2:
        level = (y / radii[1]).square_().add_((x / radii[2]).square_())
        if z is not None:
            level += (z / radii[0]).square_()
        level.sqrt_()
    else:
        level = (y / radii[1]).abs_().pow_(power).add_((x / radii[2]).abs_().pow_(power))
        if z is not None:
            level += (z / radii[0]).abs_().pow_(power)
        level.pow_(1 / power)
    centred = level < _TINY  # 0/0: the depth there is the smallest radius
    depth = length.sqrt_().mul_(1 / level.clamp_min_(_TINY) - 1)
    return depth.masked_fill_(centred, min(radii)).clamp_max_(min(radii))


def tube(places: Places, start: Point, end: Point, radii: tuple[float, float]) -> Tensor:
    """Depth below the surface of a rod with round ends whose radius changes from end to end.

    Parameters
    ----------
    places
        Where.
    start, end
        Ends in mm (z, y, x).
    radii
        Radii in mm at the two ends.

    Returns
    -------
    Tensor
        Millimetres, shape of ``places``.
    """
    dz, dy, dx = (b - a for a, b in zip(start, end, strict=True))
    z, y, x = places.z - start[0], places.y - start[1], places.x - start[2]
    share = (z * dz + y * dy + x * dx).div_(max(dz * dz + dy * dy + dx * dx, _TINY)).clamp_(0, 1)
    gap = (z - share * dz).square_() + (y - share * dy).square_() + (x - share * dx).square_()
    return radii[0] + (radii[1] - radii[0]) * share - gap.sqrt_()


def both(*depths: Tensor) -> Tensor:
    """Depth in what several bodies have in common."""
    common = depths[0]
    for depth in depths[1:]:
        common = torch.minimum(common, depth)
    return common


def without(depth: Tensor, other: Tensor) -> Tensor:
    """Depth in a body from which another one is cut out."""
    return torch.minimum(depth, -other)


def wave(places: Places, angle: float, length_mm: float) -> Tensor:
    """Sine across the plane, for folds and haustra, shape of ``places``."""
    along = places.x * math.cos(angle) + places.y * math.sin(angle) + 0.7 * places.z
    return torch.sin(along * (2 * math.pi / length_mm))
