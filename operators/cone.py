"""Circular cone-beam projection of a volume."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.geometry.ct import ConeBeam
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.base import LinearOperator
from medrecon.operators.kernels import footprint
from medrecon.operators.kernels.compile import empty, launch, to_array


@dataclass(frozen=True, eq=False)
class ConeProjector(LinearOperator):
    """Line integrals of a volume on a flat detector, averaged over its cells.

    Distance-driven with separable footprints: the share of a voxel in a cell is its overlap with
    the cell's shadow in the plane, times its overlap along z, times the path per step; the exact
    transpose gathers with the same numbers.  ``(*batch, z, y, x)`` in 1/mm to
    ``(*batch, views, rows, columns)``, dimensionless.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        The scanner.

    Raises
    ------
    InconsistentError
        If the grid is not axial or reaches the source.

    References
    ----------
    B. De Man, S. Basu, Phys. Med. Biol. 49 (2004) 2463-2475, doi:10.1088/0031-9155/49/11/024.
    Y. Long, J. A. Fessler, J. M. Balter, IEEE Trans. Med. Imaging 29 (2010) 1839-1850,
    doi:10.1109/TMI.2010.2050898.

    Examples
    --------
    >>> import torch
    >>> from medrecon.geometry.ct import ConeBeam, equiangular
    >>> scanner = ConeBeam(
    ...     angles=equiangular(6), source_to_axis=500, source_to_detector=800,
    ...     rows=5, columns=9, row_spacing=1.6, column_spacing=1.6,
    ... )
    >>> A = ConeProjector(Grid.centred((5, 8, 8), (1, 1, 1)), scanner)
    >>> A(torch.ones(5, 8, 8)).shape
    torch.Size([6, 5, 9])
    """

    grid: Grid
    geometry: ConeBeam

    def __post_init__(self) -> None:
        rays.check_scan(self.grid, self.geometry)

    @property
    def domain(self) -> Space:
        """``(z, y, x)``."""
        return Space(self.grid.shape)

    @property
    def codomain(self) -> Space:
        """``(views, rows, columns)``."""
        return Space((len(self.geometry.angles), self.geometry.rows, self.geometry.columns))

    @cached_property
    def _tables(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        return (
            rays.shadow_rays(self.grid, self.geometry),
            rays.view_matrices(self.grid, self.geometry),
            rays.axial_edges(self.grid, self.geometry),
        )

    @cached_property
    def _lengths(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return rays.path_lengths(self.grid, self.geometry)

    def _forward(self, x: Tensor) -> Tensor:
        return _each(x, self.domain, self.codomain, self._project)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _each(y, self.codomain, self.domain, self._backproject)

    def _project(self, volume: Tensor) -> Tensor:
        sums = _prefix_sums(to_array(volume.permute(1, 2, 0)))
        views, rows, columns = self.codomain.shape
        target = empty((views, columns, rows), sums)
        launch(footprint.forward, sums, *self._tables, target)
        for factor in self._lengths:
            target *= factor
        return torch.from_numpy(target).permute(0, 2, 1)

    def _backproject(self, scan: Tensor) -> Tensor:
        weighted = to_array(scan.permute(0, 2, 1)).copy()
        for factor in self._lengths:
            weighted *= factor
        depth, height, width = self.grid.shape
        target = empty((height, width, depth), weighted)
        launch(footprint.transpose, _prefix_sums(weighted), *self._tables, target)
        return torch.from_numpy(target).permute(2, 0, 1)


def _prefix_sums(values: NDArray[Any]) -> NDArray[Any]:
    sums = empty((*values.shape[:2], values.shape[2] + 1), values)
    launch(footprint.prefix_sums, values, sums)
    return sums


def _each(x: Tensor, inside: Space, outside: Space, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply to every element of a batch ``(*batch, *inside)``, into ``(*batch, *outside)``."""
    batch = x.shape[: x.ndim - inside.ndim]
    result = x.new_empty((math.prod(batch), *outside.shape))
    for element, out in zip(x.reshape(len(result), *inside.shape), result, strict=True):
        out.copy_(apply(element))
    return result.reshape(*batch, *outside.shape)
