"""Convolution with a kernel twice the image's size, in transforms of the image's own size.

A convolution with a kernel that reaches ``n - 1`` voxels either way is circular on a grid of
``2 n``. There the transform of a zero-filled image splits by the parity ``p`` of the frequency:
frequency ``2 q + p`` is the plain ``n``-point transform of the image times ``exp(-i pi p j / n)``.
So per axis two modulated transforms of ``n`` samples take the place of a padded one of ``2 n``:
nothing is padded, nothing cropped, and what is transformed stays in the cache. It holds for even
and odd ``n``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

Complex = NDArray[np.complexfloating[Any, Any]]
Real = NDArray[np.floating[Any]]
A = TypeVar("A", Complex, Tensor)
Transform = Callable[[A, int], A]


def convolve(x: A, spectrum: Any, phases: list[A], fft: Transform[A], ifft: Transform[A]) -> A:
    """Convolve the last axes of ``x`` with a kernel; overwrites ``x``.

    Parameters
    ----------
    x
        Complex ``(*batch, *shape)``.
    spectrum
        Real ``(2, ..., 2, *shape)``: the kernel's transform on the doubled grid by parities, over
        ``2**axes``.
    phases
        ``exp(-i pi j / n)`` for every axis that is convolved, shaped to broadcast.
    fft, ifft
        Transforms along one axis that may overwrite their input.
    """
    if not phases:
        x *= spectrum
        return x
    axis, phase, rest = -len(phases), phases[0], phases[1:]
    odd = ifft(convolve(fft(x * phase, axis), spectrum[1], rest, fft, ifft), axis)
    odd *= phase.conj()
    even = ifft(convolve(fft(x, axis), spectrum[0], rest, fft, ifft), axis)
    even += odd
    return even


def gram(
    x: Complex, maps: Complex, spectrum: Real, axis: int, partitions: NDArray[np.bool_] | None
) -> Complex:
    """Compute ``sum_c conj(maps_c) K(maps_c x)`` with the convolution ``K``, coil by coil.

    In as many threads as torch has, over slices or, where there are fewer, over coils; sums run
    over the coils in their order, so the result does not depend on the number of threads.

    Parameters
    ----------
    x
        ``(batch, z, y, x)``.
    maps
        ``(z, coils, y, x)`` for ``axis`` 1, ``(coils, z, y, x)`` for ``axis`` 0.
    spectrum
        As in :func:`convolve`: of two axes slice-wise and in a stack, of three in 3D.
    axis
        Where the coils stand in ``maps``.
    partitions
        For a stack: the FFT's frequencies along z that were measured.
    """
    out: Complex = np.empty_like(x)
    phases = half_turns(spectrum.shape[spectrum.ndim // 2 :], x)

    def one(image: Complex, coil: Complex) -> Complex:
        seen: Complex = image * coil
        if partitions is None:
            seen = convolve(seen, spectrum, phases, _fft, _ifft)
        else:
            seen = stacked(seen, spectrum, phases, partitions, _fft, _ifft)
        np.conjugate(seen, out=seen)  # conj(s conj(y)) spares a conjugated copy of the maps
        seen *= coil
        return seen

    def all_coils(job: tuple[Complex, Complex, Complex], each: Callable[..., Any] = map) -> None:
        image, coils, total = job
        total[...] = 0
        for seen in each(partial(one, image), coils):
            total += seen
        np.conjugate(total, out=total)

    if axis:
        jobs = [(x[b, z], maps[z], out[b, z]) for b in range(len(x)) for z in range(len(maps))]
    else:
        jobs = [(x[b], maps, out[b]) for b in range(len(x))]
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        if threads > 1 and axis and len(jobs) >= threads:
            list(pool.map(all_coils, jobs))
        else:
            for job in jobs:
                all_coils(job, pool.map if threads > 1 else map)
    return out


def gram_on_device(
    x: Tensor, maps: Tensor, spectrum: Tensor, axis: int, partitions: Tensor | None
) -> Tensor:
    """Compute :func:`gram` with torch: a slice with all its coils, or a coil's volume, at once."""
    out = torch.zeros_like(x)
    phases = half_turns(tuple(spectrum.shape[spectrum.ndim // 2 :]), x)
    for b in range(len(x)):
        for part, coils in enumerate(maps):
            seen = (x[b, part] if axis else x[b]) * coils
            if partitions is None:
                seen = convolve(seen, spectrum, phases, _torch_fft, _torch_ifft)
            else:
                seen = stacked(seen, spectrum, phases, partitions, _torch_fft, _torch_ifft)
            seen = seen.mul_(coils.conj())
            if axis:
                out[b, part] = seen.sum(dim=0)
            else:
                out[b] += seen
    return out


def stacked(
    x: A, spectrum: Any, phases: list[A], partitions: Any, fft: Transform[A], ifft: Transform[A]
) -> A:
    """Convolve in the plane the frequencies along z that were measured; the others vanish.

    Where all were measured the transforms along z cancel.
    """
    if bool(partitions.all()):
        return convolve(x, spectrum, phases, fft, ifft)
    x = fft(x, -3)
    measured = convolve(x[partitions], spectrum, phases, fft, ifft)
    x[...] = 0
    x[partitions] = measured
    return ifft(x, -3)


def half_turns(shape: tuple[int, ...], like: A) -> list[A]:
    """``exp(-i pi j / n)`` along every axis, of the kind, precision and device of ``like``."""
    phases: list[Any] = []
    for axis, n in enumerate(shape):
        phase = np.exp(-1j * np.pi * np.arange(n) / n)
        phase = phase.reshape(n, *[1] * (len(shape) - 1 - axis))
        on_device = torch.from_numpy(phase).to(like) if isinstance(like, Tensor) else None
        phases.append(phase.astype(like.dtype) if on_device is None else on_device)
    return phases


def _fft(x: Complex, axis: int) -> Complex:
    y: Complex = scipy.fft.fft(x, axis=axis, overwrite_x=True)
    return y


def _ifft(x: Complex, axis: int) -> Complex:
    y: Complex = scipy.fft.ifft(x, axis=axis, overwrite_x=True)
    return y


def _torch_fft(x: Tensor, axis: int) -> Tensor:
    y: Tensor = torch.fft.fft(x, dim=axis)
    return y


def _torch_ifft(x: Tensor, axis: int) -> Tensor:
    y: Tensor = torch.fft.ifft(x, dim=axis)
    return y
