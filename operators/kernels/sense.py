"""SENSE on the CPU: one slice (or coil) at a time, in place, in as many threads as torch has.

Fresh memory, not arithmetic, is what costs: a slice's coil images fit the cache and are worked on
in place there. scipy's FFT runs along any axis without a copy. Every task writes its own part and
sums run in a fixed order, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any, TypeVar

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

Complex = NDArray[np.complexfloating[Any, Any]]
_T = TypeVar("_T")


def forward(x: Complex, maps: Complex, samples: NDArray[Any], axis: int) -> Complex:
    """Compute ``samples * FFT(maps * x)`` without any shift.

    Parameters
    ----------
    x
        ``(batch, z, y, x)``.
    maps
        ``(z, coils, y, x)`` for ``axis`` 1, ``(coils, z, y, x)`` for ``axis`` 0.
    samples
        Factor of every sample: ``(y, x)`` for all slices, ``(z, y, x)`` for every slice or for 3D
        encoding.
    axis
        Where the coils stand in ``maps``.

    Returns
    -------
    ndarray
        ``(batch, *maps.shape)``.
    """
    out: Complex = np.empty((len(x), *maps.shape), dtype=x.dtype)
    axes = _axes(axis)

    def task(batch: int, part: int) -> None:
        y = out[batch, part]
        np.multiply(x[batch, part] if axis else x[batch], maps[part], out=y)
        np.multiply(_fft(y, axes), _of(samples, part, axis), out=y)

    _in_parallel(task, len(x), len(maps))
    return out


def adjoint(y: Complex, maps: Complex, samples: NDArray[Any], axis: int) -> Complex:
    """Compute ``sum_c conj(maps_c) IFFT(conj(samples) y_c)``; shapes as in :func:`forward`."""
    axes = _axes(axis)
    conjugate = samples.conj()

    def task(batch: int, part: int) -> Complex:
        kspace = y[batch, part] * _of(conjugate, part, axis)
        return _combine(_ifft(kspace, axes), maps[part], axis)

    return _gather(_in_parallel(task, len(y), len(maps)), axis)


def gram(
    x: Complex, maps: Complex, mask: NDArray[Any], axes: tuple[int, ...], axis: int
) -> Complex:
    """Compute ``sum_c conj(maps_c) IFFT(mask * FFT(maps_c x))`` over ``axes`` only.

    The phases of a centred transform cancel between the two FFTs, and so do the FFTs themselves
    along axes on which the mask does not depend (the readout): they are left out.
    """

    def task(batch: int, part: int) -> Complex:
        image = (x[batch, part] if axis else x[batch]) * maps[part]
        image = _fft(image, axes)
        image *= _of(mask, part, axis)
        return _combine(_ifft(image, axes), maps[part], axis)

    return _gather(_in_parallel(task, len(x), len(maps)), axis)


def _axes(axis: int) -> tuple[int, ...]:
    """Axes of the transform: two slice-wise (coils at 1), three for 3D encoding (coils at 0)."""
    return (-2, -1) if axis else (-3, -2, -1)


def _of(samples: NDArray[Any], part: int, axis: int) -> NDArray[Any]:
    """Factor of one slice, or of all."""
    return samples[part if len(samples) > 1 else 0] if axis and samples.ndim == 3 else samples


def _in_parallel(task: Callable[[int, int], _T], batch: int, parts: int) -> list[list[_T]]:
    """``task(b, i)`` for every batch element and part, in order."""
    workers = min(batch * parts, torch.get_num_threads())
    if workers < 2:
        return [[task(b, i) for i in range(parts)] for b in range(batch)]
    with ThreadPoolExecutor(workers) as pool:
        rows = [[pool.submit(task, b, i) for i in range(parts)] for b in range(batch)]
        return [[future.result() for future in row] for row in rows]


def _gather(rows: list[list[Complex]], axis: int) -> Complex:
    """Slices side by side (``axis`` 1), or the sum over coils (``axis`` 0)."""
    return np.stack([np.stack(row) if axis else reduce(np.add, row) for row in rows])


def _combine(images: Complex, maps: Complex, axis: int) -> Complex:
    """``conj(maps) * images``, summed over a slice's coils; overwrites ``images``.

    As ``conj(maps * conj(images))``, which spares a conjugated copy of the maps.
    """
    np.conjugate(images, out=images)
    images *= maps
    total: Complex = images.sum(axis=0) if axis else images
    np.conjugate(total, out=total)
    return total


def _fft(x: Complex, axes: tuple[int, ...]) -> Complex:
    return scipy.fft.fftn(x, axes=axes, norm="ortho", overwrite_x=True) if axes else x


def _ifft(x: Complex, axes: tuple[int, ...]) -> Complex:
    return scipy.fft.ifftn(x, axes=axes, norm="ortho", overwrite_x=True) if axes else x
