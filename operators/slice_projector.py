"""Projection of a stack of slices: parallel beam, fan beam with a flat or an arc detector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.geometry.ct import FanBeam, SliceGeometry
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.base import LinearOperator
from medrecon.operators.kernels import footprint2d, joseph
from medrecon.operators.kernels.engine import run
from medrecon.operators.turns import Turns, turns

Array = NDArray[Any]
Tables = tuple[Array, ...]

# Slices (times turned copies) that go through a kernel together: innermost in memory, so that
# the weights of a ray are worked out once for all of them.
LANES = 64
STREAMED = 16  # the same where a large table streams by: a stack of images has to stay in the cache
FEW = 32  # up to here turned copies cost less than the weights they save

# Shadow of a detector cell on the axis, in pixels, from which footprints describe it better than
# a ray (tests/operators/test_ct_slices_accuracy.py measures both).
COARSE = 1.75


@dataclass(frozen=True)
class Model:
    """How a detector cell weighs pixels.

    Parameters
    ----------
    name
        For people.
    tables
        What the kernels need, for a grid and a scan.
    forward, transpose
        Kernels ``(source, *tables, target)``.
    large
        Whether tables are so large that of quarter turns only the first one's are kept.
    """

    name: str
    tables: Callable[[Grid, SliceGeometry], Tables]
    forward: Callable[..., None]
    transpose: Callable[..., None]
    large: bool = False


def _joseph_tables(grid: Grid, geometry: SliceGeometry) -> Tables:
    table = np.ascontiguousarray(rays.joseph_rays(grid, geometry))
    return table, *_search_tables(grid, geometry, rays.tangents(geometry))


def _footprint_tables(grid: Grid, geometry: SliceGeometry) -> Tables:
    shadows, lengths = rays.shadow_rays(grid, geometry), rays.plane_lengths(grid, geometry)
    table = np.concatenate([shadows, lengths[..., None]], -1)
    return table, *_search_tables(grid, geometry, rays.tangents(geometry, edges=True))


def _search_tables(grid: Grid, geometry: SliceGeometry, on: rays.Tangents) -> Tables:
    """Which columns see a pixel: the same tables for the kernels of the CPU and of the GPU."""
    views = np.ascontiguousarray(rays.view_matrices(grid, geometry))
    return views, on.t, on.lookup, np.stack([on.t_min, on.step], -1), on.pattern


JOSEPH = Model("joseph", _joseph_tables, joseph.forward, joseph.transpose)
FOOTPRINT = Model("footprint", _footprint_tables, footprint2d.forward, footprint2d.transpose)


def model_for(grid: Grid, geometry: SliceGeometry) -> Model:
    """Choose footprints where a detector cell is wider than :data:`COARSE` pixels on the axis.

    Joseph's rays interpolate and are the more accurate where cells are about as wide as pixels;
    rays that are further apart pass pixels by.
    """
    width = geometry.column_spacing
    if isinstance(geometry, FanBeam):
        width *= geometry.source_to_axis / geometry.source_to_detector
    return FOOTPRINT if width > COARSE * max(grid.spacing[1:]) else JOSEPH


@dataclass(frozen=True, eq=False)
class SliceProjector(LinearOperator):
    """Line integrals of every slice along parallel rays or from a point source.

    Joseph's method: a ray is a sum over the columns of pixels it crosses (the rows, if it is
    steeper), interpolated between two neighbours, times its path per column.  Where detector
    cells are coarse: distance-driven footprints, the share of each pixel in a cell's shadow.  The
    exact transpose uses the very same numbers.  ``(*batch, z, y, x)`` in 1/mm to
    ``(*batch, z, views, columns)``, dimensionless; slices do not see each other.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        The scanner: parallel or fan beam.
    model
        :data:`JOSEPH` or :data:`FOOTPRINT`; by default what :func:`model_for` says.

    Raises
    ------
    InconsistentError
        If the grid is not axial or reaches the source.

    References
    ----------
    P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192-196, doi:10.1109/TMI.1982.4307572.
    B. De Man, S. Basu, Phys. Med. Biol. 49 (2004) 2463-2475, doi:10.1088/0031-9155/49/11/024.

    Examples
    --------
    >>> import torch
    >>> from medrecon.geometry.ct import ParallelBeam
    >>> scanner = ParallelBeam(angles=(0.0,), columns=4, column_spacing=2.0)
    >>> A = SliceProjector(Grid.centred((1, 4, 4), (1, 2, 2)), scanner)
    >>> A(torch.ones(1, 4, 4))
    tensor([[[8., 8., 8., 8.]]])
    """

    grid: Grid
    geometry: SliceGeometry
    model: Model | None = None

    def __post_init__(self) -> None:
        rays.check_scan(self.grid, self.geometry)
        if self.model is None:
            object.__setattr__(self, "model", model_for(self.grid, self.geometry))

    @property
    def domain(self) -> Space:
        """``(z, y, x)``."""
        return Space(self.grid.shape)

    @property
    def codomain(self) -> Space:
        """``(z, views, columns)``."""
        return Space((self.grid.shape[0], self.geometry.views, self.geometry.columns))

    @property
    def blocks(self) -> int:
        """One: slices are measured one by one."""
        return 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the tables behind: they are rebuilt where the copy is used."""
        return type(self), (self.grid, self.geometry, self.model)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Nothing here ever changes, so a copy is itself."""
        return self

    @cached_property
    def _turns(self) -> Turns:
        return turns(self.grid, self.geometry)

    @cached_property
    def _tables(self) -> Tables:
        return self._model.tables(self.grid, self.geometry)

    @cached_property
    def _first_tables(self) -> Tables:
        """The tables of the views before the first quarter turn."""
        return self._model.tables(self.grid, self.geometry[: self._turns.views])

    @property
    def _model(self) -> Model:
        return self.model or model_for(self.grid, self.geometry)

    def _forward(self, x: Tensor) -> Tensor:
        plane = (self.geometry.views, self.geometry.columns)
        planes = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
        result = planes.new_empty((len(planes), *plane))
        for some, out, fold in self._chunks(planes, result):
            lanes = self._turns.stack_images(some) if fold else some
            tables = self._first_tables if fold else self._tables
            views = self._turns.views if fold else plane[0]
            shape = (views, plane[1], len(lanes))
            y = run(self._model.forward, lanes.permute(1, 2, 0), *tables, shape=shape)
            y = y.permute(2, 0, 1)
            out.copy_(self._turns.join_views(y) if fold else y)
        return result.reshape(*x.shape[:-2], *plane)

    def _adjoint(self, y: Tensor) -> Tensor:
        plane = self.grid.shape[1:]
        planes = y.reshape(math.prod(y.shape[:-2]), *y.shape[-2:])
        result = planes.new_empty((len(planes), *plane))
        for some, out, fold in self._chunks(planes, result):
            lanes = self._turns.split_views(some) if fold else some
            tables = self._first_tables if fold else self._tables
            shape = (*plane, len(lanes))
            x = run(self._model.transpose, lanes.permute(1, 2, 0), *tables, shape=shape)
            x = x.permute(2, 0, 1)
            out.copy_(self._turns.add_images(x) if fold else x)
        return result.reshape(*y.shape[:-2], *plane)

    def _chunks(self, planes: Tensor, result: Tensor) -> list[tuple[Tensor, Tensor, bool]]:
        """Slices that share a launch, and whether their turned copies fill up its lanes."""
        copies = self._turns.count
        fold = copies > 1 and (self._model.large or len(planes) * copies <= FEW)
        lanes = STREAMED if self._model.large else LANES
        n = max(1, lanes // copies) if fold else lanes
        pairs = zip(torch.split(planes, n), torch.split(result, n), strict=True)
        return [(some, out, fold) for some, out in pairs if len(some)]
