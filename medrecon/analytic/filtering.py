"""Weighting and filtering of projections before they are projected back.

With ``rho`` the radius of the orbit, ``d`` the ray's unit vector and ``e`` that towards the axis, a
ray stands for ``rho (d . e) / 2`` of the plane of lines per angle of view and of fan, each line
being counted twice in a full turn; the rest of Feldkamp's weights is the change of variable from
the fan's angle to the detector's columns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from medrecon.analytic.columns import Columns, columns_of, take_cubic
from medrecon.analytic.orbit import Orbit, orbit_of
from medrecon.analytic.ramp import Window, filter_rows
from medrecon.analytic.weights import Shares, shares_of
from medrecon.geometry.ct import CTGeometry
from medrecon.geometry.frames import Frames, frames

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
    shares
        How much of its line a ray stands for.
    weights
        Step of angle times the change of variable to columns, ``(views,)``.
    shear
        Rows by which a detector climbs per column that is turned out of the plane of the orbit,
        ``(views,)``.  The filter must run level: it would take, from one side of an offset
        detector, what the other side saw at another height.
    """

    frames: Frames
    orbit: Orbit
    columns: Columns
    shares: Shares
    weights: Array
    shear: Array

    def filtered(self, rows: Tensor, views: slice, window: Window | str) -> Tensor:
        """Weigh and filter ``(..., views, rows, columns)``; columns are added as they miss."""
        weights = self.weights[views, None, None] * self._parts(views)
        level = self.columns.look_up(self._level(rows, views), views)
        weighted = level * torch.from_numpy(weights).to(rows)
        arc = abs(float(self.columns.step)) if self.columns.is_arc else 0.0
        return filter_rows(pad(weighted, self.columns.missing), 1.0, window, arc=arc)

    def _level(self, rows: Tensor, views: slice) -> Tensor:
        """Look up level lines; where they leave the detector its last row goes on."""
        shear = torch.from_numpy(self.shear[views])
        if not shear.any():
            return rows
        columns = (
            torch.arange(self.frames.columns) - torch.from_numpy(self.frames.c0[views])[:, None]
        )
        climb = (shear[:, None] * columns)[:, None, :]
        at = torch.arange(self.frames.rows)[:, None] + climb
        return take_cubic(rows, at.clamp(0, self.frames.rows - 1), -2)

    def _parts(self, views: slice) -> Array:
        """Share of each ray times its cosine to the direction of the axis, ``(views, rows, n)``."""
        f, towards = some_views(self.frames, views), self.orbit.towards[views]
        angles, fan = self.orbit.angles[views], self.columns.fan[views, None, :]
        if f.is_axial:
            shares = self.shares.of(angles, fan)
            if f.source is None:
                return shares
            oblique = np.hypot(1.0, climbs(f, self.columns.at[views]))
            return np.asarray(shares * np.cos(fan) / oblique)
        # Columns need not be upright: a ray's partner across the axis depends on its row.
        index = np.arange(f.rows)[:, None], np.arange(f.columns)
        fan = self.orbit.part(views).fan(f, *index)
        cosines = np.einsum("vrck,vk->vrc", f.rays(*index)[1], towards)
        return np.asarray(self.shares.of(angles, fan) * cosines)


def projections_of(geometry: CTGeometry) -> Projections:
    """Prepare a scan on a circle; rows that are not level are to be sheared.

    Raises
    ------
    InconsistentError
        If the views do not lie near a circle.
    """
    f, orbit = frames(geometry), orbit_of(geometry)
    shear = np.zeros(f.views)
    if not f.is_axial and not f.is_curved:
        shear = -(f.u @ orbit.axis) / (f.v @ orbit.axis)
        f = replace(f, u=f.u + shear[:, None] * f.v)
    columns = columns_of(f, orbit)
    shares = shares_of(orbit, columns, is_parallel=f.source is None)
    weights = shares.arc.steps * _change_of_variable(f, orbit, columns)
    return Projections(f, orbit, columns, shares, weights, shear)


def _change_of_variable(f: Frames, orbit: Orbit, columns: Columns) -> Array:
    """Turn ``d angle d fan / distance^2`` into steps of columns, ``(views,)``, 1/mm.

    For a flat detector at the distance D, ``D rho / (D^2 step)`` with back-projection weighed by
    ``(D / depth)^2``.  Where it is tilted by a small angle about its rows, depth and step are those
    of a detector along the axis times its cosine.
    """
    if f.source is None:
        return np.asarray(1 / columns.step)
    if columns.is_arc:
        return np.asarray(orbit.radii / abs(columns.step))
    depth = np.sum((f.source - f.foot) * f.normal, 1)
    upright = np.sqrt(1 - (f.normal @ orbit.axis) ** 2)
    return np.asarray(orbit.radii / depth * upright / columns.step)


def climbs(f: Frames, at: Array) -> Array:
    """Rise along z of rays per mm in the plane, ``(views, rows, columns)``, of axial scans."""
    height = f.foot[:, 2, None] + (np.arange(f.rows) - f.r0[:, None]) * f.v[:, 2:]
    if f.source is not None:
        height = height - f.source[:, 2, None]
    if f.source is None or not height.any():
        return np.zeros((*height.shape, 1))
    return np.asarray(height[:, :, None] / cell_distances(f, at)[:, None, :])


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
    each = {
        field.name: getattr(f, field.name)[views]
        for field in fields(f)
        if isinstance(getattr(f, field.name), np.ndarray)
    }
    return replace(f, **each)
