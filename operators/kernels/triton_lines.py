"""Rays of any direction as tables on the device, and the search for those that pass a voxel.

A ray crosses the planes across its main axis at ``(b0 + db q, c0 + dc q)``.  Both directions read
these four numbers, in fixed point, from one table, which is worked out in double precision for as
many views at a time as fit into a stated room.

For the search every view gets a flat detector through its first and last column: a voxel falls on
``(t, s) = (U . p / W . p, V . p / W . p)`` with ``p = (1, x, y, z)``, column ``c`` stands at
``t[c]`` and its row ``r`` at ``s = (shift[c] + r) / scale[c]``.  On a flat detector ``t[c] = c``,
``scale = 1`` and ``shift = 0``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.triton_tools import FARTHEST, FRACTION

Array = NDArray[np.float64]
Index = NDArray[np.int32]

ROOM = 2**20  # rays whose table is on the device at a time


def ray_table(lines: Tensor, steps: Tensor, spacing: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Work out how the rays of some views cross the planes of voxels.

    Parameters
    ----------
    lines, steps
        Of :func:`medrecon.operators.lines.line_tables`, ``(views, columns, 6)``, ``(views, 6)``,
        float64 on the device.
    spacing
        Of the grid along x, y, z, mm.
    rows
        Rays along a column.

    Returns
    -------
    (table, path)
        ``(views, columns, rows, 5)`` int64: ``b0, db, c0, dc`` in units of 2^-32 voxels and the
        main axis; ``(views, columns, rows)``: mm from plane to plane.
    """
    r = torch.arange(rows, dtype=torch.float64, device=lines.device)[:, None]
    every = lines[:, :, None, :] + steps[:, None, None, :] * r
    point, along = every[..., :3], every[..., 3:]
    size = along.abs()
    x, y, z = size.unbind(-1)
    axis = torch.where((x >= y) & (x >= z), 0, torch.where(y >= z, 1, 2))
    orders = torch.tensor([[0, 1, 2], [1, 0, 2], [2, 1, 0]], device=lines.device)[axis]
    point, along = point.gather(-1, orders), along.gather(-1, orders)
    slope = along[..., 1:] / along[..., :1]
    start = point[..., 1:] - point[..., :1] * slope
    path = (every[..., 3:] * spacing).norm(dim=-1) / along[..., 0].abs()
    numbers = torch.stack([start[..., 0], slope[..., 0], start[..., 1], slope[..., 1]], -1)
    whole = (numbers.clamp(-FARTHEST, FARTHEST) * 2.0**FRACTION).round().to(torch.int64)
    return torch.cat([whole, axis[..., None]], -1), path


@dataclass(frozen=True, eq=False)
class Projection:
    """Where voxels and cells fall on the flat detectors of the search.

    Parameters
    ----------
    matrices
        ``U, V, W`` per view, ``(views, 3, 4)``.
    t, scale, shift
        Of the columns, ``(views, columns)``.
    """

    matrices: Array
    t: Array
    scale: Array
    shift: Array

    def reach(self, shape: tuple[int, int, int]) -> tuple[float, float]:
        """Bound how far from a voxel's own ``(t, s)`` rays give it a weight.

        Parameters
        ----------
        shape
            Voxels along x, y, z.

        Notes
        -----
        Weights end one voxel away along the two axes across the main one, so the axis along which
        a voxel moves least counts for nothing.
        """
        corners = np.array([(1, *c) for c in itertools.product(*((0, n - 1) for n in shape))])
        U, V, W = np.moveaxis(self.matrices, 1, 0)
        depth = W @ corners.T
        least = depth.min(1) - np.abs(W[:, 1:]).sum(1)
        ends = []
        for A in (U, V):
            at = (A @ corners.T) / depth
            moves = [np.abs(A[:, 1:] - e[:, None] * W[:, 1:]) for e in (at.min(1), at.max(1))]
            widest = np.max([m.sum(1) - m.min(1) for m in moves], axis=0)
            ends.append(float((widest / least).max()))
        return ends[0], ends[1]


def projection(lines: Array, steps: Array) -> Projection:
    """Lay a flat detector through the first and the last column of every view."""
    columns = lines.shape[1]
    parallel = not steps[:, 3:].any()
    along = lines[:, 0, 3:]
    origin = lines[:, 0, :3]
    cells = lines[..., :3] - origin[:, None] if parallel else lines[..., 3:]
    up = steps[:, :3] if parallel else steps[:, 3:]
    if columns > 1:
        across = (cells[:, -1] - cells[:, 0]) / (columns - 1)
    else:
        across = np.cross(along, up) / np.linalg.norm(along, axis=1, keepdims=True)
    inverse = np.linalg.inv(np.stack([along, across, up], -1))
    parts = np.einsum("vkd,vcd->kvc", inverse, cells)
    scale = np.ones_like(parts[0]) if parallel else parts[0]
    offset = -np.einsum("vkd,vd->vk", inverse, origin)
    W, U, V = np.moveaxis(np.concatenate([offset[..., None], inverse], -1), 1, 0)
    if parallel:
        W = np.broadcast_to([1.0, 0.0, 0.0, 0.0], U.shape)
    return Projection(np.stack([U, V, W], 1), parts[1] / scale, scale, parts[2])


def lookup(t: Array) -> tuple[Index, NDArray[np.float32]]:
    """First column at each of evenly spaced marks, and where they begin, entries per column."""
    n = t.shape[1]
    step = (t[:, -1:] - t[:, :1]) / (n - 1) if n > 1 else np.ones((len(t), 1))
    marks = t[:, :1] + np.arange(n) * step
    found = [np.searchsorted(row, mark - 1e-9) for row, mark in zip(t, marks, strict=True)]
    start = np.concatenate([t[:, :1], 1 / step], -1)
    return np.minimum(found, n - 1).astype(np.int32), start.astype(np.float32)
