"""The projector of a CT scan, native or on another backend."""

from __future__ import annotations

from typing import Literal, get_args

from medrecon.errors import UsageError
from medrecon.geometry.ct import CTGeometry, FanBeam, ParallelBeam
from medrecon.grid import Grid
from medrecon.operators.astra_backend import astra_projector
from medrecon.operators.base import LinearOperator
from medrecon.operators.fan import FanProjector
from medrecon.operators.parallel import ParallelProjector
from medrecon.operators.volume import volume_projector

Backend = Literal["native", "astra"]


def projector(grid: Grid, geometry: CTGeometry, backend: Backend = "native") -> LinearOperator:
    """Forward operator of a scan: a volume in 1/mm to dimensionless line integrals.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        Any scanner of :mod:`medrecon.geometry`.
    backend
        ``"native"``: matched pairs of this package; ``"astra"``: the ASTRA toolbox (GPL-3), slices
        on the CPU, volumes on an NVIDIA GPU.

    Raises
    ------
    UsageError
        If the backend is unknown or cannot do this geometry.
    MedreconError
        If the backend is not installed.
    ResourceError
        If the backend needs a GPU and finds none.
    InconsistentError
        If the grid does not fit the scan.

    Examples
    --------
    >>> from medrecon.geometry.ct import ParallelBeam
    >>> scanner = ParallelBeam(angles=(0.0, 0.5), columns=12, column_spacing=1.0)
    >>> projector(Grid.centred((3, 8, 8), (2, 1, 1)), scanner).codomain.shape
    (3, 2, 12)
    """
    if backend not in get_args(Backend):
        known = " or ".join(repr(b) for b in get_args(Backend))
        raise UsageError(f"Unknown projector backend {backend!r}; use {known}.")
    if backend == "astra":
        return astra_projector(grid, geometry)
    if isinstance(geometry, ParallelBeam):
        return ParallelProjector(grid, geometry)
    if isinstance(geometry, FanBeam):
        return FanProjector(grid, geometry)
    return volume_projector(grid, geometry)
