"""Truths to test against: dense matrices, and line integrals known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.geometry import (
    ConeBeam,
    ConeVectors,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    ParallelVectors,
)
from medrecon.grid import Grid
from medrecon.operators.base import LinearOperator

Array = NDArray[np.float64]


def dense(operator: LinearOperator) -> Tensor:
    """The operator's matrix in double precision, ``(codomain.size, domain.size)``."""
    dtype = operator.domain.dtype(torch.float64)
    basis = torch.eye(operator.domain.size, dtype=dtype).reshape(-1, *operator.domain.shape)
    return operator(basis).reshape(operator.domain.size, -1).T


@dataclass(frozen=True)
class Ellipsoid:
    """A solid ellipse (two axes) or ellipsoid (three), turned by ``angle`` (rad) about z.

    ``center`` and ``axes`` (half lengths) are ``(x, y)`` or ``(x, y, z)`` in mm.
    """

    center: tuple[float, ...]
    axes: tuple[float, ...]
    value: float = 1.0
    angle: float = 0.0

    def _unit(self, vectors: Array) -> Array:
        """Vectors in the frame where the body is the unit ball."""
        turned = vectors.copy()
        c, s = np.cos(self.angle), np.sin(self.angle)
        turned[..., 0] = c * vectors[..., 0] + s * vectors[..., 1]
        turned[..., 1] = -s * vectors[..., 0] + c * vectors[..., 1]
        return np.asarray(turned / np.array(self.axes))

    def at(self, points: Array) -> Array:
        inside = (self._unit(points - np.array(self.center)) ** 2).sum(-1) <= 1
        return np.asarray(self.value * inside)

    def line(self, source: Array, target: Array) -> Array:
        """Value times the chord of the line through both points, mm."""
        direction = target - source
        direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
        d = self._unit(direction)
        p = self._unit(np.broadcast_to(source, direction.shape) - np.array(self.center))
        a, b, c = (d * d).sum(-1), (d * p).sum(-1), (p * p).sum(-1) - 1
        return np.asarray(self.value * 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a)


@dataclass(frozen=True)
class Gaussian:
    """A round Gaussian blob with standard deviation ``sigma`` mm, in two or three dimensions."""

    center: tuple[float, ...]
    sigma: float
    value: float = 1.0

    def at(self, points: Array) -> Array:
        squared = ((points - np.array(self.center)) ** 2).sum(-1)
        return np.asarray(self.value * np.exp(-squared / (2 * self.sigma**2)))

    def line(self, source: Array, target: Array) -> Array:
        """``value sigma sqrt(2 pi) exp(-d^2 / 2 sigma^2)`` for a line at distance d."""
        direction = target - source
        direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
        p = np.broadcast_to(source, direction.shape) - np.array(self.center)
        squared = (p * p).sum(-1) - (p * direction).sum(-1) ** 2
        weight = self.value * self.sigma * np.sqrt(2 * np.pi)
        return np.asarray(weight * np.exp(-squared / (2 * self.sigma**2)))


Body = Ellipsoid | Gaussian


def rays(geometry: CTGeometry, shift: tuple[float, float] = (0.0, 0.0)) -> tuple[Array, Array]:
    """Source and detector points in mm, written from the geometries' docstrings alone.

    Parameters
    ----------
    geometry
        The scanner.
    shift
        Where in the cell the ray ends, in cells from its centre along ``(rows, columns)``.

    Returns
    -------
    (source, target)
        ``(views, 1, 2)`` and ``(views, columns, 2)`` for a slice; for a volume
        ``(views, 1, 1, 3)`` and ``(views, rows, columns, 3)``.  For parallel rays the source is a
        point of each ray, of the target's shape.
    """
    column = np.arange(geometry.columns) - (geometry.columns - 1) / 2 + shift[1]
    if isinstance(geometry, ParallelBeam | FanBeam):
        return _rays_in_plane(geometry, column)
    row = np.arange(geometry.rows) - (geometry.rows - 1) / 2 + shift[0]
    if isinstance(geometry, ConeVectors | ParallelVectors):
        return _rays_of_vectors(geometry, row, column)
    source, target = _rays_in_plane(geometry, column)
    z = np.zeros((geometry.views, geometry.rows, geometry.columns))
    z += (row * geometry.row_spacing + geometry.row_offset)[None, :, None]
    if isinstance(geometry, ParallelBeam3D):
        return _stack(source[:, None], z), _stack(target[:, None], z)
    height, up = np.zeros(geometry.views), np.zeros(geometry.views)
    if geometry.heights:
        height = np.array(geometry.heights)
    if geometry.focal_shifts:
        up = np.array(geometry.focal_shifts)[:, 2]
    z += height[:, None, None]
    return _stack(source[:, None], (height + up)[:, None, None]), _stack(target[:, None], z)


def _stack(in_plane: Array, z: Array) -> Array:
    """Points ``(x, y, z)`` of points ``(x, y)`` and heights."""
    shape = np.broadcast_shapes(in_plane.shape[:-1], z.shape)
    x, y = (np.broadcast_to(in_plane[..., k], shape) for k in (0, 1))
    return np.stack([x, y, np.broadcast_to(z, shape)], -1)


def _rays_in_plane(
    geometry: ParallelBeam | FanBeam | ParallelBeam3D | ConeBeam, column: NDArray[Any]
) -> tuple[Array, Array]:
    a = np.array(geometry.angles)
    along_u = np.stack([np.cos(a), np.sin(a)], -1)[:, None]
    to_detector = np.stack([-np.sin(a), np.cos(a)], -1)[:, None]
    u = (column * geometry.column_spacing + geometry.column_offset)[None, :, None]
    if isinstance(geometry, ParallelBeam | ParallelBeam3D):
        return u * along_u - to_detector, u * along_u + to_detector
    behind = np.full((1, 1, 1), geometry.source_to_detector - geometry.source_to_axis)
    if math.isfinite(geometry.detector_radius):
        # On a circle about the point ``radius`` from the foot, back towards the source.
        angle = u / geometry.detector_radius
        behind = behind - geometry.detector_radius * (1 - np.cos(angle))
        u = geometry.detector_radius * np.sin(angle)
    source = -geometry.source_to_axis * to_detector
    if isinstance(geometry, ConeBeam) and geometry.focal_shifts:
        along, away, _ = (f[:, None, None] for f in np.array(geometry.focal_shifts).T)
        source = source + along * along_u - away * to_detector
    return source, u * along_u + behind * to_detector


def _rays_of_vectors(
    geometry: ConeVectors | ParallelVectors, row: NDArray[Any], column: NDArray[Any]
) -> tuple[Array, Array]:
    middle, across, up = (
        np.array(points)[:, None, None]
        for points in (geometry.detectors, geometry.column_steps, geometry.row_steps)
    )
    r, c = row[None, :, None, None], column[None, None, :, None]
    if isinstance(geometry, ParallelVectors):
        target = middle + c * across + r * up
        return target - np.array(geometry.directions)[:, None, None], target
    source = np.array(geometry.sources)[:, None, None]
    if math.isinf(geometry.detector_radius):
        return source, middle + c * across + r * up
    width = np.linalg.norm(across, axis=-1, keepdims=True)
    normal = np.cross(across, up)
    normal = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = normal * np.sign(((source - middle) * normal).sum(-1, keepdims=True))
    angle = c * width / geometry.detector_radius
    bent = np.sin(angle) * across / width + (1 - np.cos(angle)) * normal
    return source, middle + geometry.detector_radius * bent + r * up


def line_integrals(body: Body, geometry: CTGeometry, *, subcells: int = 1) -> Tensor:
    """Measurements of one body: ``(views, columns)``, with rows ``(views, rows, columns)``.

    With ``subcells > 1`` the mean over that many rays per cell side, as a detector measures.
    """
    steps = (np.arange(subcells) + 0.5) / subcells - 0.5
    rows = [0.0] if isinstance(geometry, ParallelBeam | FanBeam) else steps
    every = [body.line(*rays(geometry, (float(r), float(c)))) for r in rows for c in steps]
    return torch.from_numpy(np.mean(every, axis=0))


def centres(grid: Grid, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Array:
    """Points ``(z, y, x, 3)`` in mm, at ``shift`` voxels (z, y, x) from the voxels' centres."""
    axes = [
        grid.origin[2 - k] + (np.arange(grid.shape[k]) + shift[k]) * grid.spacing[k]
        for k in range(3)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack([x, y, z], -1)


def rasterise(body: Body, grid: Grid, *, subvoxels: int = 4) -> Tensor:
    """The body's mean over each voxel, ``(z, y, x)``; a planar body fills every slice."""
    steps = ((np.arange(subvoxels) + 0.5) / subvoxels - 0.5).tolist()
    planar = len(body.center) == 2
    total = np.zeros(grid.shape)
    for dz in [0.0] if planar else steps:
        for dy in steps:
            for dx in steps:
                total += body.at(centres(grid, (dz, dy, dx))[..., : len(body.center)])
    count = len(steps) ** (2 if planar else 3)
    return torch.from_numpy(total / count)


def sample(field: Callable[[Array], Array], grid: Grid) -> Tensor:
    """A field of points ``(..., 3)`` at the voxels' centres, ``(z, y, x)``."""
    return torch.from_numpy(field(centres(grid)))
