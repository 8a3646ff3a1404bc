"""Preconditioners of the weighted normal equations: diagonal, and diagonal times circulant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.operators.base import LinearOperator
from medrecon.solvers.cg import Map

_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class Curvature:
    r"""What the Hessian of a data term looks like, cheaply: :math:`G \approx K C K`.

    C is the circulant matrix whose spectrum is that of the unweighted ``A^H A`` at the middle of
    the volume, K a diagonal that carries the statistical weights to the voxels.

    Parameters
    ----------
    spectrum
        Eigenvalues of C over the coupled axes, real and positive; shape of the volume.
    visibility
        The squares of K's entries, ``(A^H W A 1) / (A^H A 1)``; broadcasts to the volume.
    blocks
        Leading axes that are not transformed.

    References
    ----------
    Clinthorne et al. 1993, doi:10.1109/42.222670 (circulant); Fessler and Booth 1999,
    doi:10.1109/83.766858 (shift-variant weights by a diagonal).
    """

    spectrum: Tensor
    visibility: Tensor
    blocks: int

    @property
    def diagonal(self) -> Tensor:
        """The diagonal of G: mean eigenvalue times visibility."""
        axes = tuple(range(self.blocks, self.spectrum.ndim))
        return self.spectrum.mean(axes, keepdim=True) * self.visibility


def curvature(data: DataTerm) -> Curvature:
    """Measure the curvature of a data term with two or four applications of its operator."""
    A = data.operator
    shape, blocks = A.domain.shape, A.blocks
    axes = tuple(range(blocks, len(shape)))
    like = data.rhs
    impulse = torch.zeros_like(like)
    middle = tuple(
        slice(None) if a < blocks else slice(n // 2, n // 2 + 1) for a, n in enumerate(shape)
    )
    impulse[middle] = 1
    response = data.scale**2 * A.gram(impulse)
    shifts = tuple(-(shape[a] // 2) for a in axes)
    spectrum = torch.fft.fftn(torch.roll(response, shifts, axes), dim=axes).real
    spectrum = _average_over_angles(spectrum.clamp_min(0))
    top = spectrum.amax(axes, keepdim=True)
    spectrum = spectrum.clamp_min(_FLOOR * top).clamp_min(torch.finfo(spectrum.dtype).tiny)
    if isinstance(data.precision, float):
        visibility = torch.full_like(spectrum, data.precision)
        return Curvature(spectrum, visibility, blocks)
    ones = torch.ones_like(like)
    weighted = A.adjoint(data.precision * A(ones)).real
    plain = A.gram(ones).real
    seen = plain > 1e-3 * plain.max()
    ratio = torch.where(seen, weighted / torch.where(seen, plain, 1.0), 0.0)
    mean = ratio.sum() / seen.sum().clamp_min(1)
    visibility = torch.where(seen, ratio, mean).clamp_min(_FLOOR * mean)
    return Curvature(spectrum, visibility, blocks)


def _average_over_angles(spectrum: Tensor) -> Tensor:
    """Average over all directions in the plane of the last two (frequency) axes.

    The response at one voxel sees only the directions that its own rays have; elsewhere they are
    others. Inverting the gaps of a sparse-view star would amplify what is not there to invert.
    """
    ny, nx = spectrum.shape[-2:]
    fy, fx = torch.fft.fftfreq(ny)[:, None], torch.fft.fftfreq(nx)[None, :]
    bins = ((fy**2 + fx**2).sqrt() * max(ny, nx)).round().long().to(spectrum.device)
    flat, index = spectrum.reshape(-1, ny * nx), bins.flatten()
    total = torch.zeros(len(flat), int(index.max()) + 1, dtype=spectrum.dtype, device=flat.device)
    count = torch.bincount(index).to(spectrum.dtype)
    mean = total.index_add(1, index, flat) / count
    return mean[:, index].view_as(spectrum)


def difference_spectrum(
    K: LinearOperator, spacing: tuple[float, ...], axes: tuple[int, ...]
) -> Tensor:
    """Spectrum of the periodic ``K^H K`` for differences per mm along ``axes`` of a volume."""
    shape = K.domain.shape
    total = torch.zeros(shape)
    for axis in axes:
        n = shape[axis]
        frequency = torch.fft.fftfreq(n)
        value = (2 - 2 * torch.cos(2 * torch.pi * frequency)) / spacing[axis] ** 2
        view = [1] * len(shape)
        view[axis] = n
        total = total + value.view(view)
    return total


Preconditioner = Callable[[Curvature, "Tensor | float", int], Map]


def no_preconditioner(curve: Curvature, added: Tensor | float, blocks: int) -> Map:
    """Divide by the mean diagonal: no better than the identity, but in the right unit."""
    inverse = 1 / float(curve.diagonal.mean() + torch.as_tensor(added).mean())
    return lambda r: inverse * r


def diagonal_preconditioner(curve: Curvature, added: Tensor | float, blocks: int) -> Map:
    """Jacobi: divide by the diagonal of ``G + added``.

    ``added`` is the spectrum (or the constant) of what stands beside G in the system.
    """
    mean = float(torch.as_tensor(added).mean())
    inverse = 1 / (curve.diagonal + mean)
    return lambda r: inverse * r


def circulant_preconditioner(curve: Curvature, added: Tensor | float, blocks: int) -> Map:
    r"""Invert ``S C' S`` with the diagonal S and the circulant C' closest to ``G + added``.

    :math:`S^2 = \mathrm{diag}(G) + \bar a` and
    :math:`C' = (\bar v\,C + a) / (\bar v\,\bar C + \bar a)`; exact for an unweighted
    shift-invariant operator and for a dominating ``added``.  ``blocks`` is that of the whole
    system: one coupled along z by a regulariser is transformed along z, too.
    """
    spectrum = curve.spectrum
    axes = tuple(range(blocks, spectrum.ndim))
    mean_visibility = curve.visibility.mean(axes, keepdim=True)
    own = tuple(range(curve.blocks, spectrum.ndim))
    if blocks < curve.blocks:  # one circulant for all slices
        lead = tuple(range(blocks, curve.blocks))
        spectrum = spectrum.mean(lead, keepdim=True)
    extra = torch.as_tensor(added, device=spectrum.device)
    extra_mean = float(extra.mean())
    level = mean_visibility * spectrum.mean(own, keepdim=True) + extra_mean
    circulant = (mean_visibility * spectrum + extra) / level
    inverse = 1 / circulant
    diagonal = (curve.diagonal + extra_mean).rsqrt()

    def apply(r: Tensor) -> Tensor:
        transformed = torch.fft.fftn(diagonal * r, dim=axes)
        filtered: Tensor = torch.fft.ifftn(inverse * transformed, dim=axes)
        return diagonal * (filtered if r.is_complex() else filtered.real)

    return apply


PRECONDITIONERS: dict[str, Preconditioner] = {
    "none": no_preconditioner,
    "diagonal": diagonal_preconditioner,
    "circulant": circulant_preconditioner,
}
