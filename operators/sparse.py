"""The matrix of a slice projector, computed once and kept in memory.

For a fixed scan of slices the weights of every ray can be stored as a sparse matrix and its
transpose.  They are those of the kernels that compute them on the fly, rounded to single
precision, so the results are the same.  Of a scan that repeats itself in quarter turns
(:mod:`medrecon.operators.turns`) only the first turn is stored.

Whether it pays is a matter of slices (:func:`pays`): the weights of a few cost more than their
products, those of many next to nothing, while a matrix has to be read from memory every time.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from medrecon.errors import ResourceError
from medrecon.geometry.ct import SliceGeometry
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.kernels import entries, joseph, matrix
from medrecon.operators.kernels.compile import launch
from medrecon.operators.kernels.footprint2d import most_taps
from medrecon.operators.memory import free_memory
from medrecon.operators.slice_projector import Model, SliceProjector, Tables, model_for
from medrecon.operators.turns import turns

Array = NDArray[Any]

WORTH = 600  # applications to a slice in which a matrix saves what it took to compute
MOST = 4  # slices


def sparse_projector(
    grid: Grid, geometry: SliceGeometry, model: Model | None = None
) -> SliceProjector:
    """Project slices by a stored matrix, which is computed at the first use.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        The scanner: parallel or fan beam.
    model
        Whose weights to store; by default what
        :func:`~medrecon.operators.slice_projector.model_for` says.

    Returns
    -------
    SliceProjector
        Copies and pickles leave the matrix behind.  Weights have single precision, also for data
        in double precision; the adjoint is exact in both.

    Raises
    ------
    InconsistentError
        If the grid is not axial or reaches the source.
    ResourceError
        If matrix and transpose would take more than the memory that is free now.

    Examples
    --------
    >>> import torch
    >>> from medrecon.geometry.ct import ParallelBeam
    >>> scanner = ParallelBeam(angles=(0.0,), columns=4, column_spacing=2.0)
    >>> A = sparse_projector(Grid.centred((1, 4, 4), (1, 2, 2)), scanner)
    >>> A(torch.ones(1, 4, 4))
    tensor([[[8., 8., 8., 8.]]])
    """
    rays.check_scan(grid, geometry)
    need, free = sparse_bytes(grid, geometry, model), free_memory()
    if need > free:
        raise ResourceError(
            f"The matrix of this scan and its transpose take {need / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free; compute the weights on the fly instead."
        )
    stored = model or model_for(grid, geometry)
    name, tables = f"matrix of {stored.name}", partial(_tables, stored)
    kept = Model(name, tables, matrix.forward, matrix.transpose, large=True)
    return SliceProjector(grid, geometry, kept)


def pays(grid: Grid, geometry: SliceGeometry, applications: int) -> bool:
    """Whether keeping the matrix saves time on the CPU, all in all.

    It does for one to four slices whose scan repeats itself in quarter turns: there it saves a
    fifth to a quarter of the time, and computing it takes as long as 300 to 600 applications to
    one slice save.  It has to take less than half of the free memory.  For more slices, working
    out the weights costs less than reading them (docs/benchmarks.md has the figures).

    Parameters
    ----------
    grid, geometry
        The slices and their scan.
    applications
        Of the operator and its adjoint, in all.
    """
    slices = grid.shape[0]
    if slices > MOST or slices * applications < WORTH or turns(grid, geometry).count < 4:
        return False
    return sparse_bytes(grid, geometry) < free_memory() / 2


def sparse_bytes(grid: Grid, geometry: SliceGeometry, model: Model | None = None) -> int:
    """Memory of the stored matrix and its transpose in bytes, exactly, without computing them.

    Parameters
    ----------
    grid, geometry, model
        As of :func:`sparse_projector`.

    Examples
    --------
    >>> from medrecon.geometry.ct import FanBeam, equiangular
    >>> scanner = FanBeam(
    ...     angles=equiangular(360), source_to_axis=850, source_to_detector=1550, columns=736,
    ...     column_spacing=1.43,
    ... )
    >>> round(sparse_bytes(Grid.centred((32, 512, 512), (1, 1, 1)), scanner) / 1e9, 1)
    0.9
    """
    model = model or model_for(grid, geometry)
    first = geometry[: turns(grid, geometry).views]
    entries = int(_counts(_weights(model, grid, first), grid).sum())
    ends = first.views * first.columns + math.prod(grid.shape[1:]) + 2
    index = _index_type(entries)().itemsize
    return 2 * entries * (np.float32().itemsize + index) + ends * index


def system_matrix(
    grid: Grid, geometry: SliceGeometry, model: Model | None = None
) -> scipy.sparse.csr_array:
    """Give the matrix of one slice, all views, to other solvers or to a curious eye.

    Parameters
    ----------
    grid, geometry, model
        As of :func:`sparse_projector`.

    Returns
    -------
    scipy.sparse.csr_array
        ``(views * columns, y * x)``, float32, mm.
    """
    rays.check_scan(grid, geometry)
    weights = _weights(model or model_for(grid, geometry), grid, geometry)
    counts = _counts(weights, grid)
    rows = np.zeros(counts.size + 1, _index_type(int(counts.sum())))
    np.cumsum(counts, out=rows[1:])
    columns, values = np.empty(rows[-1], rows.dtype), np.empty(rows[-1], np.float32)
    launch(
        entries.write_entries, weights, grid.shape[1:], _taps(weights, grid), rows, columns, values
    )
    return scipy.sparse.csr_array((values, columns, rows), (counts.size, math.prod(grid.shape[1:])))


def _tables(model: Model, grid: Grid, geometry: SliceGeometry) -> Tables:
    """Compressed rows of the matrix and of its transpose."""
    forward = system_matrix(grid, geometry, model)
    transposed = forward.T.tocsr()
    return tuple(part for m in (forward, transposed) for part in (m.indptr, m.indices, m.data))


def _weights(model: Model, grid: Grid, geometry: SliceGeometry) -> Array:
    """Table of the rays or of the cells' shadows."""
    return model.tables(grid, geometry)[0]


def _taps(weights: Array, grid: Grid) -> int:
    return joseph.TAPS if weights.shape[2] == 4 else most_taps(weights, grid.shape[1:])


def _counts(weights: Array, grid: Grid) -> NDArray[np.int64]:
    """Weights other than zero of every ray, ``(views, columns)``."""
    counts = np.empty(weights.shape[:2], np.int64)
    launch(entries.count_entries, weights, grid.shape[1:], _taps(weights, grid), counts)
    return counts


def _index_type(entries: int) -> type[np.int32] | type[np.int64]:
    return np.int32 if entries < 2**31 else np.int64
