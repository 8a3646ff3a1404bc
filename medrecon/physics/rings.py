"""Ring artefacts: cells that are always a little wrong make stripes, and stripes make rings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from torch import Tensor

from medrecon.errors import InconsistentError, UsageError
from medrecon.geometry.ct import CTGeometry, FanBeam, ParallelBeam

_FEWEST_VIEWS = 10
_WRONG = 0.05  # line integral; a cell whose gain is this much off is no neighbour to trust
Sinogram = NDArray[np.float32]


def remove_rings(measurements: Tensor, geometry: CTGeometry, *, width: int = 9) -> Tensor:
    """Subtract from every detector cell what it always measures too much.

    A wrong gain is a constant factor on a cell's counts, so a constant addend on its line
    integrals.  It is estimated as the median, over the views, of the difference between the cell
    and the running median along its row: edges of the object pass by in some views, the addend
    stays in all.  Cells that are wrong by more than 5 % would bend the running median, so they are
    first held to the line between their neighbours.  Nothing but constants changes.  What the
    object itself has in one column through all views, such as a pin on the axis, is taken for a
    wrong cell; errors that vary slowly along the detector, for the object.

    Parameters
    ----------
    measurements
        Line integrals in the layout of the geometry: ``(z, views, columns)`` or
        ``(views, rows, columns)``.
    geometry
        Of the scan.
    width
        Columns of the running median, odd; up to ``width // 2`` wrong neighbours are repaired.

    Returns
    -------
    Tensor
        Corrected line integrals; same shape, type and device.  Weights remain valid.

    Raises
    ------
    InconsistentError
        If the scan has fewer than ten views, or the shapes do not fit.
    UsageError
        If the width is not odd or less than three.

    References
    ----------
    B. Münch, P. Trtik, F. Marone, M. Stampanoni, "Stripe and ring artifact removal with combined
    wavelet-Fourier filtering", Opt. Express 17 (2009) 8567, doi:10.1364/OE.17.008567 (constant
    stripes and what removing them does to an object).

    Examples
    --------
    >>> scan = ParallelBeam(angles=(0.0,) * 10, columns=5, column_spacing=1.0)
    >>> stripe = torch.tensor([2.0, 2.0, 2.5, 2.0, 2.0]).expand(1, 10, 5)
    >>> remove_rings(stripe, scan, width=3)[0, 0]
    tensor([2., 2., 2., 2., 2.])
    """
    if width < 3 or width % 2 == 0:
        raise UsageError(
            f"The width of the running median must be odd and at least 3, got {width}."
        )

    return _each_sinogram(measurements, geometry, lambda s: _without_constants(s, width))


def remove_stripes(
    measurements: Tensor,
    geometry: CTGeometry,
    *,
    sensitivity: float = 3.0,
    large: int = 51,
    small: int = 21,
) -> Tensor:
    """Remove stripes of all kinds: cells that are dead, fluctuate, or respond non-linearly.

    Algotom's combination of the algorithms 6, 5, 4 and 3 of Vo et al., slice by slice or row by
    row, made for microtomography with thousands of columns.  It smooths sorted sinograms and so
    changes the object too, on detectors of some hundred columns by more than the rings it removes;
    where the cells' error is a constant, :func:`remove_rings` is the better choice.

    Parameters
    ----------
    measurements, geometry
        As in :func:`remove_rings`.
    sensitivity
        Ratio above which a stripe counts as large or dead; larger finds fewer.
    large, small
        Widths of the median filters against large and against small stripes, columns.

    Returns
    -------
    Tensor
        Corrected line integrals; same shape, type and device.

    Raises
    ------
    UsageError
        If algotom is not installed.
    InconsistentError
        If the scan has fewer than ten views, the shapes do not fit, or the data hold no noise to
        tell stripes from.

    References
    ----------
    N. T. Vo, R. C. Atwood, M. Drakopoulos, "Superior techniques for eliminating ring artifacts in
    X-ray micro-tomography", Opt. Express 26 (2018) 28396, doi:10.1364/OE.26.028396.
    """
    try:
        from algotom.prep.removal import remove_all_stripe
    except ImportError as error:
        raise UsageError(
            "Stripe removal needs algotom; install it with: pip install 'medrecon[rings]'"
        ) from error

    def clean(sinogram: Sinogram) -> Any:
        try:
            return remove_all_stripe(sinogram, snr=sensitivity, la_size=large, sm_size=small)
        except ValueError as error:
            raise InconsistentError(f"Stripes cannot be removed from this scan: {error}") from error

    return _each_sinogram(measurements, geometry, clean)


def _without_constants(sinogram: Sinogram, width: int) -> Sinogram:
    wrong = np.abs(_constants(sinogram, width)) > _WRONG
    right = np.flatnonzero(~wrong)
    if wrong.any() and len(right) > 1:
        here = np.flatnonzero(wrong)
        after = np.clip(np.searchsorted(right, here), 1, len(right) - 1)
        low, high = right[after - 1], right[after]
        share = np.clip((here - low) / (high - low), 0, 1).astype(np.float32)
        between = sinogram[:, low] * (1 - share) + sinogram[:, high] * share
        sinogram = sinogram.copy()
        sinogram[:, here] -= np.median(sinogram[:, here] - between, axis=0)
    return sinogram - _constants(sinogram, width)


def _constants(sinogram: Sinogram, width: int) -> Sinogram:
    smooth = median_filter(sinogram, (1, width), mode="nearest")
    return np.asarray(np.median(sinogram - smooth, axis=0), np.float32)


def _each_sinogram(
    measurements: Tensor, geometry: CTGeometry, clean: Callable[[Sinogram], Any]
) -> Tensor:
    """Apply to ``(views, columns)`` of every slice or detector row."""
    axis = 0 if isinstance(geometry, ParallelBeam | FanBeam) else 1
    shape = tuple(measurements.shape)
    if measurements.ndim != 3 or (shape[1 - axis], shape[2]) != (geometry.views, geometry.columns):
        raise InconsistentError(
            f"Measurements of shape {shape} do not fit {geometry.views} views of "
            f"{geometry.columns} columns."
        )
    if geometry.views < _FEWEST_VIEWS:
        raise InconsistentError(
            f"Rings cannot be told from the object in {geometry.views} views; at least "
            f"{_FEWEST_VIEWS} are needed."
        )
    result = torch.empty_like(measurements)
    for k in range(shape[axis]):
        sinogram = measurements.select(axis, k).detach().cpu().numpy().astype(np.float32)
        cleaned = np.ascontiguousarray(clean(sinogram), np.float32)
        result.select(axis, k).copy_(torch.from_numpy(cleaned))
    return result
