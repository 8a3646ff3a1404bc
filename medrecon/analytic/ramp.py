"""The ramp filter of filtered back-projection, sampled in space."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import UsageError

Window = Literal["ramlak", "shepp-logan", "cosine", "hann"]


def ramp_response(
    n: int, spacing: float, window: Window | str = "ramlak", *, arc: float = 0.0
) -> NDArray[np.float64]:
    """Frequency response of the band-limited ramp times a window, 1/mm.

    The kernel is sampled in space, ``h(0) = 1/4d^2``, ``h(k) = -1/(pi k d)^2`` for odd k and 0
    for even k, then transformed; sampling ``|f|`` itself would lose the mean of the image.  For
    columns at equal angles ``g`` it is multiplied by ``(k g / sin k g)^2``.

    Parameters
    ----------
    n
        Length of the (padded) rows.
    spacing
        Distance d of samples, mm.
    window
        ``"ramlak"`` (none), ``"shepp-logan"``, ``"cosine"`` or ``"hann"``, from sharp to smooth.
    arc
        Angle g between neighbours on an arc about the source, rad; 0 on a straight detector.

    Returns
    -------
    NDArray
        ``n // 2 + 1`` values for :func:`torch.fft.rfft`.

    Raises
    ------
    UsageError
        If the window is unknown.

    References
    ----------
    A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging (1988), eq. 3.61 and
    sec. 3.4.1, doi:10.1137/1.9780898719277.
    """
    k = np.arange(n)
    k = np.minimum(k, n - k)
    kernel = np.where(k % 2 == 1, -1.0 / (math.pi * np.maximum(k, 1) * spacing) ** 2, 0.0)
    kernel[0] = 1 / (4 * spacing**2)
    # Two rays of a fan differ by less than pi; the tail beyond meets only padding.
    kernel /= np.sinc(np.minimum(k * arc, 3.0) / math.pi) ** 2
    response = np.asarray(np.fft.rfft(kernel).real * spacing, dtype=np.float64)
    return response * _window(np.fft.rfftfreq(n).astype(np.float64), window)


def _window(f: NDArray[np.float64], window: Window | str) -> NDArray[np.float64]:
    """Window at frequencies in cycles per sample, 1 at zero."""
    match window:
        case "ramlak":
            return np.ones_like(f)
        case "shepp-logan":
            return np.sinc(f)
        case "cosine":
            return np.cos(math.pi * f)
        case "hann":
            return np.cos(math.pi * f) ** 2
    known = ", ".join(get_args(Window))
    raise UsageError(f"Unknown filter window {window!r}; use one of {known}.")


def filter_rows(
    rows: Tensor, spacing: float, window: Window | str = "ramlak", *, arc: float = 0.0
) -> Tensor:
    """Convolve the last axis with the ramp, zero padded so that nothing wraps around.

    Parameters
    ----------
    rows
        Real samples ``(..., columns)``.
    spacing
        Distance of samples, mm.
    window, arc
        See :func:`ramp_response`.

    Returns
    -------
    Tensor
        Filtered samples of the same shape, 1/mm times the input.
    """
    columns = rows.shape[-1]
    n = scipy.fft.next_fast_len(2 * columns, real=True)
    response = torch.from_numpy(ramp_response(n, spacing, window, arc=arc))
    response = response.to(rows.device, rows.dtype)
    filtered: Tensor = torch.fft.irfft(torch.fft.rfft(rows, n) * response, n)
    return filtered[..., :columns]
