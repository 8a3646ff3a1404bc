"""Eigenvectors of one small Hermitian matrix per pixel, the largest eigenvalues first.

Matrices are stored as their lower triangles with pixels along the last axis,
``(rows, 2, n (n + 1) / 2, width)`` (real and imaginary parts): what real matrix products
produce, and what vector instructions read.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecon.operators.kernels.compile import launch
from medrecon.operators.kernels.eigenvector import LANES, leading_eigenvectors

_ROUNDING = 1e-3  # by how much eigenvalues may exceed their bound, relative
_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def eigenvectors(triangles: Tensor, *, bound: float, count: int = 1) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors of positive semi-definite matrices.

    On the CPU one eigenvector is found by inverse iteration, from the neighbouring row on: its
    residual ``|G v - value v|`` is at most 1e-5 (float32; 1e-10 in float64) of ``bound``, its
    value within 1e-3 (1e-8) of the largest. Where that fails, and for several eigenvectors or on
    other devices, LAPACK's direct solver is called.

    Parameters
    ----------
    triangles
        ``(rows, 2, n (n + 1) / 2, width)``, float32 or float64; see the module.
    bound
        No eigenvalue is larger, but for rounding.
    count
        How many eigenvectors.

    Returns
    -------
    vectors : Tensor
        Complex, ``(count, n, rows, width)``, of unit norm; each has an arbitrary phase.
    values : Tensor
        Real, ``(count, rows, width)``, descending.
    """
    if count == 1 and triangles.device.type == "cpu":
        return _iterated(triangles, bound)
    return _direct(_matrices(triangles), count)


def lower_triangle(n: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the entries that are stored, in order."""
    rows, columns = torch.tril_indices(n, n)
    return rows, columns


def _iterated(triangles: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    rows, _, entries, width = triangles.shape
    n = _size(entries)
    dtype = triangles.dtype
    G = pad(triangles / bound, (0, -width % LANES)).contiguous().numpy()
    v = torch.empty(rows, 2, n, G.shape[-1], dtype=dtype)
    values = torch.empty(rows, G.shape[-1], dtype=dtype)
    found = torch.empty(rows, G.shape[-1], dtype=torch.bool)
    real = G.dtype.type
    launch(
        leading_eigenvectors,
        G,
        real(1 + _ROUNDING),
        real(_TOLERANCE[dtype]),
        v.numpy(),
        values.numpy(),
        found.numpy(),
    )
    vectors = torch.complex(v[:, 0, :, :width], v[:, 1, :, :width]).transpose(0, 1)
    values = bound * values[:, :width]
    row, column = torch.nonzero(~found[:, :width], as_tuple=True)
    if len(row):
        left = triangles[row, :, :, column]
        exact, exact_values = _direct(_matrices(left.movedim(0, -1)[None]), 1)
        vectors[:, row, column] = exact[0, :, 0]
        values[row, column] = exact_values[0, 0]
    return vectors[None], values[None]


def _direct(G: Tensor, count: int) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(G)
    leading = vectors[..., -count:].flip(-1).permute(3, 2, 0, 1)
    return leading, values[..., -count:].flip(-1).movedim(-1, 0)


def _matrices(triangles: Tensor) -> Tensor:
    """Full matrices ``(rows, width, n, n)``; LAPACK reads the lower triangles only."""
    n = _size(triangles.shape[2])
    entries = torch.complex(triangles[:, 0], triangles[:, 1]).transpose(1, 2)
    G = entries.new_zeros(*entries.shape[:2], n, n)
    rows, columns = lower_triangle(n)
    G[..., rows, columns] = entries
    return G


def _size(entries: int) -> int:
    return int((2 * entries) ** 0.5)
