"""The leading eigenvector of a small Hermitian matrix at every pixel, row by row.

Neighbouring pixels have nearly the same eigenvector, so each row starts from the one before and a
few steps of shifted inverse iteration suffice.  The shift lies just above the Rayleigh quotient;
that the shifted matrix factorises with positive pivots proves that no eigenvalue lies higher
(Sylvester's law of inertia).  ``LANES`` neighbouring pixels are worked on side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import inner, kernel, prange

Real = NDArray[np.floating[Any]]

LANES = 32
_ROUNDS = 16


@kernel
def leading_eigenvectors(
    G: Real, top: float, tolerance: float, v: Real, values: Real, found: NDArray[np.bool_]
) -> None:
    """Find the eigenvector of the largest eigenvalue, where a few steps find it.

    Parameters
    ----------
    G
        Lower triangles ``(rows, 2, n (n + 1) / 2, width)``, real and imaginary parts, positive
        semi-definite; ``width`` a multiple of ``LANES``.
    top
        No eigenvalue is larger.
    tolerance
        Bound of ``|G v - value v|``, absolute.
    v
        Out, ``(rows, 2, n, width)``, of unit norm.
    values
        Out, ``(rows, width)``: ``v^H G v``.
    found
        Out, ``(rows, width)``: whether the residual is within the tolerance and the largest
        eigenvalue within a hundred times the tolerance of ``values``.
    """
    rows, width, n = G.shape[0], G.shape[3], v.shape[2]
    for block in prange(width // LANES):
        first = block * LANES
        L = np.empty((2, G.shape[2], LANES), G.dtype)
        w = np.empty((2, n, LANES), G.dtype)
        u = np.ones((2, n, LANES), G.dtype)
        per_lane = np.zeros((6, LANES), G.dtype)
        _normalise(u, per_lane[0])
        for row in range(rows):
            g = G[row, :, :, first : first + LANES]
            _row(g, top, tolerance, L, u, w, per_lane, found[row, first : first + LANES])
            for part in range(2):
                for i in range(n):
                    for t in range(LANES):
                        v[row, part, i, first + t] = u[part, i, t]
            for t in range(LANES):
                values[row, first + t] = per_lane[0, t]


@inner
def _row(
    g: Real,
    top: float,
    tolerance: float,
    L: Real,
    u: Real,
    w: Real,
    per_lane: Real,
    found: NDArray[np.bool_],
) -> None:
    """Iterate on ``LANES`` pixels until all are found or the rounds are used up."""
    value, residual, shift, pivot, bound = (
        per_lane[0],
        per_lane[1],
        per_lane[2],
        per_lane[3],
        per_lane[4],
    )
    for t in range(LANES):
        bound[t] = top  # of the largest eigenvalue, as proven so far
    for step in range(_ROUNDS):
        _multiply(g, u, w)
        _rayleigh(u, w, value, residual)
        missing = 0
        for t in range(LANES):
            found[t] = residual[t] <= tolerance and bound[t] - value[t] <= 100 * tolerance
            missing += not found[t]
        if missing == 0 or step == _ROUNDS - 1:
            return
        for t in range(LANES):
            shift[t] = min(value[t] + max(residual[t], tolerance), top)
        _factorise(g, shift, L, pivot)
        failed = 0
        for t in range(LANES):
            if pivot[t] > 0:
                bound[t] = min(bound[t], shift[t])
            else:  # there is a larger eigenvalue: come down from above
                shift[t] = bound[t]
                failed += 1
        if failed > 0:
            _factorise(g, shift, L, pivot)
        _solve(L, u)
        _normalise(u, per_lane[5])


@inner
def _multiply(g: Real, u: Real, w: Real) -> None:
    """``w = G u`` from the lower triangle."""
    n = u.shape[1]
    for i in range(n):
        at = i * (i + 1) // 2
        for t in range(LANES):
            w[0, i, t] = g[0, at + i, t] * u[0, i, t]
            w[1, i, t] = g[0, at + i, t] * u[1, i, t]
        for j in range(i):
            for t in range(LANES):
                a, b = g[0, at + j, t], g[1, at + j, t]
                w[0, i, t] += a * u[0, j, t] - b * u[1, j, t]
                w[1, i, t] += a * u[1, j, t] + b * u[0, j, t]
                w[0, j, t] += a * u[0, i, t] + b * u[1, i, t]
                w[1, j, t] += a * u[1, i, t] - b * u[0, i, t]


@inner
def _rayleigh(u: Real, w: Real, value: Real, residual: Real) -> None:
    """``u^H w``, and ``|w - value u|``."""
    for t in range(LANES):
        value[t] = 0
        residual[t] = 0
    for i in range(u.shape[1]):
        for t in range(LANES):
            value[t] += u[0, i, t] * w[0, i, t] + u[1, i, t] * w[1, i, t]
    for i in range(u.shape[1]):
        for t in range(LANES):
            a = w[0, i, t] - value[t] * u[0, i, t]
            b = w[1, i, t] - value[t] * u[1, i, t]
            residual[t] += a * a + b * b
    for t in range(LANES):
        residual[t] = np.sqrt(residual[t])


@inner
def _factorise(g: Real, shift: Real, L: Real, pivot: Real) -> None:
    """``shift I - G = L D L^H``; L below, 1 / D on the diagonal; ``pivot`` is the smallest D."""
    n = int(np.sqrt(2 * g.shape[1]))
    for t in range(LANES):
        pivot[t] = 1
    for i in range(n):
        at = i * (i + 1) // 2
        for j in range(i + 1):
            on_diagonal = i == j
            for t in range(LANES):
                L[0, at + j, t] = -g[0, at + j, t]
                L[1, at + j, t] = -g[1, at + j, t]
            if on_diagonal:
                for t in range(LANES):
                    L[0, at + j, t] += shift[t]
        # row i holds L_ij D_j until its diagonal is reached
        for j in range(i):
            row = j * (j + 1) // 2
            for k in range(j):
                for t in range(LANES):
                    a, b = L[0, at + k, t], L[1, at + k, t]
                    c, d = L[0, row + k, t], L[1, row + k, t]
                    L[0, at + j, t] -= a * c + b * d
                    L[1, at + j, t] -= b * c - a * d
        for j in range(i):
            diagonal = j * (j + 1) // 2 + j
            for t in range(LANES):
                a, b = L[0, at + j, t], L[1, at + j, t]
                inverse = L[0, diagonal, t]
                L[0, at + i, t] -= (a * a + b * b) * inverse
                L[0, at + j, t] = a * inverse
                L[1, at + j, t] = b * inverse
        for t in range(LANES):
            D = L[0, at + i, t]
            pivot[t] = min(pivot[t], D)
            # a vanishing pivot only says that the shift is an eigenvalue: as good as a tiny one
            tiny = np.float32(1e-30)
            L[0, at + i, t] = 1 / (D if abs(D) > tiny else tiny)


@inner
def _solve(L: Real, u: Real) -> None:
    """``u`` becomes ``(L D L^H)^-1 u``."""
    n = u.shape[1]
    for i in range(n):
        at = i * (i + 1) // 2
        for j in range(i):
            for t in range(LANES):
                a, b = L[0, at + j, t], L[1, at + j, t]
                u[0, i, t] -= a * u[0, j, t] - b * u[1, j, t]
                u[1, i, t] -= a * u[1, j, t] + b * u[0, j, t]
    for i in range(n - 1, -1, -1):
        at = i * (i + 1) // 2
        for t in range(LANES):
            u[0, i, t] *= L[0, at + i, t]
            u[1, i, t] *= L[0, at + i, t]
        for k in range(i + 1, n):
            below = k * (k + 1) // 2 + i
            for t in range(LANES):
                a, b = L[0, below, t], L[1, below, t]
                u[0, i, t] -= a * u[0, k, t] + b * u[1, k, t]
                u[1, i, t] -= a * u[1, k, t] - b * u[0, k, t]


@inner
def _normalise(u: Real, norm: Real) -> None:
    """Scale every lane of ``u`` to unit norm, first by its largest entry against overflow."""
    for t in range(LANES):
        norm[t] = 0
    for i in range(u.shape[1]):
        for t in range(LANES):
            norm[t] = max(norm[t], abs(u[0, i, t]), abs(u[1, i, t]))
    for t in range(LANES):
        norm[t] = 1 / norm[t]
    for i in range(u.shape[1]):
        for t in range(LANES):
            u[0, i, t] *= norm[t]
            u[1, i, t] *= norm[t]
    for t in range(LANES):
        norm[t] = 0
    for i in range(u.shape[1]):
        for t in range(LANES):
            norm[t] += u[0, i, t] * u[0, i, t] + u[1, i, t] * u[1, i, t]
    for t in range(LANES):
        norm[t] = 1 / np.sqrt(norm[t])
    for i in range(u.shape[1]):
        for t in range(LANES):
            u[0, i, t] *= norm[t]
            u[1, i, t] *= norm[t]
