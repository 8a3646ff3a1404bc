"""Compressed sensing with wavelets."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from medrecon.baselines.regularized import CLOSE, Effort, regularized
from medrecon.data_term import DataTerm
from medrecon.operators.shifted_wavelets import ShiftedWavelets, interleaved_shifts
from medrecon.operators.wavelet import Wavelet
from medrecon.regularizers import Sparsity
from medrecon.solvers.preconditioner import curvature, diagonal_preconditioner
from medrecon.solvers.progress import Progress

_PENALTY = 10.0


def l1_wavelet(
    data: DataTerm,
    *,
    weight: float,
    iterations: int,
    start: Tensor | None = None,
    levels: int = 4,
    wavelet: str = "db4",
    shifts: int = 4,
    effort: Effort = CLOSE,
) -> Iterator[Progress]:
    r"""Sparse wavelet coefficients by ADMM, run until it stands still.

    .. math:: \min_u f(u) + \frac{w}{S} \sum_{s=1}^{S} \|D\, W T_s u\|_1

    with W an orthonormal wavelet transform, :math:`T_s` shifts of the image and D the choice of
    the details: smooth coefficients carry the image's brightness and are not penalised. Slices
    that are measured one by one are transformed one by one, a volume along all axes.

    Parameters
    ----------
    data
        The data term f.
    weight
        w, nats per unit.
    iterations
        Most ADMM iterations; it ends before where the image changes by less than 2e-5 (relative).
    start
        First estimate; ``None``: zero.
    levels, wavelet
        See :class:`~medrecon.operators.wavelet.Wavelet`.
    shifts
        S, at most 4 slice by slice and 8 for volumes; 1 is the plain orthonormal transform.
    effort
        How far to go.

    References
    ----------
    Lustig et al. 2007, doi:10.1002/mrm.21391; Coifman and Donoho 1995,
    doi:10.1007/978-1-4612-2544-7_9 (shifts).
    """
    space = data.operator.domain
    axes = (-2, -1) if data.blocks else (-3, -2, -1)
    W = Wavelet(space, axes, wavelet, levels)
    K = ShiftedWavelets(W, interleaved_shifts(shifts, len(axes), levels))
    penalty = _PENALTY * weight
    return regularized(
        data.gram,
        data.rhs,
        Sparsity(K, weight / shifts**0.5, K.details),
        penalty=penalty,
        preconditioner=diagonal_preconditioner(curvature(data), penalty, 0),
        iterations=iterations,
        start=start,
        effort=effort,
    )
