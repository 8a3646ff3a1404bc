"""Weighting and filtering of projections before they are projected back.

With ``rho`` the radius of the orbit, ``d`` the ray's unit vector and ``e`` that towards the axis, a
ray stands for ``rho (d . e) / 2`` of the plane of lines per angle of view and of fan, each line
being counted twice in a full turn; the rest of Feldkamp's weights is the change of variable from
the fan's angle to the detector's columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from medrecon.analytic.columns import Columns, columns_of
from medrecon.analytic.orbit import Orbit, orbit_of
from medrecon.analytic.ramp import Window, filter_rows
from medrecon.analytic.weights import ray_weights
from medrecon.geometry.ct import CTGeometry
from medrecon.geometry.frames import Frames, frames, unit

Array = NDArray[np.float64]

# Views filtered together: bounds the memory of the padded spectra.
VIEWS = 16


@dataclass(frozen=True, eq=False)
class Projections:
    """A scan made ready to be weighted and filtered.

    Parameters
    ----------
    frames, orbit, columns
        What rays the views have, about which axis, and along which columns they are filtered.
    weights
        Share of its line, step of angle and change of variable of each column,
        ``(views, columns)``.
    """

    frames: Frames
    orbit: Orbit
    columns: Columns
    weights: Array

    def filtered(self, rows: Tensor, views: slice, window: Window | str) -> Tensor:
        """Weigh and filter ``(..., views, rows, columns)``; columns are added as they miss."""
        weights = self.weights[views, None, :] * self._cosines(views)
        weighted = self.columns.look_up(rows, views) * torch.from_numpy(weights).to(rows)
        arc = abs(float(self.columns.step)) if self.columns.is_arc else 0.0
        return filter_rows(pad(weighted, self.columns.missing), 1.0, window, arc=arc)

    def _cosines(self, views: slice) -> Array:
        """Cosine of each ray to the direction of the axis, ``(views, rows, columns)``."""
        f, towards = self.frames, self.orbit.towards[views]
        if f.is_axial:
            rise = self.rises(views)
            if f.source is None:
                return np.ones_like(rise)
            return np.asarray(np.cos(self.columns.fan[views])[:, None, :] / np.hypot(1.0, rise))
        index = np.arange(f.rows)[:, None], np.arange(f.columns)
        _, directions = some_views(f, views).rays(*index)
        return np.asarray(np.einsum("vrck,vk->vrc", directions, towards))

    def rises(self, views: slice) -> Array:
        """Rise along z per mm in the plane of axial scans, ``(views, rows, columns)``."""
        f = self.frames
        height = f.foot[views, 2, None] + (np.arange(f.rows) - f.r0[views, None]) * f.v[views, 2:]
        if f.source is None:
            return np.zeros((*height.shape, 1))
        height = height - f.source[views, 2, None]
        return np.asarray(height[:, :, None] / self.distances(views)[:, None, :])

    def distances(self, views: slice) -> Array:
        """From source to cells in the plane, ``(views, columns)``, mm, of axial scans."""
        f = some_views(self.frames, views)
        if f.source is None:
            return np.ones(self.columns.at[views].shape)
        return cell_distances(f, self.columns.at[views])


def projections_of(geometry: CTGeometry) -> Projections:
    """Prepare a scan on a circle.

    Raises
    ------
    InconsistentError
        If the views do not lie near a circle.
    """
    f, orbit = frames(geometry), orbit_of(geometry)
    columns = columns_of(f, orbit)
    weights = ray_weights(orbit, columns, is_parallel=f.source is None)
    return Projections(f, orbit, columns, weights * _change_of_variable(f, orbit, columns)[:, None])


def _change_of_variable(f: Frames, orbit: Orbit, columns: Columns) -> Array:
    """Turn ``d angle d fan / distance^2`` into steps of columns, ``(views,)``, 1/mm.

    For a flat detector at the distance D, ``D rho / (D^2 step)`` with back-projection weighed by
    ``(D / depth)^2``.  Where a detector is turned a little, ``sin`` of the normal and ``cos`` of
    the rows against the axis keep the value of what is even along the axis.
    """
    if f.source is None:
        return np.asarray(1 / columns.step)
    if columns.is_arc:
        return np.asarray(orbit.radii / abs(columns.step))
    depth = np.sum((f.source - f.foot) * f.normal, 1)
    upright = np.sqrt(1 - (f.normal @ orbit.axis) ** 2)
    level = np.sqrt(1 - (unit(f.u) @ orbit.axis) ** 2)
    return np.asarray(orbit.radii / depth * upright / level / columns.step)


def cell_distances(f: Frames, at: Array) -> Array:
    """In the plane from source to fractional columns ``(views, n)``, mm, of axial scans."""
    if f.source is None:
        return np.ones_like(at)
    width = np.linalg.norm(f.u, axis=1)
    across = (at - f.c0[:, None]) * width[:, None]
    lift = np.zeros_like(across)
    if f.is_curved:
        angle = across / f.radius
        across, lift = f.radius * np.sin(angle), f.radius * (1 - np.cos(angle))
    side = (f.u / width[:, None])[:, None, :2] * across[..., None]
    cells = f.foot[:, None, :2] + side + lift[..., None] * f.normal[:, None, :2]
    return np.asarray(np.linalg.norm(cells - f.source[:, None, :2], axis=-1))


def some_views(f: Frames, views: slice) -> Frames:
    """Keep a part of the views."""
    return Frames(
        source=None if f.source is None else f.source[views],
        direction=None if f.direction is None else f.direction[views],
        foot=f.foot[views],
        u=f.u[views],
        v=f.v[views],
        normal=f.normal[views],
        c0=f.c0[views],
        r0=f.r0[views],
        radius=f.radius,
        rows=f.rows,
        columns=f.columns,
    )
