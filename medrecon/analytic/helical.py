"""Weighted filtered back-projection of helical cone-beam scans."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.analytic.backprojection import each_scan, index_to_plane
from medrecon.analytic.parallel import Parallel, Sampling, parallel_rays, sampling_of
from medrecon.analytic.ramp import Window, filter_rows
from medrecon.arrays import Space
from medrecon.geometry.ct import ConeBeam, ConeVectors
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.kernels import interpolation
from medrecon.operators.kernels.engine import run

Array = NDArray[np.float64]

# Rows nearer to the middle than this part of the detector count fully, the others less and less.
FULL = 0.5
# The longest pattern of a flying focal spot that is recognised, views.
LONGEST_PATTERN = 8


def helical(
    measurements: Tensor,
    geometry: ConeBeam | ConeVectors,
    grid: Grid,
    window: Window | str = "ramlak",
) -> Tensor:
    """Reconstruct a helical scan by weighted filtered back-projection.

    Fans are sorted into parallel projections row by row, each filtered by the ramp, and projected
    back along the measured cone of rays::

        mu(p) = pi / n  sum_t  sum_k W(q_k) (h * y_(t + k pi))(p) / sum_k W(q_k)

    over the n directions t of half a turn; k runs over the half turns that saw p in this
    direction, and W falls to 0 towards the first and last row q.  What was seen more often than
    needed (small pitches) is averaged.  Approximate in the cone angle, as every method that
    filters row by row: meant as a start and a baseline.

    A voxel at ``r`` mm from the axis is seen in every direction up to a feed per turn of
    ``2 (1 - r / R)`` times the detector's height at the axis; directions that did not see it are
    missing, so slices within about half a turn of the scan's ends come out too low.

    Parameters
    ----------
    measurements
        Line integrals ``(*batch, views, rows, columns)``, dimensionless.
    geometry
        The scanner, views in the order of the scan; its heights may grow unevenly.  A focal spot
        that flies in a pattern is sorted position by position.
    grid
        Axial grid of the volume.
    window
        ``"ramlak"``, ``"shepp-logan"``, ``"cosine"`` or ``"hann"``.

    Returns
    -------
    Tensor
        Attenuation ``(*batch, z, y, x)``, 1/mm, with the device and precision of the input.

    Raises
    ------
    InconsistentError
        If measurements, geometry and grid do not fit each other, the scan is too short, does not
        turn one way, or its detector is one-sided.
    UsageError
        If the window is unknown.

    References
    ----------
    K. Stierstorfer et al., Phys. Med. Biol. 49 (2004) 2209-2218,
    doi:10.1088/0031-9155/49/11/007.
    """
    rays.check_scan(grid, geometry)
    spots = _spots(geometry)
    sampling = sampling_of(geometry[::spots])
    scans = [parallel_rays(geometry[spot::spots], sampling) for spot in range(spots)]

    def one(y: Tensor) -> Tensor:
        parts = [scan.sorted(y[spot::spots]) for spot, scan in enumerate(scans)]
        filtered = [filter_rows(part, sampling.spacing, window) for part in parts]
        return _backproject(torch.cat(filtered).transpose(1, 2), scans, sampling, grid)

    space = Space((geometry.views, geometry.rows, geometry.columns))
    return each_scan(one, measurements, space, grid, "helical")


def _spots(geometry: ConeBeam | ConeVectors) -> int:
    """After how many views the focal spot is back."""
    shifts = geometry.focal_shifts if isinstance(geometry, ConeBeam) else ()
    for period in range(1, min(LONGEST_PATTERN, len(shifts) // 2) + 1):
        if shifts[period:] == shifts[:-period]:
            return period
    return 1


def _backproject(filtered: Tensor, scans: list[Parallel], sampling: Sampling, grid: Grid) -> Tensor:
    """Parallel projections ``(projections, columns, rows)`` of all spots into the volume."""
    number = np.concatenate([scan.number for scan in scans])
    half_turn, direction = np.divmod(number, sampling.half)
    order = np.argsort(direction, kind="stable")
    table = np.concatenate([scan.rays(grid.origin[2], grid.spacing[0]) for scan in scans])
    source = filtered[torch.from_numpy(order).to(filtered.device)]
    depth, height, width = grid.shape
    weights = torch.from_numpy(_row_weights(source.shape[2])).to(source.dtype).numpy()
    volume = run(
        interpolation.helix,
        source,
        np.searchsorted(direction[order], np.arange(sampling.half + 1)),
        np.where(half_turn[order] % 2 == 0, 1.0, -1.0),
        _directions(sampling, scans[0].orbit.center, grid),
        np.ascontiguousarray(table[order]),
        weights,
        shape=(height, width, depth),
    )
    return volume.permute(2, 0, 1) * (math.pi / sampling.half)


def _directions(sampling: Sampling, center: Array, grid: Grid) -> Array:
    """Table ``views`` of the kernel."""
    theta = np.arange(sampling.half) * math.pi / sampling.half
    across = np.stack([np.cos(theta), np.sin(theta)], -1) / sampling.spacing
    along = np.stack([-np.sin(theta), np.cos(theta)], -1)
    pairs = np.stack([across, along], 1)
    table = pairs @ index_to_plane(grid)
    table[..., 0] -= pairs @ center[:2]
    return np.ascontiguousarray(table)


def _row_weights(rows: int) -> Array:
    """Table ``weights`` of the kernel: 1 in the middle of the detector, 0 beyond its ends."""
    q = np.abs(np.arange(-1, rows + 1) - (rows - 1) / 2) / (rows / 2)
    return np.asarray(np.cos(np.clip((q - FULL) / (1 - FULL), 0.0, 1.0) * math.pi / 2) ** 2)
