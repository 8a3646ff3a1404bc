"""Parallel-beam projection of a stack of slices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.geometry.ct import ParallelBeam
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.base import LinearOperator
from medrecon.operators.kernels import joseph
from medrecon.operators.slices import map_slices


@dataclass(frozen=True, eq=False)
class ParallelProjector(LinearOperator):
    """Line integrals of every slice along parallel rays.

    Joseph's method: a ray is a sum over the columns of pixels it crosses (the rows, if it is
    steeper), interpolated between two neighbours, times its path per column; the exact transpose
    gathers with the same numbers.  ``(*batch, z, y, x)`` in 1/mm to
    ``(*batch, z, views, columns)``, dimensionless; slices do not see each other.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        The scanner.

    Raises
    ------
    InconsistentError
        If the grid is not axial.

    References
    ----------
    P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192-196, doi:10.1109/TMI.1982.4307572.

    Examples
    --------
    >>> import torch
    >>> from medrecon.geometry.ct import ParallelBeam
    >>> scanner = ParallelBeam(angles=(0.0,), columns=4, column_spacing=2.0)
    >>> A = ParallelProjector(Grid.centred((1, 4, 4), (1, 2, 2)), scanner)
    >>> A(torch.ones(1, 4, 4))
    tensor([[[8., 8., 8., 8.]]])
    """

    grid: Grid
    geometry: ParallelBeam

    def __post_init__(self) -> None:
        rays.check_scan(self.grid, self.geometry)

    @property
    def domain(self) -> Space:
        """``(z, y, x)``."""
        return Space(self.grid.shape)

    @property
    def codomain(self) -> Space:
        """``(z, views, columns)``."""
        return Space((self.grid.shape[0], len(self.geometry.angles), self.geometry.columns))

    @property
    def blocks(self) -> int:
        """One: slices are measured one by one."""
        return 1

    @cached_property
    def _rays(self) -> NDArray[np.float64]:
        return rays.joseph_rays(self.grid, self.geometry)

    @cached_property
    def _views(self) -> NDArray[np.float64]:
        return rays.view_matrices(self.grid, self.geometry)

    def _forward(self, x: Tensor) -> Tensor:
        plane = (len(self.geometry.angles), self.geometry.columns)
        return map_slices(joseph.forward, x, plane, self._rays)

    def _adjoint(self, y: Tensor) -> Tensor:
        plane = self.grid.shape[1:]
        return map_slices(joseph.transpose, y, plane, self._rays, self._views)
