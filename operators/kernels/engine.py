"""Which compiler runs a kernel: Numba for tensors in host memory, Triton for those on a GPU.

Kernels come in pairs.  ``kernels/joseph.py`` holds ``forward(volume, rays, sinogram)`` for NumPy
arrays; its twin ``kernels/triton_joseph.py`` holds a function of the same name and arguments for
torch tensors, with the tables still as NumPy arrays.  Operators know the first only and call
:func:`run`, which picks by the device of the data::

    y = run(joseph.forward, volume, rays, shape=(views, columns, slices))

A kernel may also be a plain function that calls :func:`medrecon.operators.kernels.compile.launch`
several times.  Data on a GPU stay there; tables are copied to it once and forgotten with the
array they came from.  Where Triton is missing (it comes with torch's wheels for NVIDIA and AMD on
Linux) data on a GPU travel through the host, after one warning.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError, ResourceError
from medrecon.operators.base import LinearOperator, Wrapped
from medrecon.operators.kernels.compile import empty, launch, to_array

Engine = Literal["numba", "triton"]
Array = NDArray[Any]
Kernel = Callable[..., None]
T = TypeVar("T")

_CHOSEN: ContextVar[Engine | None] = ContextVar("engine", default=None)
_REMEMBERED: dict[tuple[int, Hashable], Any] = {}


@cache
def has_triton() -> bool:
    """Whether Triton can be imported; it is only looked for, not loaded."""
    return importlib.util.find_spec("triton") is not None


def engine(x: Tensor) -> Engine:
    """Choose the compiler for data like ``x``; :func:`using` overrules."""
    chosen = _CHOSEN.get()
    if chosen is not None:
        return chosen
    if not x.is_cuda:
        return "numba"
    if not has_triton():
        _warn_once()
        return "numba"
    return "triton"


@cache
def _warn_once() -> None:
    warnings.warn(
        "Triton is not installed: CT projections of data on the GPU go through the host. "
        "Install medrecon[gpu] (Linux).",
        RuntimeWarning,
        stacklevel=4,
    )


@contextmanager
def using(chosen: Engine) -> Iterator[None]:
    """Overrule the choice in this context: Triton's interpreter, or a GPU's data on the host.

    Triton runs data in host memory through its interpreter, if the environment held
    ``TRITON_INTERPRET=1`` before the first projection: slow, exact, for tests.
    """
    token = _CHOSEN.set(chosen)
    try:
        yield
    finally:
        _CHOSEN.reset(token)


def run(kernel: Kernel, source: Tensor, *tables: Array, shape: tuple[int, ...]) -> Tensor:
    """Call ``kernel(source, *tables, target)`` with the compiler for the device of ``source``.

    Parameters
    ----------
    kernel
        Writes ``target``; a Numba kernel, or a function of arrays.
    source
        Data in the kernel's layout, float32 or float64; any strides.
    tables
        Further arrays; those on a GPU are kept for the next call with the same array.
    shape
        Of the target.

    Returns
    -------
    Tensor
        The target, contiguous, with the device and precision of ``source``.

    Raises
    ------
    InconsistentError
        If the data are not float32 or float64.
    ResourceError
        If Triton is asked for and cannot run here.
    """
    if engine(source) == "numba" or (_CHOSEN.get() is None and not has_twin(kernel)):
        array = to_array(source)
        target = empty(shape, array)
        launch(kernel, array, *tables, target)
        return torch.from_numpy(target).to(source.device)
    if source.dtype not in (torch.float32, torch.float64):
        raise InconsistentError(
            f"Projectors take float32 or float64, got {source.dtype}; convert it with .float()."
        )
    result = source.new_empty(shape)
    values = source.detach().resolve_neg().contiguous()
    # Triton launches on the current device, which need not be that of the data.
    with torch.cuda.device(values.device) if values.is_cuda else nullcontext():
        twin(kernel, values.device)(values, *tables, result)
    return result


@cache
def has_twin(kernel: Kernel) -> bool:
    """Whether there is a Triton module for the kernel's; others go through the host."""
    package, _, leaf = kernel.__module__.rpartition(".")
    return importlib.util.find_spec(f"{package}.triton_{leaf}") is not None


def twin(kernel: Kernel, device: torch.device) -> Kernel:
    """Find the Triton kernel of the same name.

    Raises
    ------
    ResourceError
        If Triton is missing, cannot run on this device, or has no such kernel.
    """
    if not has_triton():
        raise ResourceError("Triton is not installed; install medrecon[gpu] (Linux).")
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ResourceError(
            "Triton needs a GPU, or TRITON_INTERPRET=1 in the environment to interpret kernels on "
            "the CPU; use the native backend."
        )
    package, _, leaf = kernel.__module__.rpartition(".")
    try:
        found: Kernel = getattr(
            importlib.import_module(f"{package}.triton_{leaf}"), kernel.__name__
        )
    except (ImportError, AttributeError) as error:
        raise ResourceError(
            f"There is no GPU kernel of {leaf}.{kernel.__name__}; move the data to the CPU."
        ) from error
    return found


def remembered(table: Array, key: Hashable, make: Callable[[], T]) -> T:
    """Work something out of a table once, and forget it with the table.

    Parameters
    ----------
    table
        Not to be changed afterwards.
    key
        What is worked out.
    make
        Works it out.
    """
    entry = (id(table), key)
    if entry not in _REMEMBERED:
        _REMEMBERED[entry] = make()
        weakref.finalize(table, _REMEMBERED.pop, entry, None)
    return _REMEMBERED[entry]  # type: ignore[no-any-return]


def on_device(table: Array, device: torch.device, make: Callable[[Array], Array]) -> Tensor:
    """Copy ``make(table)`` to a device, once for every table, module-level function and device."""

    def copy() -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(make(table))).to(device)

    return remembered(table, (make, device), copy)


class On(Wrapped):
    """An operator whose kernels run by one compiler, whatever the device.

    Parameters
    ----------
    engine
        ``"numba"`` or ``"triton"``.
    operator
        Any operator that calls :func:`run`.
    """

    def __init__(self, engine: Engine, operator: LinearOperator) -> None:
        super().__init__(operator)
        self.engine = engine

    def _forward(self, x: Tensor) -> Tensor:
        with using(self.engine):
            return self.operator._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        with using(self.engine):
            return self.operator._adjoint(y)
