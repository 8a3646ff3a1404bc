"""ESPIRiT: coil sensitivities as eigenvectors of what small k-space neighbourhoods allow.

Every k-by-k neighbourhood of multi-coil k-space lies in a space of few dimensions. Its orthogonal
projection ``P``, summed along its block diagonals, is a convolution; seen in the image it is one
small Hermitian matrix ``G(q)`` per pixel, whose eigenvectors with the eigenvalue 1 hold the coil
sensitivities there: one of them, or several where the object is folded onto itself.

References
----------
Uecker et al., ESPIRiT - an eigenvalue approach to autocalibrating parallel MRI: where SENSE meets
GRAPPA, Magn Reson Med 71 (2014), sections "Theory" and "Implementation", doi:10.1002/mrm.24751.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medrecon.calibration.eigenvectors import eigenvectors, lower_triangle
from medrecon.errors import InconsistentError

# Bounds of the noise edge relative to the largest singular value: below, rounding, and what a
# kernel of this width cannot express, are seen; above, the maps themselves would be cut.
_SMALLEST, _LARGEST = 3e-5, 0.1
_CHUNK = 1 << 22  # complex numbers of G held at once
_FULL = 0.95  # share of all directions: a signal that takes more leaves nothing to calibrate from


def espirit(
    calibration: Tensor, shape: tuple[int, int], *, kernel: int, noise_std: float, sets: int = 1
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
        (:func:`_noise_edge`) are not signal. A value that the calibration data themselves
        contradict is lowered.
    sets
        How many eigenvectors per pixel.

    Returns
    -------
    maps : Tensor
        ``(sets, coils, y, x)``, in the precision of ``calibration``.
    eigenvalues : Tensor
        Real, ``(sets, y, x)``, descending; near 1 where there is signal and the model holds.

    Raises
    ------
    InconsistentError
        If the signal takes all directions, so that the data do not constrain the maps.
    """
    coils = len(calibration)
    P = _projection(calibration, kernel, noise_std)
    convolution = _convolution(P, coils).to(calibration.dtype)
    rows = max(1, _CHUNK // (coils**2 * shape[1]))
    parts = [
        eigenvectors(
            _to_image(convolution, range(a, min(a + rows, shape[0])), shape), bound=1.0, count=sets
        )
        for a in range(0, shape[0], rows)
    ]
    maps = torch.cat([v for v, _ in parts], dim=2)
    return maps, torch.cat([value for _, value in parts], dim=1)


def _projection(calibration: Tensor, kernel: int, noise_std: float) -> Tensor:
    """Project onto the row space of the calibration matrix; ``(c*k*k, c*k*k)``, complex128."""
    patches = calibration.to(torch.complex128).unfold(1, kernel, 1).unfold(2, kernel, 1)
    rows = patches.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(rows.mH @ rows)  # squared singular values, ascending
    values = values.clamp_min(0).sqrt()
    largest = float(values[-1])
    edge = _noise_edge(rows.shape[0], rows.shape[1], min(noise_std, _noise_bound(values, rows)))
    edge = min(max(edge, _SMALLEST * largest), _LARGEST * largest)
    V = vectors[:, values > edge]
    if V.shape[1] > _FULL * len(V):
        raise InconsistentError(
            f"The calibration data fill {V.shape[1]} of the {len(V)} dimensions that {kernel} by "
            f"{kernel} neighbourhoods of {len(calibration)} coils have, so no coil map follows "
            "from them (one coil, noise, or corrupt lines?); give maps, or choose 'walsh'."
        )
    P: Tensor = (V @ V.mH).conj()
    return P  # conjugated, as the rows of the matrix are patches


def _noise_edge(rows: int, columns: int, noise_std: float) -> float:
    """Largest singular value of a matrix of pure noise, ``std (sqrt(rows) + sqrt(columns))``.

    The edge of the Marchenko-Pastur law. For overlapping patches it is an approximation, found
    within 6 % for 1 to 32 coils, 16 to 24 lines and kernels of 5 and 6.

    References
    ----------
    Bai and Yin, Limit of the smallest eigenvalue of a large dimensional sample covariance matrix,
    Ann Probab 21 (1993).
    """
    return noise_std * (math.sqrt(rows) + math.sqrt(columns))


def _noise_bound(values: Tensor, rows: Tensor) -> float:
    """Noise can be no stronger than the median singular value says, which signal only raises.

    The median of pure noise lies at 0.86 to 1 times ``std sqrt(max(rows, columns))`` (as above).
    """
    count = min(rows.shape)
    return float(values[-count:].median()) / (0.86 * math.sqrt(max(rows.shape)))


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
    """Lower triangles of ``G(q)``, the convolution's image, on some rows.

    One real matrix product, in the layout of :mod:`medrecon.calibration.eigenvectors`:
    ``(rows, 2, entries, x)``.
    """
    width, device = len(convolution), convolution.device
    offsets = torch.arange(width, dtype=torch.float64, device=device) - width // 2

    def phases(index: range, n: int) -> Tensor:
        j = torch.tensor(list(index), dtype=torch.float64, device=device) - n // 2
        turns = torch.outer(j, offsets) / n
        return torch.exp(2j * math.pi * turns).to(convolution.dtype)

    a, b = lower_triangle(convolution.shape[-1])
    over_y = torch.tensordot(phases(rows, shape[0]), convolution[..., a, b], dims=1)
    over_y = over_y.transpose(1, 2)  # (rows, entries, 2k-1)
    over_x = phases(range(shape[1]), shape[1]).T
    left = torch.stack(
        [
            torch.cat([over_y.real, -over_y.imag], dim=-1),
            torch.cat([over_y.imag, over_y.real], dim=-1),
        ],
        dim=1,
    )
    G: Tensor = left @ torch.cat([over_x.real, over_x.imag])
    return G
