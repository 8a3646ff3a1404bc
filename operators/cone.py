"""Cone-beam and parallel projection of a volume onto a detector with upright rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry.frames import frames
from medrecon.operators import axial, rays
from medrecon.operators.kernels import footprint
from medrecon.operators.volume_operator import VolumeOperator

Table = NDArray[Any]


@dataclass(frozen=True, eq=False)
class ConeProjector(VolumeOperator):
    """Line integrals of a volume on a detector whose rows step along z, averaged over its cells.

    Distance-driven with separable footprints: the share of a voxel in a cell is its overlap with
    the cell's shadow in the plane, times its overlap along z, times the path per step; the exact
    transpose gathers with the same numbers.  Cone beams on a circle or a helix, with a flat or a
    cylindrical detector and a flying focal spot, parallel beams, and any per-view vectors that
    keep the rows upright.  ``(*batch, z, y, x)`` in 1/mm to ``(*batch, views, rows, columns)``,
    dimensionless.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        The scanner; its frames must be axial.

    Raises
    ------
    InconsistentError
        If the grid is not axial or reaches the source, or the detector's rows are tilted.

    References
    ----------
    B. De Man, S. Basu, Phys. Med. Biol. 49 (2004) 2463-2475, doi:10.1088/0031-9155/49/11/024.
    Y. Long, J. A. Fessler, J. M. Balter, IEEE Trans. Med. Imaging 29 (2010) 1839-1850,
    doi:10.1109/TMI.2010.2050898.

    Examples
    --------
    >>> import torch
    >>> from medrecon.geometry.ct import ConeBeam, equiangular
    >>> from medrecon.grid import Grid
    >>> scanner = ConeBeam(
    ...     angles=equiangular(6), source_to_axis=500, source_to_detector=800,
    ...     rows=5, columns=9, row_spacing=1.6, column_spacing=1.6,
    ... )
    >>> A = ConeProjector(Grid.centred((5, 8, 8), (1, 1, 1)), scanner)
    >>> A(torch.ones(5, 8, 8)).shape
    torch.Size([6, 5, 9])
    """

    KERNELS = (footprint.forward, footprint.transpose)

    def __post_init__(self) -> None:
        rays.check_scan(self.grid, self.geometry)
        if not frames(self.geometry).is_axial:
            raise InconsistentError(
                "Footprints need detector rows that step along z and columns perpendicular to it; "
                "project tilted detectors with RayProjector."
            )

    @cached_property
    def _tables(self) -> tuple[Table, ...]:
        """In the plane, along z, on the detector: as the kernels take them."""
        edges = rays.tangents(self.geometry, edges=True)
        return (
            rays.shadow_rays(self.grid, self.geometry),
            rays.view_matrices(self.grid, self.geometry),
            axial.row_shadows(self.grid, self.geometry),
            axial.curvatures(self.geometry),
            axial.path_tables(self.grid, self.geometry),
            edges.t,
            edges.lookup,
            np.stack([edges.t_min, edges.step], -1),
            edges.pattern,
        )
