"""SENSE on the CPU: one slice (or coil) at a time, in place, in as many threads as torch has.

Fresh memory, not arithmetic, is what costs: a slice's coil images fit the cache and are worked on
in place there. scipy's FFT runs along any axis without a copy. Every task writes its own part and
sums run in a fixed order, so the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray

Complex = NDArray[np.complexfloating]


def _in_parallel(task: Callable[[int], Complex | None], count: int) -> Iterable[Complex | None]:
    workers = min(count, torch.get_num_threads())
    if workers < 2:
        return map(task, range(count))
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(task, range(count)))


def _fft(x: Complex, axes: tuple[int, ...]) -> Complex:
    return scipy.fft.fftn(x, axes=axes, norm="ortho", overwrite_x=True) if axes else x


def _ifft(x: Complex, axes: tuple[int, ...]) -> Complex:
    return scipy.fft.ifftn(x, axes=axes, norm="ortho", overwrite_x=True) if axes else x


def _combine(images: Complex, maps: Complex, coil_axis: int = 0) -> Complex:
    """``sum_c conj(s_c) y_c``, overwriting ``images``; conj(s) y = conj(s conj(y)) spares a copy."""
    np.conjugate(images, out=images)
    images *= maps
    total = images.sum(axis=coil_axis)
    return np.conjugate(total, out=total)


def forward(x: Complex, maps: Complex, samples: Complex, axis: int) -> Complex:
    """``samples * FFT(maps * x)`` without any shift.

    Parameters
    ----------
    x
        ``(batch, z, y, x)``.
    maps
        ``(z, coils, y, x)`` for ``axis`` 1, ``(coils, z, y, x)`` for ``axis`` 0.
    samples
        Factor of every sample, ``(y, x)`` or ``(z, y, x)``.
    axis
        Where the coils stand in ``maps``.

    Returns
    -------
    ndarray
        ``(batch, *maps.shape)``.
    """
    out: Complex = np.empty((len(x), *maps.shape), dtype=x.dtype)
    parts = maps.shape[0]
    axes = tuple(range(-samples.ndim, 0))

    def task(index: int) -> None:
        b, i = divmod(index, parts)
        part = out[b, i]
        np.multiply(x[b, i] if axis else x[b], maps[i], out=part)
        np.multiply(_fft(part, axes), samples, out=part)

    list(_in_parallel(task, len(x) * parts))
    return out


def adjoint(y: Complex, maps: Complex, samples: Complex, axis: int) -> Complex:
    """``sum_c conj(maps_c) IFFT(conj(samples) y_c)``; shapes as in :func:`forward`."""
    parts = maps.shape[0]
    axes = tuple(range(-samples.ndim, 0))
    conjugate = samples.conj()

    def images(b: int, i: int) -> Complex:
        return _ifft(y[b, i] * conjugate, axes)

    return _backward(images, len(y), maps, axis, parts)


def gram(
    x: Complex, maps: Complex, mask: NDArray[np.floating], axes: tuple[int, ...], axis: int
) -> Complex:
    """``sum_c conj(maps_c) IFFT(mask * FFT(maps_c x))`` over ``axes`` only.

    The phases of a centred transform cancel between the two FFTs, and so do the FFTs themselves
    along axes on which the mask does not depend (the readout): they are left out.
    """
    parts = maps.shape[0]

    def images(b: int, i: int) -> Complex:
        part: Complex = (x[b, i] if axis else x[b]) * maps[i]
        part = _fft(part, axes)
        part *= mask
        return _ifft(part, axes)

    return _backward(images, len(x), maps, axis, parts)


def _backward(
    images: Callable[[int, int], Complex], batch: int, maps: Complex, axis: int, parts: int
) -> Complex:
    """Coil images of every part, combined: summed inside a slice, or over the parts (coils)."""

    def task(index: int) -> Complex:
        b, i = divmod(index, parts)
        part = images(b, i)
        if axis:
            return _combine(part, maps[i])
        return _combine(part[None], maps[i])

    results = iter(_in_parallel(task, batch * parts))
    if axis:
        flat = np.stack([r for r in results if r is not None])
        return flat.reshape(batch, parts, *flat.shape[1:])
    return np.stack([_sum(results, parts) for _ in range(batch)])


def _sum(results: Iterable[Complex | None], count: int) -> Complex:
    total: Complex | None = None
    for _, part in zip(range(count), results, strict=False):
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total
