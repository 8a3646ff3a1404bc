"""CUDA C compiled by NVRTC and started on torch's stream: by torch itself, or by cuda-bindings.

A torch without a wrapper of its own needs ``cuda-bindings`` in the version of its CUDA.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch

Size = tuple[int, int, int]
Kernel = Callable[..., None]


class MissingCompilerError(RuntimeError):
    """Nothing here compiles CUDA C; says what to install."""


def compile_kernel(source: str, name: str) -> Kernel:
    """Compile the ``extern "C"`` kernel ``name``.

    Parameters
    ----------
    source
        CUDA C.
    name
        Of the kernel.

    Returns
    -------
    function
        To be called with ``grid``, ``block`` and ``args``, contiguous tensors and int32 numbers.

    Raises
    ------
    MissingCompilerError
        If neither torch nor cuda-bindings offers NVRTC.
    """
    wrapper = getattr(torch.cuda, "_compile_kernel", None)
    if wrapper is not None:
        kernel: Kernel = wrapper(source, name)
        return kernel
    try:
        nvrtc: Any = importlib.import_module("cuda.bindings.nvrtc")
        driver: Any = importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        raise MissingCompilerError(
            "this torch has no NVRTC wrapper; install a newer one or cuda-bindings"
        ) from error
    major, minor = torch.cuda.get_device_capability()
    try:
        binary = assemble(nvrtc, source, f"sm_{major}{minor}")
    except RuntimeError as error:  # cuda-bindings found no libnvrtc
        raise MissingCompilerError(f"cuda-bindings cannot run NVRTC: {error}") from error
    return load(driver, binary, name)


def assemble(nvrtc: Any, source: str, architecture: str) -> bytes:
    """Compile to machine code; needs no GPU."""
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []), "create")
    options = [f"--gpu-architecture={architecture}".encode()]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if int(status):
        log = bytes(_checked(nvrtc.nvrtcGetProgramLogSize(program), "log size"))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise ValueError(log.decode(errors="replace"))
    binary = bytes(_checked(nvrtc.nvrtcGetCUBINSize(program), "size"))
    _checked(nvrtc.nvrtcGetCUBIN(program, binary), "cubin")
    return binary


def load(driver: Any, binary: bytes, name: str) -> Kernel:
    """Load machine code into torch's context."""
    module = _checked(driver.cuModuleLoadData(binary), "load")
    function = _checked(driver.cuModuleGetFunction(module, name.encode()), "find")

    def kernel(grid: Size, block: Size, args: Sequence[torch.Tensor | int]) -> None:
        values = tuple(a.data_ptr() if isinstance(a, torch.Tensor) else a for a in args)
        types = tuple(
            ctypes.c_void_p if isinstance(a, torch.Tensor) else ctypes.c_int for a in args
        )
        stream = torch.cuda.current_stream().cuda_stream
        started = driver.cuLaunchKernel(function, *grid, *block, 0, stream, (values, types), 0)
        _checked(started, "start")

    return kernel


def _checked(answer: tuple[Any, ...], what: str) -> Any:
    """Return what follows the status that every call begins with."""
    status, *rest = answer
    if int(status):
        raise RuntimeError(f"CUDA cannot {what}: {status}")
    return rest[0] if rest else None
