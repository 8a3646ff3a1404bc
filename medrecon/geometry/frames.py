"""Every CT geometry in one form: per view a source, and a detector with its two directions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_UPRIGHT = 1e-9  # how far from the z direction still counts as along it


@dataclass(frozen=True, eq=False, kw_only=True)
class Frames:
    """Where rays start and where they end, one row per view; LPS mm of the scanner.

    The cell of fractional index ``(r, c)`` lies ``s = (c - c0) |u|`` along the row from the foot
    and ``(r - r0)`` steps v above it.  On a cylinder of radius R the arc s ends at
    ``R sin(s/R)`` along u and ``R (1 - cos(s/R))`` along the normal.

    Parameters
    ----------
    source
        Focal spots ``(views, 3)``; ``None`` for parallel rays.
    direction
        Unit vectors ``(views, 3)`` along which parallel rays travel; ``None`` otherwise.
    foot
        Points of the detector where its cylinder touches the plane of u and v, ``(views, 3)``.
    u, v
        Steps from one column and from one row to the next at the foot, ``(views, 3)``, mm.
    normal
        Unit vectors from the detector towards the source, ``(views, 3)``.
    c0, r0
        Fractional index of column and row of the foot, ``(views,)``.
    radius
        Of the cylinder, mm; infinite for a flat detector.
    rows, columns
        Detector cells.
    """

    source: Array | None
    direction: Array | None
    foot: Array
    u: Array
    v: Array
    normal: Array
    c0: Array
    r0: Array
    radius: float
    rows: int
    columns: int

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.foot)

    @property
    def is_curved(self) -> bool:
        """Whether the detector is a part of a cylinder."""
        return math.isfinite(self.radius)

    @property
    def is_axial(self) -> bool:
        """Whether rows step along +z and columns (and parallel rays) run perpendicular to it.

        Then a ray's shadow in the plane and its climb along z separate.
        """
        flat = [self.v[:, :2], self.u[:, 2:]]
        if self.direction is not None:
            flat.append(self.direction[:, 2:])
        size = np.linalg.norm(self.v, axis=1).min()
        upright = all(float(np.abs(part).max()) <= _UPRIGHT * max(1.0, size) for part in flat)
        return upright and bool((self.v[:, 2] > 0).all())

    def cells(self, row: ArrayLike, column: ArrayLike) -> Array:
        """Positions of cells of every view, ``(views, *broadcast(row, column), 3)``, mm.

        Parameters
        ----------
        row, column
            Fractional indices; integers are the cells' centres.
        """
        r, c = np.broadcast_arrays(np.asarray(row, np.float64), np.asarray(column, np.float64))
        along = (slice(None), *[None] * r.ndim)

        def each(values: Array) -> Array:
            return values[along]

        width = np.linalg.norm(self.u, axis=1)
        s = (c[None] - each(self.c0)) * each(width)
        across, lift = s, np.zeros_like(s)
        if self.is_curved:
            across = self.radius * np.sin(s / self.radius)
            lift = self.radius * (1 - np.cos(s / self.radius))
        unit = self.u / width[:, None]
        return np.asarray(
            each(self.foot)
            + across[..., None] * each(unit)
            + lift[..., None] * each(self.normal)
            + (r[None] - each(self.r0))[..., None] * each(self.v)
        )

    def rays(self, row: ArrayLike, column: ArrayLike) -> tuple[Array, Array]:
        """One point of every ray and its unit direction, both ``(views, *shape, 3)``.

        The point is the focal spot, or for parallel rays the cell itself.
        """
        ends = self.cells(row, column)
        along = (slice(None), *[None] * (ends.ndim - 2))
        if self.direction is not None:
            return ends, np.broadcast_to(self.direction[along], ends.shape)
        starts = np.broadcast_to(self.source[along], ends.shape)  # type: ignore[index]
        towards = ends - starts
        return starts, towards / np.linalg.norm(towards, axis=-1, keepdims=True)


class HasFrames(Protocol):
    """Any CT geometry."""

    def frames(self) -> Frames:
        """Where rays and cells are, view by view."""


def frames(geometry: HasFrames) -> Frames:
    """Where rays and cells of a geometry are, view by view; see :class:`Frames`."""
    return geometry.frames()


def unit(vectors: NDArray[Any]) -> Array:
    """Vectors scaled to length 1 along the last axis."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
