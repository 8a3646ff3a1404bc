"""Projection of volumes that are larger than a device: slabs of slices times chunks of views.

Volume and measurements stay where they are, in host memory.  A slab of the volume and a chunk of
views travel to the device, meet there and go back; every weight belongs to one voxel and one
cell, so the sum over tiles is the operator itself, up to the rounding of another order of sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import EllipsisType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError, ResourceError
from medrecon.geometry.ct import CTGeometry, SliceGeometry, VolumeGeometry
from medrecon.geometry.frames import frames
from medrecon.grid import Grid
from medrecon.operators.base import LinearOperator
from medrecon.operators.cone import ConeProjector
from medrecon.operators.general import RayProjector
from medrecon.operators.slice_projector import SliceProjector

Array = NDArray[np.float64]

COPIES = 3  # of a slab and of a chunk that an application holds: sum, tile, and in kernel order
TABLES = 16  # numbers of 8 bytes per view and column


def memory_bound(
    grid: Grid, geometry: CTGeometry, slab: int, chunk: int, *, dtype: torch.dtype = torch.float32
) -> int:
    """Bytes on the device that one application of a :class:`TiledProjector` needs at most.

    Parameters
    ----------
    grid, geometry
        The whole scan.
    slab
        Slices that are on the device at a time.
    chunk
        Views that are on the device at a time.
    dtype
        Of the data.
    """
    slab, chunk = min(slab, grid.shape[0]), min(chunk, geometry.views)
    per_slice, per_view = _sizes(grid, geometry, slab)
    item = COPIES * dtype.itemsize
    return item * slab * per_slice + chunk * (item * per_view + 8 * TABLES * geometry.columns)


def _sizes(grid: Grid, geometry: CTGeometry, slab: int) -> tuple[int, int]:
    """Voxels of a slice, and cells of a view that a slab meets."""
    rows = slab if isinstance(geometry, SliceGeometry) else geometry.rows
    return grid.shape[1] * grid.shape[2], rows * geometry.columns


@dataclass(frozen=True, eq=False)
class TiledProjector(LinearOperator):
    """A projector that keeps no more than a slab of slices and a chunk of views on a device.

    Parameters
    ----------
    grid, geometry
        The whole scan, see :func:`medrecon.operators.ct.projector`.
    device
        Where to compute, e.g. ``"cuda"``; input and result may be in host memory.
    slab
        Slices on the device at a time.
    chunk
        Views on the device at a time.

    Raises
    ------
    InconsistentError
        If the sizes are not positive, or the grid does not fit the scan.

    Examples
    --------
    >>> import torch
    >>> from medrecon.geometry.ct import ConeBeam, equiangular
    >>> scanner = ConeBeam(
    ...     angles=equiangular(6), source_to_axis=500, source_to_detector=800,
    ...     rows=5, columns=9, row_spacing=1.6, column_spacing=1.6,
    ... )
    >>> grid = Grid.centred((5, 8, 8), (1, 1, 1))
    >>> A = TiledProjector(grid, scanner, slab=2, chunk=4)
    >>> A(torch.ones(5, 8, 8)).shape
    torch.Size([6, 5, 9])
    """

    grid: Grid
    geometry: CTGeometry
    device: str = "cpu"
    slab: int = 64
    chunk: int = 64

    def __post_init__(self) -> None:
        if self.slab < 1 or self.chunk < 1:
            raise InconsistentError(
                f"A tile needs at least one slice and one view, got {self.slab} and {self.chunk}."
            )
        self._tile(slice(None), slice(0, self.grid.shape[0]))  # refuses what cannot be scanned

    @classmethod
    def within(
        cls, memory: int, grid: Grid, geometry: CTGeometry, device: str = "cpu"
    ) -> TiledProjector:
        """Choose tiles whose :func:`memory_bound` in float32 is at most ``memory`` bytes.

        Raises
        ------
        ResourceError
            If one slice and one view are too much.
        """
        slab, chunk = grid.shape[0], geometry.views
        while (need := memory_bound(grid, geometry, slab, chunk)) > memory:
            if slab == chunk == 1:
                raise ResourceError(
                    f"One slice and one view need {need} bytes on the device, more than {memory}."
                )
            by_slices = memory_bound(grid, geometry, slab, 1)
            slab, chunk = (
                ((slab + 1) // 2, chunk)
                if slab > 1 and (chunk == 1 or 2 * by_slices > need)
                else (slab, (chunk + 1) // 2)
            )
        return cls(grid, geometry, device, slab, chunk)

    @property
    def domain(self) -> Space:
        """``(z, y, x)``."""
        return Space(self.grid.shape)

    @property
    def codomain(self) -> Space:
        """``(views, rows, columns)``, or ``(z, views, columns)`` for slices."""
        g = self.geometry
        if isinstance(g, SliceGeometry):
            return Space((self.grid.shape[0], g.views, g.columns))
        return Space((g.views, g.rows, g.columns))

    @property
    def blocks(self) -> int:
        """One for slices, which are measured one by one."""
        return int(isinstance(self.geometry, SliceGeometry))

    def _forward(self, x: Tensor) -> Tensor:
        batch = x.shape[: x.ndim - 3]
        result = x.new_zeros(*batch, *self.codomain.shape)
        for views in self._chunks():
            for slices in self._slabs(views):
                part = x[..., slices, :, :].to(self.device)
                cells = result[self._cells(views, slices)]
                cells += self._tile(views, slices)._forward(part).to(x.device)
        return result

    def _adjoint(self, y: Tensor) -> Tensor:
        batch = y.shape[: y.ndim - 3]
        result = y.new_zeros(*batch, *self.grid.shape)
        for views in self._chunks():
            for slices in self._slabs(views):
                part = y[self._cells(views, slices)].to(self.device)
                result[..., slices, :, :] += self._tile(views, slices)._adjoint(part).to(y.device)
        return result

    def _tile(self, views: slice, slices: slice) -> LinearOperator:
        """Build the projector of a tile, anew: no tables of others stay on the device."""
        grid, part = self.grid.slab(slices.start, slices.stop), self.geometry[views]
        if isinstance(part, SliceGeometry):
            return SliceProjector(grid, part)
        # What the whole scan needs, a part gets as well: they must be the same operator.
        if frames(self.geometry).is_axial:
            return ConeProjector(grid, part)
        return RayProjector(grid, part, whole=self.grid)

    def _cells(self, views: slice, slices: slice) -> tuple[EllipsisType | slice, ...]:
        """Where a tile's measurements are."""
        if isinstance(self.geometry, SliceGeometry):
            return ..., slices, views, slice(None)
        return ..., views, slice(None), slice(None)

    def _chunks(self) -> Iterator[slice]:
        yield from _pieces(0, self.geometry.views, self.chunk)

    def _slabs(self, views: slice) -> Iterator[slice]:
        """Slabs that the views see: along a helix a few."""
        low, high = 0, self.grid.shape[0]
        if not isinstance(self.geometry, SliceGeometry):
            seen = self._seen[views]
            low, high = max(low, int(seen[:, 0].min())), min(high, int(seen[:, 1].max()))
        yield from _pieces(low, high, self.slab)

    @cached_property
    def _seen(self) -> NDArray[np.int64]:
        return seen_slices(self.grid, self.geometry)  # type: ignore[arg-type]


def _pieces(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def seen_slices(grid: Grid, geometry: VolumeGeometry) -> NDArray[np.int64]:
    """First slice that each view sees and the one after the last, ``(views, 2)``.

    A bound, with one slice to spare: rays of the detector's outermost edges, where they are as
    near to and as far from the source as any voxel can be.
    """
    f = frames(geometry)
    edges = f.cells(np.array([[-0.5], [f.rows - 0.5]]), np.arange(f.columns + 1.0) - 0.5)
    edges = edges.reshape(f.views, -1, 3)
    z = edges[..., 2]
    if f.source is not None:
        ways = np.einsum("vcd,vd->vc", f.source[:, None] - edges, f.normal)
        near, far = _depths(grid, f.source, f.normal)
        climb, source = z - f.source[:, 2:], f.source[:, 2:]
        nearest, farthest = near / ways.max(1), far / ways.min(1)
        z = np.concatenate([source + climb * w[:, None] for w in (nearest, farthest)], 1)
    low, high = z.min(1), z.max(1)
    if f.direction is not None:
        climbs = np.abs(f.direction[:, 2]) > 0
        low, high = np.where(climbs, -np.inf, low), np.where(climbs, np.inf, high)
    bottom, spacing, n = grid.origin[2] - grid.spacing[0] / 2, grid.spacing[0], grid.shape[0]
    first = np.floor(np.clip((low - bottom) / spacing - 1, 0, n))
    last = np.ceil(np.clip((high - bottom) / spacing + 1, 0, n))
    return np.stack([first, last], -1).astype(np.int64)


def _depths(grid: Grid, source: Array, normal: Array) -> tuple[Array, Array]:
    """Depth in mm below the source of the grid's nearest and farthest corner, each ``(views,)``."""
    middle = np.array(grid.center)
    half = np.array(grid.shape[::-1]) / 2 * np.array(grid.spacing[::-1])
    depth = np.sum((source - middle) * normal, 1)
    return depth - np.abs(normal) @ half, depth + np.abs(normal) @ half
