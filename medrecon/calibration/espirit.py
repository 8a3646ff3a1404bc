"""ESPIRiT: coil sensitivities as eigenvectors of what small k-space neighbourhoods allow.

Every k-by-k neighbourhood of multi-coil k-space lies in a space of few dimensions. Its orthogonal
projection ``P``, summed along its block diagonals, is a convolution; seen in the image it is one
small Hermitian matrix ``G(q)`` per pixel, whose eigenvector with the eigenvalue 1 holds the coil
sensitivities there.

References
----------
Uecker et al., ESPIRiT - an eigenvalue approach to autocalibrating parallel MRI: where SENSE meets
GRAPPA, Magn Reson Med 71 (2014), sections "Theory" and "Implementation", doi:10.1002/mrm.24751.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Bounds of the noise edge relative to the largest singular value: below, rounding and motion are
# seen; above, the maps themselves would be cut.
_SMALLEST, _LARGEST = 5e-4, 0.1
_CHUNK = 1 << 22  # complex numbers of G held at once


def espirit(
    calibration: Tensor, shape: tuple[int, int], *, kernel: int, noise_std: float
) -> tuple[Tensor, Tensor]:
    """Coil maps of one slice, of unit norm over the coils, with a phase that is not yet fixed.

    Parameters
    ----------
    calibration
        Fully sampled part of k-space, complex, ``(coils, h, w)``; where its centre lies does not
        matter.
    shape
        Size ``(y, x)`` of the maps.
    kernel
        Width of a neighbourhood in samples.
    noise_std
        Root of ``E|n|^2`` per sample. Directions whose singular value noise alone could have
        (:func:`_noise_edge`) are not signal.

    Returns
    -------
    maps : Tensor
        ``(coils, y, x)``, in the precision of ``calibration``.
    eigenvalue : Tensor
        Real, ``(y, x)``; near 1 where there is signal and the model holds.
    """
    convolution = _convolution(_projection(calibration, kernel, noise_std), len(calibration))
    convolution = convolution.to(calibration.dtype)
    rows = max(1, _CHUNK // (len(calibration) ** 2 * shape[1]))
    parts = [
        _leading_eigenvector(_to_image(convolution, range(a, min(a + rows, shape[0])), shape))
        for a in range(0, shape[0], rows)
    ]
    maps = torch.cat([v for v, _ in parts])
    return maps.movedim(-1, 0).contiguous(), torch.cat([value for _, value in parts])


def _projection(calibration: Tensor, kernel: int, noise_std: float) -> Tensor:
    """Project onto the row space of the calibration matrix; ``(c*k*k, c*k*k)``, complex128."""
    patches = calibration.to(torch.complex128).unfold(1, kernel, 1).unfold(2, kernel, 1)
    rows = patches.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(rows.mH @ rows)  # squared singular values, ascending
    largest = float(values[-1].sqrt())
    edge = _noise_edge(rows.shape[0], rows.shape[1], noise_std)
    edge = min(max(edge, _SMALLEST * largest), _LARGEST * largest)
    V = vectors[:, values > edge**2]
    P: Tensor = (V @ V.mH).conj()
    return P  # conjugated, as the rows of the matrix are patches


def _noise_edge(rows: int, columns: int, noise_std: float) -> float:
    """Largest singular value of a matrix of pure noise, ``std (sqrt(rows) + sqrt(columns))``.

    The edge of the Marchenko-Pastur law; for overlapping patches it is an approximation.

    References
    ----------
    Bai and Yin, Limit of the smallest eigenvalue of a large dimensional sample covariance matrix,
    Ann Probab 21 (1993).
    """
    return noise_std * (math.sqrt(rows) + math.sqrt(columns))


def _convolution(projection: Tensor, coils: int) -> Tensor:
    """Sum the projection over pairs of the same offset; ``(2k-1, 2k-1, coils, coils)``."""
    k = math.isqrt(len(projection) // coils)
    P = projection.reshape(coils, k, k, coils, k, k).permute(1, 2, 4, 5, 0, 3)
    out = P.new_zeros(2 * k - 1, 2 * k - 1, coils, coils)
    for i in range(k):
        for j in range(k):  # second member of the pair; the first runs over the whole patch
            out[k - 1 - i : 2 * k - 1 - i, k - 1 - j : 2 * k - 1 - j] += P[:, :, i, j]
    return out / k**2


def _to_image(convolution: Tensor, rows: range, shape: tuple[int, int]) -> Tensor:
    """Evaluate ``G(q)``, the convolution's image, on some rows; ``(rows, x, coils, coils)``."""
    offsets = torch.arange(len(convolution), dtype=torch.float64) - len(convolution) // 2

    def phases(index: Tensor, n: int) -> Tensor:
        turns = torch.outer(index.double() - n // 2, offsets) / n
        return torch.exp(2j * math.pi * turns).to(convolution.dtype)

    over_y = phases(torch.tensor(list(rows)), shape[0])
    over_x = phases(torch.arange(shape[1]), shape[1])
    half = torch.tensordot(over_y, convolution, dims=1)  # (rows, 2k-1, c, c)
    G: Tensor = torch.tensordot(over_x, half, dims=([1], [1]))
    return G.transpose(0, 1)


def _leading_eigenvector(G: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvector of the largest eigenvalue at every pixel.

    A direct solver: power iteration needs a hundred steps to agree where two eigenvalues are
    close, and takes longer.
    """
    values, vectors = torch.linalg.eigh(G)
    return vectors[..., -1], values[..., -1]
