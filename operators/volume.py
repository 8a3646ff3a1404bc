"""The projector of a detector with rows, whatever its pose."""

from __future__ import annotations

from medrecon.geometry.ct import VolumeGeometry
from medrecon.geometry.frames import frames
from medrecon.grid import Grid
from medrecon.operators.cone import ConeProjector
from medrecon.operators.general import RayProjector


def volume_projector(grid: Grid, geometry: VolumeGeometry) -> ConeProjector | RayProjector:
    """Choose separable footprints where the detector's rows are upright, and rays elsewhere.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        Any geometry with rows; a part of its views (``geometry[s::n]``) gives that part of the
        measurements, unless only some of the views have upright rows.

    Raises
    ------
    InconsistentError
        If the grid is not axial or reaches a source.

    Examples
    --------
    >>> from medrecon.geometry.ct import ParallelBeam3D
    >>> scanner = ParallelBeam3D(
    ...     angles=(0.0, 1.0), rows=5, columns=9, row_spacing=1, column_spacing=1
    ... )
    >>> grid = Grid.centred((5, 8, 8), (1, 1, 1))
    >>> type(volume_projector(grid, scanner)).__name__
    'ConeProjector'
    >>> laminograph = scanner.vectors().rotated((1, 0, 0), 0.5)
    >>> type(volume_projector(grid, laminograph)).__name__
    'RayProjector'
    """
    axial = frames(geometry).is_axial
    return ConeProjector(grid, geometry) if axial else RayProjector(grid, geometry)
