"""Truths to test against: dense matrices, and line integrals known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.geometry.ct import ConeBeam, CTGeometry, ParallelBeam
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
    """Source and detector points in mm, written from the geometry's docstring alone.

    Parameters
    ----------
    geometry
        The scanner.
    shift
        Where in the cell the ray ends, in cells from its centre along ``(rows, columns)``.

    Returns
    -------
    (source, target)
        ``(views, 1, 2)`` and ``(views, columns, 2)`` for a slice; for a cone
        ``(views, 1, 1, 3)`` and ``(views, rows, columns, 3)``.
    """
    a = np.array(geometry.angles)
    along_u = np.stack([np.cos(a), np.sin(a)], -1)
    to_detector = np.stack([-np.sin(a), np.cos(a)], -1)
    cell = np.arange(geometry.columns) - (geometry.columns - 1) / 2 + shift[1]
    u = cell * geometry.column_spacing + geometry.column_offset
    across = u[None, :, None] * along_u[:, None, :]
    if isinstance(geometry, ParallelBeam):
        return across - to_detector[:, None, :], across + to_detector[:, None, :]
    source = -geometry.source_to_axis * to_detector[:, None, :]
    behind = geometry.source_to_detector - geometry.source_to_axis
    flat = across + behind * to_detector[:, None, :]
    if not isinstance(geometry, ConeBeam):
        return source, flat
    cell = np.arange(geometry.rows) - (geometry.rows - 1) / 2 + shift[0]
    v = cell * geometry.row_spacing + geometry.row_offset
    target = np.zeros((a.size, geometry.rows, geometry.columns, 3))
    target[..., :2] = flat[:, None]
    target[..., 2] = v[None, :, None]
    source = np.concatenate([source, np.zeros((a.size, 1, 1))], -1)[:, None]
    return source, target


def line_integrals(body: Body, geometry: CTGeometry, *, subcells: int = 1) -> Tensor:
    """Measurements of one body: ``(views, columns)``, for a cone ``(views, rows, columns)``.

    With ``subcells > 1`` the mean over that many rays per cell side, as a detector measures.
    """
    steps = (np.arange(subcells) + 0.5) / subcells - 0.5
    rows = steps if isinstance(geometry, ConeBeam) else [0.0]
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
