"""Which measured lines a missing one is made of: the shapes of GRAPPA's kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError

_MOST_KERNELS = 500


@dataclass(frozen=True, eq=False)
class Kernel:
    """One arrangement of measured lines around missing ones.

    Parameters
    ----------
    offsets
        Steps from a missing line to the measured ones it is made of, along both axes of lines.
    targets
        The missing lines that are surrounded so, ``(number, 2)``.
    readout
        Samples along the line, odd.
    """

    offsets: tuple[tuple[int, int], ...]
    targets: NDArray[np.int64]
    readout: int

    @property
    def extent(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Smallest and largest step along both axes, the missing line (step 0) included."""
        first, second = zip(*self.offsets, strict=True)
        return (min(0, *first), max(0, *first)), (min(0, *second), max(0, *second))


def kernels(lines: NDArray[np.bool_], neighbours: int, readout: int) -> list[Kernel]:
    """Find the kernels of a pattern of lines.

    A missing line is made of its nearest ``neighbours`` among the measured ones, at most twice
    the pattern's step away along each axis: of uniform lines two on each side.

    Parameters
    ----------
    lines
        Measured lines, ``(first axis, second axis)``; the first of size 1 where slices are
        encoded one by one.
    neighbours
        Most measured lines in a kernel.
    readout
        Samples along the line, odd.

    Raises
    ------
    InconsistentError
        If the readout is even, or the pattern has too many arrangements to learn.
    """
    if neighbours < 1 or readout < 1 or readout % 2 == 0:
        raise InconsistentError(
            f"A GRAPPA kernel takes at least 1 line and an odd number of samples along it, got "
            f"{neighbours} and {readout}."
        )
    steps = [_step(lines, axis) for axis in (0, 1)]
    reach = [2 * step - 1 if n > 1 else 0 for step, n in zip(steps, lines.shape, strict=True)]
    window = _nearest_first(reach)
    targets = np.argwhere(~lines)
    padded = np.pad(lines, [(r, r) for r in reach])
    places = targets[:, None] + window[None] + np.array(reach)
    seen = padded[places[..., 0], places[..., 1]]
    close = (np.abs(window) < np.array(steps)).all(-1)
    fillable = (seen & close).any(1)
    targets, seen = targets[fillable], seen[fillable]
    seen &= seen.cumsum(1) <= neighbours
    shapes, which = np.unique(seen, axis=0, return_inverse=True)
    if len(shapes) > _MOST_KERNELS:
        raise InconsistentError(
            f"The sampling pattern has {len(shapes)} arrangements of measured lines, too many for "
            "GRAPPA, which needs a regular one; use cg_sense or wavelet."
        )
    which = which.reshape(-1)
    return [
        Kernel(
            tuple((int(a), int(b)) for a, b in window[shape]),
            targets[which == index].astype(np.int64),
            readout,
        )
        for index, shape in enumerate(shapes)
    ]


def _step(lines: NDArray[np.bool_], axis: int) -> int:
    """Most common distance above 1 between neighbouring measured lines along an axis."""
    rows = np.moveaxis(lines, axis, -1).reshape(-1, lines.shape[axis])
    gaps = np.concatenate([np.diff(np.flatnonzero(row)) for row in rows])
    gaps = gaps[gaps > 1]
    return int(np.bincount(gaps).argmax()) if gaps.size else 1


def _nearest_first(reach: list[int]) -> NDArray[np.int64]:
    """List the steps within reach of both axes, shortest first, equal ones in a fixed order."""
    grid = np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij")
    steps = np.stack([g.ravel() for g in grid], -1)
    steps = steps[(steps != 0).any(-1)]
    return np.asarray(steps[np.argsort((steps**2).sum(-1), kind="stable")], dtype=np.int64)
