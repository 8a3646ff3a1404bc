"""Plans of finufft (CPU) and cufinufft (CUDA): made once per use, kept, and never pickled.

On the CPU every plan works in double precision, whatever the input. Single precision would round
the *positions* on the fine grid, which alone costs an error of 1.2e-5 at 256 voxels a side and
more on larger grids; double precision with a smaller fine grid (1.5 times the image's) is ten
times as exact and no slower. Each transform runs in one thread, several transforms side by side:
finufft's own threads would add in a different order in every run. On GPUs, where double precision
can be 64 times slower, plans have the precision of the input.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import finufft
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import ResourceError
from medrecon.operators.memory import free_memory

ACCURACY = {torch.complex64: 1e-6, torch.complex128: 1e-12}
"""Relative error asked of a plan, by the precision of the input."""

_OVERSAMPLING = {torch.complex64: 1.5, torch.complex128: 2.0}
_KEPT = 4  # plans per operator; a solver needs one, and a remainder on GPUs
_VALUES = 2**24  # of images or samples at once on a GPU
_FFTW = threading.Lock()  # its planner is one for the whole process

Points = NDArray[np.float64]


class Plan(Protocol):
    """Transforms between images ``(n, *shape)`` and samples ``(n, samples)``."""

    def forward(self, images: Tensor) -> Tensor:
        """``sum_j x_j exp(-i p j)``."""

    def adjoint(self, samples: Tensor) -> Tensor:
        """``sum_p y_p exp(+i p j)``."""


class CpuPlan:
    """One finufft plan for both directions and any number of transforms.

    Executing it changes nothing in it, so threads share it.
    """

    def __init__(self, shape: tuple[int, ...], points: Points, dtype: torch.dtype) -> None:
        self._shape = shape
        self._samples = points.shape[1]
        self._dtype = dtype
        fine = _OVERSAMPLING[dtype] ** len(shape) + 1
        self._bytes = 16 * (fine * math.prod(shape) + self._samples)
        try:
            with _FFTW:
                self._plan = finufft.Plan(
                    2,
                    shape,
                    eps=ACCURACY[dtype],
                    isign=-1,
                    dtype="complex128",
                    nthreads=1,
                    upsampfac=_OVERSAMPLING[dtype],
                )
                self._plan.setpts(*points)
        except (RuntimeError, MemoryError) as error:
            raise _no_plan(shape, points, error) from error

    def forward(self, images: Tensor) -> Tensor:
        """See :class:`Plan`."""
        return self._each(self._plan.execute, images, (self._samples,))

    def adjoint(self, samples: Tensor) -> Tensor:
        """See :class:`Plan`."""
        return self._each(self._plan.execute_adjoint, samples, self._shape)

    def _each(self, execute: Callable[..., Any], x: Tensor, shape: tuple[int, ...]) -> Tensor:
        out = torch.empty(len(x), *shape, dtype=self._dtype)

        def transform(index: int) -> None:
            double = np.empty(shape, dtype=np.complex128)
            execute(_plain(x[index].to(torch.complex128)).numpy(), out=double)
            out[index] = torch.from_numpy(double)

        fit = int(min(free_memory() / 4 / self._bytes, len(x)))
        workers = min(torch.get_num_threads(), fit)
        if workers < 2:
            for index in range(len(x)):
                transform(index)
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(transform, range(len(x))))
        return out


class CudaPlan:
    """A pair of cufinufft plans, one per direction, each made when first used."""

    def __init__(
        self,
        shape: tuple[int, ...],
        points: Points,
        dtype: torch.dtype,
        device: torch.device,
        stream: int,
        transforms: int,
    ) -> None:
        self._shape = shape
        self._points = points
        self._options = {
            "n_trans": transforms,
            "eps": ACCURACY[dtype],
            "dtype": "complex64" if dtype == torch.complex64 else "complex128",
            "gpu_device_id": device.index or 0,
            "gpu_stream": stream,
        }
        self._real = torch.float32 if dtype == torch.complex64 else torch.float64
        self._device = device
        self._plans: dict[int, Any] = {}
        self._lock = threading.Lock()  # executing uses the plan's own work space

    def forward(self, images: Tensor) -> Tensor:
        """See :class:`Plan`."""
        return self._execute(2, images, (self._points.shape[1],))

    def adjoint(self, samples: Tensor) -> Tensor:
        """See :class:`Plan`."""
        return self._execute(1, samples, self._shape)

    def _execute(self, kind: int, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Type 2 goes from images to samples, type 1 back."""
        out = x.new_empty(len(x), *shape)
        with self._lock:
            if kind not in self._plans:
                self._plans[kind] = self._make(kind)
            self._plans[kind].execute(_plain(x), out=out)
        return out

    def _make(self, kind: int) -> Any:
        try:
            import cufinufft
        except (ImportError, OSError) as error:
            raise ResourceError(
                "Non-Cartesian MR on a CUDA device needs cufinufft, which cannot be loaded here "
                f"({error}): install medrecon[gpu] or choose the CPU."
            ) from error
        try:
            sign = -1 if kind == 2 else 1
            plan = cufinufft.Plan(kind, self._shape, isign=sign, **self._options)
            plan.setpts(*torch.from_numpy(self._points).to(device=self._device, dtype=self._real))
        except (RuntimeError, MemoryError) as error:
            raise _no_plan(self._shape, self._points, error) from error
        return plan


class Plans:
    """The plans of one trajectory: made on demand, the least recently used dropped.

    Pickling keeps what a plan is made from and drops the plans.

    Parameters
    ----------
    shape
        Of the image, 2 or 3 axes.
    points
        ``(axes, samples)``, radians per voxel in ``[-pi, pi]``.
    """

    def __init__(self, shape: tuple[int, ...], points: Points) -> None:
        self.shape = shape
        self.points = points
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Plans, (self.shape, self.points)

    def __len__(self) -> int:
        return len(self._plans)

    def forward(self, images: Tensor) -> Tensor:
        """``(n, *shape)`` to ``(n, samples)``."""
        return _joined([self._plan(x).forward(x) for x in self._split(images)])

    def adjoint(self, samples: Tensor) -> Tensor:
        """``(n, samples)`` to ``(n, *shape)``."""
        return _joined([self._plan(y).adjoint(y) for y in self._split(samples)])

    def release(self) -> None:
        """Free the plans; the next transform makes new ones."""
        with self._lock:
            self._plans.clear()

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Take everything at once on the CPU, a bounded part on a GPU."""
        x = x.detach()
        if _on_cpu(x):
            return (x,)
        together = _VALUES // max(math.prod(self.shape), self.points.shape[1])
        parts: tuple[Tensor, ...] = torch.split(x, max(1, together))
        return parts

    def _plan(self, x: Tensor) -> Plan:
        make: Callable[..., Plan]
        if _on_cpu(x):
            key: tuple[Any, ...] = (x.dtype,)
            make = partial(CpuPlan, self.shape, self.points)
        else:
            key = (x.dtype, x.device, _stream(x.device), len(x))
            make = partial(CudaPlan, self.shape, self.points)
        with self._lock:
            if key not in self._plans:
                self._plans[key] = make(*key)
                while len(self._plans) > _KEPT:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            return self._plans[key]


def _on_cpu(x: Tensor) -> bool:
    """Whether finufft serves ``x``; CUDA devices are cufinufft's."""
    return x.device.type == "cpu"


def _stream(device: torch.device) -> int:
    """Address of the stream on which torch works now."""
    return int(torch.cuda.current_stream(device).cuda_stream)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _plain(x: Tensor) -> Tensor:
    return x.resolve_conj().contiguous()


def _no_plan(shape: tuple[int, ...], points: Points, error: Exception) -> ResourceError:
    return ResourceError(
        f"No plan could be made for a non-uniform Fourier transform of {points.shape[1]} samples "
        f"on a grid of {' x '.join(map(str, shape))} ({error}): free memory or take a smaller "
        "grid."
    )
