"""Cone-beam and parallel projection of a volume along rays of any direction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.grid import Grid
from medrecon.operators import lines, rays
from medrecon.operators.kernels import joseph3d
from medrecon.operators.kernels.compile import launch
from medrecon.operators.volume_operator import VolumeOperator


@dataclass(frozen=True, eq=False)
class RayProjector(VolumeOperator):
    """Line integrals of a volume along any rays: tilted gantries, C-arms, laminography.

    Joseph's method: a ray is a sum over the planes of voxels that it crosses along its main axis,
    interpolated between four neighbours, times its path per plane; the exact transpose spreads
    with the same numbers.  Cells that are coarse against the voxels measure the mean of several
    rays, see :func:`medrecon.operators.lines.samples_per_cell`.  ``(*batch, z, y, x)`` in 1/mm to
    ``(*batch, views, rows, columns)``, dimensionless.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        The scanner; detectors with upright rows are faster with
        :class:`medrecon.operators.cone.ConeProjector`.

    whole
        The grid of which this one is a slab, if so: it decides how many rays a cell takes.

    Raises
    ------
    InconsistentError
        If the grid is not axial or reaches the plane of a source.

    References
    ----------
    P. M. Joseph, IEEE Trans. Med. Imaging 1 (1982) 192-196, doi:10.1109/TMI.1982.4307572.

    Examples
    --------
    >>> import torch
    >>> from medrecon.geometry.ct import ConeBeam, equiangular
    >>> scanner = ConeBeam(
    ...     angles=equiangular(6), source_to_axis=500, source_to_detector=800,
    ...     rows=5, columns=9, row_spacing=1.6, column_spacing=1.6,
    ... ).vectors().rotated((1, 0, 0), 0.2)
    >>> A = RayProjector(Grid.centred((5, 8, 8), (1, 1, 1)), scanner)
    >>> A(torch.ones(5, 8, 8)).shape
    torch.Size([6, 5, 9])
    """

    KERNELS = (joseph3d.forward, joseph3d.transpose)

    whole: Grid | None = None

    def __post_init__(self) -> None:
        rays.check_scan(self.grid, self.geometry)

    @cached_property
    def _tables(self) -> tuple[NDArray[Any], ...]:
        """As the kernels take them."""
        samples = lines.samples_per_cell(self.whole or self.grid, self.geometry)
        table, steps = lines.line_tables(self.grid, self.geometry, samples)
        spacing, shape = np.array(self.grid.spacing[::-1]), np.array(self.grid.shape[::-1])
        used = np.zeros((self.geometry.views, 3), np.bool_)
        cells = np.array([self.geometry.columns, self.geometry.rows])
        launch(joseph3d.axes, table, steps, spacing, shape, samples, cells, used)
        return table, steps, spacing, used, samples
