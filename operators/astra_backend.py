"""Projectors computed by the ASTRA toolbox behind our interface: slices on the CPU, 3D on a GPU."""

from __future__ import annotations

from typing import get_args

from medrecon.geometry import CTGeometry, SliceGeometry
from medrecon.grid import Grid
from medrecon.operators.astra_slices import AstraProjector
from medrecon.operators.astra_volume import AstraVolumeProjector
from medrecon.operators.base import LinearOperator


def astra_projector(grid: Grid, geometry: CTGeometry) -> LinearOperator:
    """Projector of ASTRA for any geometry: on the CPU slice by slice, on a GPU for volumes.

    Raises
    ------
    MedreconError
        If ASTRA is not installed.
    ResourceError
        If the geometry needs a GPU and ASTRA sees none.
    UsageError
        If ASTRA cannot do this grid or geometry.
    InconsistentError
        If the grid does not fit the scan.
    """
    if isinstance(geometry, get_args(SliceGeometry)):
        return AstraProjector(grid, geometry)
    return AstraVolumeProjector(grid, geometry)  # type: ignore[arg-type]
