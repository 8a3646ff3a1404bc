"""Which side of k-space a mask leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError

Mask = NDArray[np.bool_] | Tensor

_NOT_PARTIAL = 0.02  # of the matrix: what may lack on one side of a scan that is called complete
_FEWEST = 4  # samples on both sides of the centre from which a phase can be taken


@dataclass(frozen=True)
class Band:
    """What is measured along a partial axis.

    Parameters
    ----------
    axis
        Negative, counted from the end.
    near
        Measured samples on the short side of the centre.
    low_side_missing
        Whether the side of negative frequencies was left out.
    share
        Measured share of the axis.
    """

    axis: int
    near: int
    low_side_missing: bool
    share: float

    def distance(self, n: int) -> Tensor:
        """Positions along the axis, positive towards the side that was measured."""
        k = torch.arange(n) - n // 2
        return k if self.low_side_missing else -k


def partial_fourier_axis(mask: Mask) -> tuple[int, float] | None:
    """Find the axis along which one side of k-space was left out.

    A side counts as left out where more is missing than the largest gap of undersampling and more
    than 2 % of the matrix; a matrix that lacks as much on both sides has only a lower resolution.

    Parameters
    ----------
    mask
        Boolean, centre of every axis at ``n // 2``; axes of size 1 are looked over.

    Returns
    -------
    tuple of int and float, or None
        The axis, negative (-1: x, -2: y, -3: z), and the share of its extent that was measured,
        e.g. 0.75 for "6/8"; the axis with the smallest share where there are several.
    """
    bands = bands_of(as_bool(mask))
    return (bands[0].axis, bands[0].share) if bands else None


def filled_mask(mask: Mask, axes: Sequence[int] | None = None) -> NDArray[np.bool_]:
    """Say which samples :func:`homodyne` and :func:`pocs` know: measured ones and their mirrors.

    Parameters
    ----------
    mask
        Boolean.
    axes
        The encoded axes; default: all.
    """
    known = as_bool(mask)
    axes = tuple(range(known.ndim)) if axes is None else axes
    if bands_of(known, [axis % known.ndim - known.ndim for axis in axes]):
        known = known | _mirrored(known, axes)
    filled: NDArray[np.bool_] = known.numpy()
    return filled


def as_bool(mask: Mask) -> Tensor:
    """Take a mask as a boolean tensor on the CPU.

    Raises
    ------
    InconsistentError
        If it is not boolean, or empty.
    """
    known = torch.as_tensor(mask)
    if known.dtype != torch.bool or not known.any():
        raise InconsistentError("A partial Fourier mask is boolean and has measured samples.")
    return known.cpu()


def bands_of(known: Tensor, axes: Sequence[int] | None = None) -> list[Band]:
    """Find all partial axes, the most partial first."""
    found = []
    for axis in range(-known.ndim, 0) if axes is None else axes:
        others = [other for other in range(known.ndim) if other != axis % known.ndim]
        n = known.shape[axis]
        line = known.amax(dim=others) if others else known
        at = torch.nonzero(line).flatten()
        low, high = int(at[0]), n - 1 - int(at[-1])
        gap = int(at.diff().max()) if len(at) > 1 else n
        missing = abs(low - high)
        if missing <= max(1, gap, _NOT_PARTIAL * n):
            continue
        measured = n - low - high
        near = n // 2 - low if low > high else int(at[-1]) - n // 2
        found.append(Band(axis, near, low > high, measured / (measured + missing)))
    return sorted(found, key=lambda band: band.share)


def require_whole_lines(known: Tensor, bands: Sequence[Band]) -> None:
    """Refuse masks with gaps along the partial axes, or with hardly any middle.

    Raises
    ------
    InconsistentError
        Names the axis.
    """
    for band in bands:
        if band.near < _FEWEST:
            raise InconsistentError(
                f"Partial Fourier: {max(band.near, 0)} samples lie on the short side of the centre "
                f"along axis {band.axis}, at least {_FEWEST} are needed to know the phase; use "
                "zero_fill."
            )
        edges = known.to(torch.int8).diff(dim=band.axis) == 1
        first = known.narrow(band.axis, 0, 1)
        if bool((edges.sum(dim=band.axis, keepdim=True) + first.to(torch.int8)).gt(1).any()):
            raise InconsistentError(
                f"Partial Fourier: k-space has gaps along axis {band.axis}, and folded images have "
                "no smooth phase; fill the gaps first (grappa), or use zero_fill."
            )


def _mirrored(known: Tensor, axes: Sequence[int]) -> Tensor:
    """Mirror a mask, ``k`` to ``-k`` with the transform's period: index 0 of an even axis stays."""
    for axis in axes:
        n = known.shape[axis]
        known = known.index_select(axis, (2 * (n // 2) - torch.arange(n)) % n)
    return known
