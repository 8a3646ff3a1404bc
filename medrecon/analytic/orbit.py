"""The circle on which a scan's views lie: what closed formulas need to know of a geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry.ct import ConeVectors, CTGeometry, ParallelVectors
from medrecon.geometry.frames import Frames, frames, unit

Array = NDArray[np.float64]

# How far, as a part of the radius, sources may lie from a circle for formulas of the circle.
NEARLY = 0.05
# Climb of a circular scan, as a part of the detector's height: an arm that sags is no helix.
NEGLIGIBLE_CLIMB = 0.1
# Directions count as across the axis, detector rows as along the orbit, up to this sine.
STEEPEST = math.sin(math.radians(20))


@dataclass(frozen=True, eq=False)
class Orbit:
    """Views around an axis; sources of parallel rays stand at a radius of 1 by convention.

    Parameters
    ----------
    axis
        Unit vector of the rotation axis, ``(3,)``.
    center
        A point of the axis, mm, ``(3,)``.
    angles
        Of the sources about the axis, rad, ``(views,)``; for the z axis those of the geometry.
    radii
        Distances of the sources from the axis, mm, ``(views,)``.
    towards
        Unit vectors from source to axis, ``(views, 3)``.
    across
        Unit vectors along the orbit, perpendicular to those and to the axis, ``(views, 3)``.
    """

    axis: Array
    center: Array
    angles: Array
    radii: Array
    towards: Array
    across: Array

    def part(self, views: slice) -> Orbit:
        """Keep a part of the views."""
        return replace(
            self,
            angles=self.angles[views],
            radii=self.radii[views],
            towards=self.towards[views],
            across=self.across[views],
        )

    def fan(self, f: Frames, row: ArrayLike, column: ArrayLike) -> Array:
        """Where rays pass the axis: fan angle in rad, or mm for parallel rays.

        Parameters
        ----------
        f
            The views.
        row, column
            Fractional indices of cells, broadcast.

        Returns
        -------
        Array
            ``(views, *broadcast(row, column))``, growing along ``across``.
        """
        cells = f.cells(row, column)
        ahead = [1] * (cells.ndim - 2)
        away = cells - (self.center if f.source is None else f.source.reshape(-1, *ahead, 3))
        side = np.einsum("v...k,vk->v...", away, self.across)
        if f.source is None:
            return np.asarray(side)
        return np.asarray(np.arctan2(side, np.einsum("v...k,vk->v...", away, self.towards)))


def orbit_of(geometry: CTGeometry) -> Orbit:
    """Find the orbit: the z axis of a scanner in its own terms, a fitted circle for vectors.

    Raises
    ------
    InconsistentError
        If the sources (or the directions of parallel rays) do not lie near a circle.
    """
    f = frames(geometry)
    z, origin = np.array([0.0, 0.0, 1.0]), np.zeros(3)
    if not isinstance(geometry, ConeVectors | ParallelVectors):
        return _around(f, z, origin)
    name = type(geometry).__name__
    if f.views < 3:
        raise InconsistentError(
            f"{name} needs at least 3 views for an analytic reconstruction, got {f.views}; use an "
            "iterative method."
        )
    axis = z if f.is_axial else _normal(f)
    center = _center_of_rays(f, axis) if f.source is None else _center_of_circle(f.source, axis)
    orbit = _around(f, axis, center)
    _check(name, f, orbit)
    return orbit


def climb(geometry: CTGeometry) -> float:
    """How far the gantry travels along the axis during the scan, mm; 0 where that is no helix.

    Heights that change by less than a row or a tenth of the detector, seen at the axis, or that do
    not follow the angle, are a circle's (an arm that sags): voxels look up each view at its own
    height.
    """
    f = frames(geometry)
    if f.source is None or f.views < 3:
        return 0.0
    orbit = orbit_of(geometry)
    heights, angles = f.foot @ orbit.axis, np.unwrap(orbit.angles)
    magnify = np.linalg.norm(f.foot - f.source, axis=1) / orbit.radii
    row = float((np.linalg.norm(f.v, axis=1) / magnify).mean())
    least = max(row, f.rows * row * NEGLIGIBLE_CLIMB)
    if np.ptp(heights) <= least:
        return 0.0
    slope, level = np.polyfit(angles, heights, 1)
    travel = abs(float(slope)) * float(np.ptp(angles))
    error = float(np.std(heights - slope * angles - level))
    return travel if travel > max(least, 4 * error) else 0.0


def check_level(name: str, f: Frames, orbit: Orbit) -> None:
    """Refuse sources that leave the plane of the circle.

    Raises
    ------
    InconsistentError
        If they do by more than a twentieth of its radius.
    """
    if f.source is None:
        return
    heights, radius = f.source @ orbit.axis, float(orbit.radii.mean())
    off = float(np.abs(heights - heights.mean()).max())
    if off > NEARLY * radius:
        raise InconsistentError(
            f"{name}: sources lie up to {off:.0f} mm above or below the plane of their circle "
            f"(radius {radius:.0f} mm), too far for Feldkamp's method; use an iterative method."
        )


def _around(f: Frames, axis: Array, center: Array) -> Orbit:
    away = -_of(f.direction) if f.source is None else f.source - center
    away = away - (away @ axis)[:, None] * axis
    radii = np.linalg.norm(away, axis=1)
    towards = -unit(away)
    across = np.cross(towards, axis)
    x = np.eye(3)[0 if abs(axis[0]) < 0.9 else 2]
    first = unit(x - (x @ axis) * axis)  # x, seen along the axis
    angles = np.arctan2(across @ np.cross(axis, first), across @ first)
    if f.source is None:
        radii = np.ones_like(radii)
    return Orbit(axis, center, angles, radii, towards, across)


def _normal(f: Frames) -> Array:
    """Find the unit normal, towards +z, of the plane in which sources or directions lie."""
    points = _of(f.direction) if f.source is None else f.source
    _, _, directions = np.linalg.svd(points - points.mean(0))
    normal = np.asarray(directions[2], np.float64)
    return normal if normal[np.argmax(np.abs(normal))] > 0 else -normal


def _center_of_circle(source: Array, axis: Array) -> Array:
    """Least squares of ``|p|^2 = 2 p . c + d`` (Kasa) in the plane across the axis."""
    plane = np.linalg.svd(axis[None])[2][1:]
    p = source @ plane.T
    solution = np.linalg.lstsq(np.c_[2 * p, np.ones(len(p))], (p * p).sum(1), rcond=None)[0]
    return np.asarray(solution[:2] @ plane + (source @ axis).mean() * axis)


def _center_of_rays(f: Frames, axis: Array) -> Array:
    """Point about which the detector's middle keeps its distance to the axis in all views."""
    orbit = _around(f, axis, np.zeros(3))
    middle = f.cells((f.rows - 1) / 2, (f.columns - 1) / 2)
    plane = np.linalg.svd(axis[None])[2][1:]
    unknown = np.c_[orbit.across @ plane.T, np.ones(f.views)]
    solution = np.linalg.lstsq(unknown, np.sum(middle * orbit.across, 1), rcond=None)[0]
    return np.asarray(solution[:2] @ plane)


def _check(name: str, f: Frames, orbit: Orbit) -> None:
    if f.source is None:
        off = float(np.abs(_of(f.direction) @ orbit.axis).max())
        if off > STEEPEST:
            raise InconsistentError(
                f"{name}: rays leave the plane of rotation by {math.degrees(math.asin(off)):.0f} "
                "degrees, too far for filtered back-projection; use an iterative method."
            )
    else:
        radius = float(orbit.radii.mean())
        off = float(np.abs(orbit.radii - radius).max())
        if not off <= NEARLY * radius:
            raise InconsistentError(
                f"{name}: the sources lie up to {off:.0f} mm from a circle of radius {radius:.0f} "
                "mm, too far for an analytic reconstruction; use an iterative method."
            )
    rising = float(np.abs(unit(f.u) @ orbit.axis).max())
    if rising > STEEPEST:
        raise InconsistentError(
            f"{name}: the detector's rows are turned by {math.degrees(math.asin(rising)):.0f} "
            "degrees out of the plane of the rotation, which the filter along rows does not "
            "allow; exchange rows and columns or use an iterative method."
        )


def _of(directions: Array | None) -> Array:
    if directions is None:
        raise InconsistentError("Rays from a source have no common direction.")
    return directions
