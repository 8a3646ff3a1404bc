"""Which views, k-space lines or spokes a scan can spare for a test."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.geometry import Cartesian, CTGeometry, MRGeometry, NonCartesian, SliceGeometry
from medrecon.safety.held_out import HeldOut, hold_out, measured_groups

Geometry = CTGeometry | MRGeometry

_SHARE = 1 / 8
_SHARE_OF_ARC = 1 / 4  # of a limited arc: its ends must lie far enough beyond what is left
_FEWEST = 4  # groups that a scan must have to spare any
_HALF_TURN = 0.9 * math.pi
"""An arc from which on, in rad, views count as seeing every direction."""


def split(data: DataTerm, geometry: Geometry, generator: torch.Generator) -> HeldOut | None:
    """Hold out an eighth of a scan's views or lines, or a quarter of a limited arc's views.

    ``None`` where there are too few.

    Views of a whole turn are spared evenly, so that every direction is asked for. Those of a
    limited arc are spared at both its ends: what lies between measured views is easy, what lies
    beyond them is what such a scan is about. Lines, spokes and points of k-space are drawn at
    random from those outside the fully sampled middle, which coil maps and scale live on.

    Parameters
    ----------
    data
        All measurements.
    geometry
        Of the scan.
    generator
        Source of randomness, on the CPU.
    """
    axes = group_axes(geometry)
    measured = measured_groups(data, axes)
    spare = measured if not isinstance(geometry, Cartesian) else measured & ~_middle(measured)
    free = torch.nonzero(spare.flatten()).flatten()
    is_limited = not isinstance(geometry, MRGeometry) and _is_limited(geometry)
    count = max(2, round((_SHARE_OF_ARC if is_limited else _SHARE) * len(free)))
    if len(free) < _FEWEST or count >= len(free):
        return None
    if isinstance(geometry, MRGeometry):
        picked = free[torch.randperm(len(free), generator=generator)[:count]]
    elif is_limited:
        first = torch.arange(len(free)) < count // 2
        picked = free[first | (torch.arange(len(free)) >= len(free) - (count - count // 2))]
    else:
        offset = float(torch.rand(1, generator=generator))
        places = (torch.arange(count) + offset) * len(free) / count
        picked = free[places.long().clamp_max(len(free) - 1)]
    chosen = torch.zeros_like(spare).flatten()
    chosen[picked] = True
    return hold_out(data, axes, chosen.view_as(spare))


def group_axes(geometry: Geometry) -> tuple[int, ...]:
    """Axes of the measurements that count views, lines or spokes."""
    if isinstance(geometry, Cartesian):
        # a readout is a whole line along x; a pattern in y and z is made of points
        return (-3, -2) if geometry.is_3d else (-2,)
    if isinstance(geometry, NonCartesian):
        return (-2,)
    return (1,) if isinstance(geometry, SliceGeometry) else (0,)


def kind_of_groups(geometry: Geometry) -> str:
    """Name what is held out, in the plural."""
    if isinstance(geometry, Cartesian):
        return "points of k-space" if geometry.is_3d else "k-space lines"
    return "shots" if isinstance(geometry, NonCartesian) else "views"


def _middle(measured: Tensor) -> Tensor:
    """Mark the box around the centre of k-space in which everything was measured."""
    inside = torch.ones_like(measured)
    for axis, size in enumerate(measured.shape):
        line = measured
        for other in reversed([a for a in range(measured.ndim) if a != axis]):
            line = line.select(other, measured.shape[other] // 2)
        low = high = size // 2
        while low > 0 and bool(line[low - 1]):
            low -= 1
        while high < size - 1 and bool(line[high + 1]):
            high += 1
        index = torch.arange(size).view([-1 if a == axis else 1 for a in range(measured.ndim)])
        inside &= (index >= low) & (index <= high)
    return inside


def _is_limited(geometry: CTGeometry) -> bool:
    """Whether the views lie on an arc of much less than half a turn."""
    frames = geometry.frames()
    rays = frames.direction if frames.source is None else frames.foot - frames.source
    if rays is None or len(rays) < 2:
        return False
    angles = np.sort(np.mod(np.arctan2(rays[:, 1], rays[:, 0]), 2 * math.pi))
    gaps = np.diff(np.append(angles, angles[0] + 2 * math.pi))
    arc = 2 * math.pi - float(gaps.max()) + float(np.median(gaps))
    return arc < _HALF_TURN
