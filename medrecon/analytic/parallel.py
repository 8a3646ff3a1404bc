"""Fan views of a helix sorted into parallel projections, row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.analytic.backprojection import level_rows
from medrecon.analytic.columns import Columns, keys
from medrecon.analytic.filtering import VIEWS, cell_distances, climbs, some_views
from medrecon.analytic.orbit import Orbit, orbit_of
from medrecon.errors import InconsistentError
from medrecon.geometry.ct import ConeBeam, ConeVectors
from medrecon.geometry.frames import Frames, frames

Array = NDArray[np.float64]

# How much longer than the other a side of the detector may be, as a part of its width: a quarter
# of a column on either side is usual, half-fans are not sorted.
LOPSIDED = 0.1


@dataclass(frozen=True, eq=False)
class Parallel:
    """Where the rays of parallel projections come from in a scan of fans.

    The ray at ``s`` mm from the axis of the projection at ``theta`` comes from the source at
    ``theta + gamma``, ``sin(gamma) = s / R``.

    Parameters
    ----------
    frames, orbit
        The views and the axis they go about.
    columns
        Columns with equal steps of s.
    number
        ``theta`` of each projection in units of ``pi / half``, ``(projections,)``.
    views
        Fractional view of each ray, ``(projections, columns)``.
    """

    frames: Frames
    orbit: Orbit
    columns: Columns
    number: NDArray[np.int64]
    views: Array

    def sorted(self, measurements: Tensor) -> Tensor:
        """Projections ``(projections, rows, columns)`` of ``(views, rows, columns)``.

        Line integrals are taken to the plane, times the cosine of their climb.
        """
        n, rows, _ = measurements.shape
        count = self.columns.count
        even = measurements.new_empty((n, count, rows))
        for start in range(0, n, VIEWS):
            some = slice(start, start + VIEWS)
            climb = climbs(some_views(self.frames, some), self.columns.at[some])
            flat = torch.from_numpy(1 / np.hypot(1.0, climb)).to(measurements)
            found = self.columns.look_up(measurements[some], some)
            even[some] = (found * flat).transpose(1, 2)
        result = measurements.new_empty((len(self.number), rows, count))
        column = torch.arange(count, device=measurements.device)
        for start in range(0, len(self.number), VIEWS):
            at = torch.from_numpy(self.views[start : start + VIEWS])
            first = at.floor()
            total = torch.zeros((), dtype=even.dtype, device=even.device)
            for tap, weight in zip(range(-1, 3), keys(at - first), strict=True):
                view = (first + tap).clamp(0, n - 1).long().to(even.device)
                total = total + weight.to(even)[..., None] * even[view, column]
            result[start : start + VIEWS] = total.transpose(1, 2)
        return result

    def rays(self, bottom: float, slice_height: float) -> Array:
        """Table ``rays`` of the kernel, ``(projections, columns, 5)``.

        Parameters
        ----------
        bottom, slice_height
            Height of the first slice and from one to the next, mm.
        """
        f, orbit = self.frames, self.orbit
        source = orbit.center if f.source is None else f.source
        level, row = level_rows(f)
        back = -orbit.radii[:, None] * np.cos(self.columns.fan)
        each = [
            back,
            cell_distances(f, self.columns.at),
            *(
                np.broadcast_to(values[:, None], back.shape)
                for values in (level, (source[..., 2] - bottom) / row, slice_height / row)
            ),
        ]
        table = np.stack(each, -1)
        first = np.clip(np.floor(self.views).astype(np.int64), 0, max(0, f.views - 2))
        part = (self.views - first)[..., None]
        column = np.arange(self.views.shape[1])
        last = np.minimum(first + 1, f.views - 1)
        return np.asarray((1 - part) * table[first, column] + part * table[last, column])


@dataclass(frozen=True)
class Sampling:
    """The parallel projections that a scan is sorted into.

    Parameters
    ----------
    half
        Directions per half turn.
    spacing
        Distance of rays, mm.
    columns
        Rays per projection, the axis in their middle.
    """

    half: int
    spacing: float
    columns: int

    @property
    def positions(self) -> Array:
        """Distances of the rays from the axis, mm."""
        return np.asarray((np.arange(self.columns) - (self.columns - 1) / 2) * self.spacing)


def sampling_of(geometry: ConeBeam | ConeVectors) -> Sampling:
    """As dense as the scan: its views per half turn, its columns at the axis.

    Raises
    ------
    InconsistentError
        If the gantry does not turn one way, or the detector is one-sided or turned.
    """
    f, orbit, name = frames(geometry), orbit_of(geometry), type(geometry).__name__
    if not f.is_axial:
        raise InconsistentError(
            f"{name}: the helical reconstruction needs detector rows along z and columns across "
            "it; use an iterative method."
        )
    angles = np.unwrap(orbit.angles)
    turned = float(angles[-1] - angles[0])
    if not (np.sign(turned) * np.diff(angles) > 0).all():
        raise InconsistentError(
            f"{name}: a helix must turn one way, but the angles of its views go back and forth; "
            "put them in the order of the scan."
        )
    fans = _edges(f, orbit)
    low, high = np.sort(fans[:, [0, -1]].mean(0)).tolist()
    if abs(high + low) > LOPSIDED * (high - low):
        raise InconsistentError(
            f"{name}: the detector reaches {math.degrees(-low):.1f} degrees to one side of the "
            f"axis and {math.degrees(high):.1f} to the other; helical needs both alike, use an "
            "iterative method."
        )
    radius = float(orbit.radii.mean())
    spacing = radius * float(np.abs(np.diff(fans, axis=1)).mean(0)[f.columns // 2])
    half = math.ceil(math.pi * (f.views - 1) / abs(turned) - 1e-6)
    columns = math.ceil(2 * radius * math.sin(max(-low, high)) / spacing)
    return Sampling(half, spacing, columns)


def parallel_rays(geometry: ConeBeam | ConeVectors, sampling: Sampling) -> Parallel:
    """Find the complete parallel projections of a helical scan.

    Raises
    ------
    InconsistentError
        If the scan turns by less than half a turn and the fan.
    """
    f, orbit, s = frames(geometry), orbit_of(geometry), sampling.positions
    angles = np.unwrap(orbit.angles)
    gamma = np.arcsin(np.clip(s / orbit.radii.mean(), -1.0, 1.0))
    widest = float(np.abs(gamma).max())
    per_rad = sampling.half / math.pi
    first, last = angles.min() + widest, angles.max() - widest
    number = np.arange(math.ceil(first * per_rad - 1e-6), math.floor(last * per_rad + 1e-6) + 1)
    if len(number) < sampling.half:
        raise InconsistentError(
            f"{type(geometry).__name__}: the helix turns by {math.degrees(np.ptp(angles)):.0f} "
            "degrees; helical needs half a turn and the fan, "
            f"{180 + 2 * math.degrees(widest):.0f} degrees."
        )
    turn = float(np.sign(angles[-1] - angles[0]))
    wanted = number[:, None] / per_rad + gamma
    views = np.interp(turn * wanted, turn * angles, np.arange(f.views, dtype=np.float64))
    columns = _lines(_edges(f, orbit), gamma, sampling.spacing)
    return Parallel(f, orbit, columns, number, views)


def _edges(f: Frames, orbit: Orbit) -> Array:
    """Fan angles of the edges of all columns, ``(views, columns + 1)``."""
    return orbit.fan(f, (f.rows - 1) / 2, np.arange(f.columns + 1) - 0.5)


def _lines(edges: Array, gamma: Array, spacing: float) -> Columns:
    """Find the columns of rays at the fan angles ``gamma``."""
    sign = float(np.sign(edges[0, -1] - edges[0, 0]))
    index = np.arange(edges.shape[1]) - 0.5
    at = np.stack([np.interp(sign * gamma, sign * known, index) for known in edges])
    fan = np.broadcast_to(gamma, at.shape)
    ends = edges[:, [0, -1]]
    beyond = (fan < ends.min(1)[:, None]) | (fan > ends.max(1)[:, None])
    at = np.where(beyond, -1.0, at)
    return Columns(at, fan, ends, np.array(spacing), is_arc=True, is_looked_up=True)
