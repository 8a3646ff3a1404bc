"""The one place where a pickle is read: a program of its own, with nothing to reach for.

``python -I restricted.py FILE`` reads a checkpoint with PyTorch's reader for weights only, which
builds tensors and plain containers and nothing else, and writes the tensors to standard output as
safetensors. Should that reader ever be tricked, the process has no network, starts no program,
opens nothing for writing and has little memory and time. It knows nothing of medrecon.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import runpy
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import torch

_CONFINE = Path(__file__).with_name("confine.py")
"""Run by its path: an isolated interpreter need not know the package."""
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_LEFT_OUT = re.compile(r"(?i)(optim\w*|opt|\w*scheduler\w*|callbacks|loops)$")
"""Parts of a training state that are no weights; an optimiser's is twice their size."""
_LONGEST_CONFIG = 1_000_000


def main() -> int:
    """Read the checkpoint that the command line names; failures are one line on stderr."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    path = Path(sys.argv[1])
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, prints elsewhere
    runpy.run_path(str(_CONFINE))["confine"](path.stat().st_size)
    try:
        write_tensors(read(path), out)
    except pickle.UnpicklingError as error:
        return _fail(_forbidden(str(error)))
    except (MemoryError, RecursionError, OSError) as error:
        return _fail(f"limit {type(error).__name__}")
    except Exception as error:
        text = "limit memory" if "alloc" in str(error) else f"broken {type(error).__name__}"
        return _fail(text)
    return 0


def read(path: Path) -> Any:
    """Read tensors and plain values; old files, which cannot be mapped, into memory.

    Numbers of NumPy and the namespace of a command line, which stand in many checkpoints, only
    hold values too.
    """
    scalar: Any = numpy.float64(0).__reduce__()[0]
    kinds = [type(numpy.dtype(code)) for code in "?bBhHiIlLqQefd"]
    torch.serialization.add_safe_globals([scalar, numpy.dtype, *kinds, argparse.Namespace])
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        return torch.load(path, map_location="cpu", weights_only=True)


def tensors(value: Any, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor and its path in nested containers, without those of the optimiser."""
    if isinstance(value, torch.Tensor):
        if value.layout is torch.strided and value.dtype in _TYPES:
            yield path, value.detach()
        return
    for key, item in _items(value):
        if path or not _LEFT_OUT.match(key):
            yield from tensors(item, f"{path}/{key}" if path else key)


def plain(value: Any) -> Any:
    """Numbers, words and containers of them: what a checkpoint says about itself."""
    if isinstance(value, numpy.generic):
        value = value.item()
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, dict):
        pairs = ((str(k), plain(v)) for k, v in value.items() if not isinstance(v, torch.Tensor))
        return {k: v for k, v in pairs if v is not None and v not in ({}, [])}
    if isinstance(value, list | tuple):
        return [p for v in value if (p := plain(v)) is not None]
    return None


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(key), item) for key, item in enumerate(value))


def write_tensors(checkpoint: Any, out: Any) -> None:
    """Write the safetensors format: the header's length, the header, the numbers."""
    found = dict(tensors(checkpoint))
    header: dict[str, Any] = {}
    end = 0
    for key, value in found.items():
        start, end = end, end + value.numel() * value.element_size()
        kind, shape = _TYPES[value.dtype], list(value.shape)
        header[key] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    config = json.dumps(plain(checkpoint), allow_nan=True)
    if len(config) < _LONGEST_CONFIG:
        header["__metadata__"] = {"config": config}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.write(len(text).to_bytes(8, "little") + text)
    for value in found.values():
        out.write(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    out.close()


def _forbidden(text: str) -> str:
    """Name what the file wanted to build beside tensors."""
    found = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class|GLOBAL) ([\w.]+)", text)
    return f"forbidden {found[1]}" if found else "broken pickle"


def _fail(text: str) -> int:
    sys.stderr.write(f"\n{text}\n")
    sys.stderr.flush()
    return 1


if __name__ == "__main__":
    sys.exit(main())
