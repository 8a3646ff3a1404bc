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
        Eigenvalues of C over the coupled axes, the mean over all directions in the plane; real and
        positive, shape of the volume.
    measured
        The same where something was measured: the mean over the directions weighs each by its
        eigenvalue. Between a few views it is far above the other.
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
    measured: Tensor
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
    spectrum, measured = _over_angles(spectrum.clamp_min(0))
    top = spectrum.amax(axes, keepdim=True)
    spectrum = spectrum.clamp_min(_FLOOR * top).clamp_min(torch.finfo(spectrum.dtype).tiny)
    measured = torch.maximum(measured, spectrum)
    if isinstance(data.precision, float):
        visibility = torch.full_like(spectrum, data.precision)
        return Curvature(spectrum, measured, visibility, blocks)
    ones = torch.ones_like(like)
    weighted = A.adjoint(data.precision * A(ones)).real
    plain = A.gram(ones).real
    seen = plain > 1e-3 * plain.max()
    ratio = torch.where(seen, weighted / torch.where(seen, plain, 1.0), 0.0)
    mean = ratio.sum() / seen.sum().clamp_min(1)
    visibility = torch.where(seen, ratio, mean).clamp_min(_FLOOR * mean)
    return Curvature(spectrum, measured, visibility, blocks)


def _over_angles(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over all directions in the plane of the last two (frequency) axes, and that of the data.

    The response at one voxel sees only the directions that its own rays have; elsewhere they are
    others.  The second mean weighs directions by their eigenvalue (sum of squares over sum): the
    gaps of a sparse-view star do not count, as a residual has nothing in them either.
    """
    ny, nx = spectrum.shape[-2:]
    fy, fx = torch.fft.fftfreq(ny)[:, None], torch.fft.fftfreq(nx)[None, :]
    bins = ((fy**2 + fx**2).sqrt() * max(ny, nx)).round().long().to(spectrum.device)
    flat, index = spectrum.reshape(-1, ny * nx), bins.flatten()
    empty = torch.zeros(len(flat), int(index.max()) + 1, dtype=spectrum.dtype, device=flat.device)
    total = empty.index_add(1, index, flat)
    scale = total.amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    squares = empty.index_add(1, index, (flat / scale).square())
    share = total / scale
    own = scale * squares / share.clamp_min(torch.finfo(flat.dtype).tiny)
    mean = total / torch.bincount(index).to(spectrum.dtype)
    return mean[:, index].view_as(spectrum), own[:, index].view_as(spectrum)


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

    :math:`S^2 = v\,\bar C + \bar a` and
    :math:`C' = (\bar v\,C + a) / (\bar v\,\bar C + \bar a)` with the visibility v and the measured
    spectrum C; exact for an unweighted shift-invariant operator and for a dominating ``added``.
    ``blocks`` is that of the whole system: one coupled along z by a regulariser is transformed
    along z, too.
    """
    spectrum = curve.measured
    axes = tuple(range(blocks, spectrum.ndim))
    mean_visibility = curve.visibility.mean(axes, keepdim=True)
    own = tuple(range(curve.blocks, spectrum.ndim))
    if blocks < curve.blocks:  # one circulant for all slices
        lead = tuple(range(blocks, curve.blocks))
        spectrum = spectrum.mean(lead, keepdim=True)
    extra = torch.as_tensor(added, device=spectrum.device)
    extra_mean = float(extra.mean())
    mean = spectrum.mean(own, keepdim=True)
    circulant = (mean_visibility * spectrum + extra) / (mean_visibility * mean + extra_mean)
    inverse = 1 / circulant
    diagonal = (mean * curve.visibility + extra_mean).rsqrt()

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
