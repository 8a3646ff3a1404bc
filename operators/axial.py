"""Heights along z of scanners whose detector rows step along z, as tables per view.

In the plane such a scan is a fan (or parallel) beam, see :mod:`medrecon.operators.rays`.  Along z
a detector row casts a shadow whose size follows from the pixel's magnification ``m``, its distance
from the source over that of the detector along the same ray, both seen in the plane: 1 for
parallel rays, ``B . p`` for a flat detector, and for a cylinder ``B . p`` times a function of the
ray's slope (:func:`curvatures`).  Forward and transpose use the same ``m`` of view and pixel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medrecon.geometry.ct import VolumeGeometry
from medrecon.geometry.frames import Frames, frames
from medrecon.grid import Grid
from medrecon.operators import rays

Array = NDArray[np.float64]


def row_shadows(grid: Grid, geometry: VolumeGeometry) -> Array:
    """Table ``(views, 3)`` of ``(a, b, h)``: where rows fall along z, in voxels.

    At magnification ``m`` the lower edge of row ``r`` falls on ``a + m (b + h r)``, counted in
    voxels from the lower edge of the first one: ``a`` is the source's height, ``b`` that of the
    lower edge of row 0 over the source, ``h`` a row's height.
    """
    dz = grid.spacing[0]
    f = frames(geometry)
    edge = f.foot[:, 2] - (f.r0 + 0.5) * f.v[:, 2]
    source = np.zeros(f.views) if f.source is None else f.source[:, 2]
    bottom = grid.origin[2] - dz / 2
    return np.stack([(source - bottom) / dz, (edge - source) / dz, f.v[:, 2] / dz], -1)


def curvatures(geometry: VolumeGeometry) -> Array:
    """Table ``(views, 6)`` of ``(s0, ds, ct, cn, k, depth)``; all zero for a flat detector.

    A ray that crosses the tangent at ``t`` has the slope ``s = s0 + ds t`` against the detector's
    normal.  The middle of the detector's circle lies ``ct`` along u and ``cn`` deep, seen from
    the source, ``k`` is the squared radius less its squared distance, and the tangent lies at
    ``depth``, mm.  The magnification is ``m = (B . p) g``::

        g = depth (1 + s^2) / (q + sqrt(q^2 + k (1 + s^2)))    with  q = s ct + cn

    ``depth / g`` is the depth at which the ray meets the cylinder.
    """
    f = frames(geometry)
    if not f.is_curved:
        return np.zeros((f.views, 6))
    side, depth = rays.source_of_tangent(f)
    width = np.linalg.norm(f.u, axis=1)
    ct, cn = -side, depth - f.radius
    # The ray through column t runs from the source at column c0 + side / width.
    ds = width / depth
    return np.stack(
        [-(f.c0 + side / width) * ds, ds, ct, cn, f.radius**2 - ct**2 - cn**2, depth], -1
    )


def demagnification(curvature: Array, t: Array) -> Array:
    """``g`` of rows of :func:`curvatures` ``(n, 6)`` at ``t (n, ...)``; 1 where it is flat."""
    s0, ds, ct, cn, k, depth = (c.reshape(-1, *[1] * (t.ndim - 1)) for c in curvature.T)
    s = s0 + ds * t
    q, r = s * ct + cn, 1 + s * s
    root = np.sqrt(q * q + k * r)
    return np.asarray(np.where(depth > 0, depth * r / np.where(depth > 0, q + root, 1.0), 1.0))


def path_tables(grid: Grid, geometry: VolumeGeometry) -> Array:
    """Table ``(views, columns, 2)`` of ``(length, climb)``.

    ``length`` is the path in mm per step in the plane.  A ray to the height ``z`` over the source,
    in voxels on the detector, is longer by ``sqrt(1 + (climb z)^2)``; 0 for parallel rays.
    """
    f = frames(geometry)
    length = rays.plane_lengths(grid, geometry)
    climb = np.zeros_like(length)
    if f.source is not None:
        climb = grid.spacing[0] / _cell_distances(f, geometry)
    return np.stack([length, climb], -1)


def _cell_distances(f: Frames, geometry: VolumeGeometry) -> Array:
    """Distance in the plane from source to cell, ``(views, columns)``, mm."""
    cells = f.cells(0, np.arange(f.columns))[..., :2]
    source = np.zeros((f.views, 3)) if f.source is None else f.source
    return np.asarray(np.linalg.norm(cells - source[:, None, :2], axis=-1))
