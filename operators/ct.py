"""The projector of a CT scan, native or on another backend."""

from __future__ import annotations

from typing import Literal, get_args

from medrecon.errors import UsageError
from medrecon.geometry.ct import CTGeometry, FanBeam, ParallelBeam
from medrecon.grid import Grid
from medrecon.operators import sparse
from medrecon.operators.astra_backend import astra_projector
from medrecon.operators.base import LinearOperator
from medrecon.operators.kernels.engine import On
from medrecon.operators.slice_projector import SliceProjector
from medrecon.operators.volume import volume_projector

Backend = Literal["native", "matrix", "triton", "astra"]


def projector(
    grid: Grid,
    geometry: CTGeometry,
    backend: Backend = "native",
    *,
    applications: int = 0,
) -> LinearOperator:
    """Forward operator of a scan: a volume in 1/mm to dimensionless line integrals.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        Any CT geometry.  Ordered subsets are projectors of a part of the views,
        ``projector(grid, geometry[s::n])``.
    backend
        ``"native"``: matched pairs of this package, on the device of their input; ``"matrix"``:
        the same for slices on the CPU, computed once and kept
        (:func:`medrecon.operators.sparse.sparse_projector`); ``"triton"``: the same by the GPU's
        kernels, whatever the device; ``"astra"``: the ASTRA toolbox (GPL-3), slices on the CPU,
        volumes on an NVIDIA GPU.
    applications
        How often the operator and its adjoint will be applied, where that is known: the native
        backend then keeps the matrix if it pays (:func:`medrecon.operators.sparse.pays`).

    Raises
    ------
    UsageError
        If the backend is unknown or cannot do this geometry.
    MedreconError
        If the backend is not installed.
    ResourceError
        If the backend needs a GPU and finds none, or the matrix does not fit into memory.
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
        *others, last = (repr(b) for b in get_args(Backend))
        known = f"{', '.join(others)} or {last}"
        raise UsageError(f"Unknown projector backend {backend!r}; use {known}.")
    if backend == "astra":
        return astra_projector(grid, geometry)
    native: LinearOperator
    if isinstance(geometry, ParallelBeam | FanBeam):
        store = backend == "matrix" or (
            backend == "native" and sparse.pays(grid, geometry, applications)
        )
        native = (
            sparse.sparse_projector(grid, geometry) if store else SliceProjector(grid, geometry)
        )
    elif backend == "matrix":
        raise UsageError(
            "Matrices are kept for slices only (parallel and fan beam); use the native backend."
        )
    else:
        native = volume_projector(grid, geometry)
    return On("triton", native) if backend == "triton" else native
