"""Columns along which the ramp is a convolution: straight ones, and arcs about the source.

A fan's formula asks for ``1 / sin^2`` of the angle between two rays.  On a straight detector, and
on one whose columns stand at equal angles, that is a function of the distance of two columns times
factors of each.  A cylinder about another point, or one whose focal spot has moved, is neither; its
rows are then looked up at equal angles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.analytic.orbit import Orbit
from medrecon.geometry.frames import Frames

Array = NDArray[np.float64]

EQUAL = 1e-3  # columns by which equal angles may be missed


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns to be filtered, view by view.

    Parameters
    ----------
    at
        Fractional detector column of each, ``(views, n)``.
    fan
        Where its ray passes the axis (see :meth:`Orbit.fan`), ``(views, n)``.
    ends
        The same at the detector's two edges, ``(views, 2)``.
    step
        Distance of columns: mm across the rays or along a flat detector ``(views,)``, rad on an
        arc (one number for all views).
    is_arc
        Whether the columns stand at equal angles.
    is_looked_up
        Whether they differ from the detector's own.
    """

    at: Array
    fan: Array
    ends: Array
    step: Array
    is_arc: bool
    is_looked_up: bool

    @property
    def count(self) -> int:
        """Number of columns."""
        return int(self.at.shape[1])

    @property
    def missing(self) -> tuple[int, int]:
        """Columns to add (left, right) until an offset detector reaches equally far on both sides.

        The measured rays end there, but not what the ramp makes of them, and voxels look it up.
        """
        low, high = self.ends.mean(0)
        more = round(self.count * (high + low) / (high - low))
        return max(0, more), max(0, -more)

    def look_up(self, rows: Tensor, views: slice) -> Tensor:
        """Measurements ``(..., views, rows, columns)`` at these columns, 0 beyond the detector."""
        if not self.is_looked_up:
            return rows
        last = rows.shape[-1] - 1
        at = torch.from_numpy(self.at[views])[:, None, :]
        inside = (at > -0.5) & (at < last + 0.5)
        return take_cubic(rows, at.clamp(0, last), -1) * inside.to(rows)


def take_cubic(values: Tensor, at: Tensor, axis: int) -> Tensor:
    """Values at fractional indices along an axis, by cubic convolution; edges are repeated.

    Parameters
    ----------
    values
        ``(..., n, ...)``.
    at
        Indices from 0 to n - 1, of the values' shape but for the length along the axis; lengths
        1 and leading axes are broadcast.

    References
    ----------
    R. G. Keys, IEEE Trans. ASSP 29 (1981) 1153-1160, doi:10.1109/TASSP.1981.1163711.
    """
    first = at.floor()
    shape = list(values.shape)
    shape[axis] = at.shape[axis]
    total = values.new_zeros(shape)
    for tap, weight in zip(range(-1, 3), keys(at - first), strict=True):
        index = (first + tap).clamp(0, values.shape[axis] - 1).long().to(values.device)
        total += weight.to(values) * values.gather(axis, index.expand(shape))
    return total


def keys(f: Tensor) -> list[Tensor]:
    """Weights of the four neighbours, from the second to the left, of a point at fraction f."""
    return [
        ((-0.5 * f + 1) * f - 0.5) * f,
        (1.5 * f - 2.5) * f * f + 1,
        ((-1.5 * f + 2) * f + 0.5) * f,
        (0.5 * f - 0.5) * f * f,
    ]


def columns_of(f: Frames, orbit: Orbit) -> Columns:
    """Take the detector's columns, or columns at equal angles where it is curved."""
    middle = (f.rows - 1) / 2
    index = np.arange(f.columns, dtype=np.float64)
    fan = orbit.fan(f, middle, index)
    ends = orbit.fan(f, middle, np.array([-0.5, f.columns - 0.5]))
    at = np.broadcast_to(index, fan.shape)
    if not f.is_curved:
        along = f.u if f.source is not None else np.sum(f.u * orbit.across, 1)[:, None]
        step = np.linalg.norm(along, axis=1)
        return Columns(at, fan, ends, step, is_arc=False, is_looked_up=False)
    # Angles of fractional columns, at the edges too: the inverse is smooth within a column.
    edges = np.arange(f.columns + 1) - 0.5
    angles = orbit.fan(f, middle, edges)
    sign = float(np.sign(angles[0, -1] - angles[0, 0]))
    smallest = float(np.diff(sign * angles, axis=1).mean(0).min())
    count = max(1, math.ceil(float(np.abs(ends[:, 1] - ends[:, 0]).max()) / smallest - EQUAL))
    start = ends.mean(1) - sign * smallest * (count - 1) / 2
    even = start[:, None] + sign * smallest * np.arange(count)
    looked_up = count != f.columns or float(np.abs(even - fan).max()) > EQUAL * smallest
    if looked_up:
        at = np.stack(
            [np.interp(sign * x, sign * xp, edges) for x, xp in zip(even, angles, strict=True)]
        )
        # np.interp stays at the edge, beyond which there is nothing.
        beyond = (sign * even < sign * angles[:, :1]) | (sign * even > sign * angles[:, -1:])
        at = np.where(beyond, -1.0, at)
    return Columns(at, even, ends, np.array(sign * smallest), is_arc=True, is_looked_up=looked_up)
