"""How kernels are compiled and started: plain loops over NumPy arrays, by Numba.

Kernels know no torch and no geometry object, only arrays; they gather on both sides (every
output element is written by one thread), so results do not depend on the number of threads.
They are compiled per precision at the first call and kept on disk for the next process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError, ResourceError

F = TypeVar("F", bound=Callable[..., Any])

prange = numba.prange

# One parallel region at a time: Numba's workqueue layer, the only one on some systems, aborts
# the process on concurrent launches (test_projectors_run_in_several_python_threads).
LAUNCH = threading.RLock()
# Division as in NumPy: Python's test for zero keeps a loop from being vectorised.
OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
_PROCESSES: set[int] = set()  # that ran a kernel; a forked one inherits its parent's entry


def kernel(function: F) -> F:
    """Compile a function on arrays, threaded over its ``prange``, GIL released.

    Of fast-math only multiply-add contraction is allowed: NaN in the data must stay NaN, and no
    sum may be reordered (the adjoint test in double precision would notice).
    """
    options = {"parallel": True, **OPTIONS}
    try:
        compiled = numba.njit(cache=True, **options)(function)
        _watch_all_kernels(compiled)
    except RuntimeError:  # no folder to cache in, e.g. a read-only installation
        compiled = numba.njit(**options)(function)
    return cast(F, compiled)


def inner(function: F) -> F:
    """Compile a part of a kernel, called from its loops."""
    return cast(F, numba.njit(**OPTIONS)(function))


def sources(folder: Path = Path(__file__).parent) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file of kernels: a change of any of them makes kernels stale."""
    found = ((file.name, file.stat()) for file in sorted(folder.glob("*.py")))
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def _watch_all_kernels(compiled: Any) -> None:
    """Let a change of any kernel file make this kernel on disk stale.

    Numba watches the file of the kernel only, and would go on with parts that have changed
    elsewhere.  It has no public way to watch more; a test tells when this one is gone.
    """
    index: Any = getattr(getattr(compiled, "_cache", None), "_cache_file", None)
    if hasattr(index, "_source_stamp"):
        index._source_stamp = (index._source_stamp, sources())


def launch(function: Callable[..., None], *arguments: object) -> None:
    """Run a kernel on as many threads as torch may use.

    Raises
    ------
    ResourceError
        If this process was forked from one that ran kernels on GNU OpenMP, whose threads do not
        survive a fork.
    """
    torchs = torch.get_num_threads()  # before Numba is asked anything, see below
    threads = min(torchs, int(numba.config.NUMBA_NUM_THREADS))
    _check_fork()
    with LAUNCH:
        before = numba.get_num_threads()
        numba.set_num_threads(max(1, threads))
        # Numba starts its threads when first used, and sets OpenMP's number: that is torch's too.
        if torch.get_num_threads() != torchs:
            torch.set_num_threads(torchs)
        try:
            function(*arguments)
        finally:
            numba.set_num_threads(before)
            _PROCESSES.add(os.getpid())


def _check_fork() -> None:
    """Say in a sentence what Numba would answer by ending the process."""
    if _PROCESSES and os.getpid() not in _PROCESSES and numba.threading_layer() == "omp":
        raise ResourceError(
            "CT projectors cannot run in a process forked after they were used; start workers "
            "with the 'spawn' method, or set NUMBA_THREADING_LAYER=workqueue."
        )


def to_array(x: Tensor) -> NDArray[Any]:
    """View a float32 or float64 tensor as a contiguous array in host memory, or copy it there.

    Tensors on a GPU come through the host for now; kernels that stay there take this place.

    Raises
    ------
    InconsistentError
        If the tensor holds integers or another precision.
    """
    if x.dtype not in (torch.float32, torch.float64):
        raise InconsistentError(
            f"Projectors take float32 or float64, got {x.dtype}; convert it with .float()."
        )
    array: NDArray[Any] = x.detach().cpu().resolve_neg().contiguous().numpy()
    return array


def empty(shape: tuple[int, ...], like: NDArray[Any]) -> NDArray[Any]:
    """Room for a result of the same precision."""
    return np.empty(shape, dtype=like.dtype)
