"""What a run needs to be repeated: versions, machine, threads, hashes of files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import torch

import medrecon

_LIBRARIES = ("torch", "numpy", "numba", "scipy", "pydicom", "nibabel", "ismrmrd", "safetensors")


def environment() -> dict[str, Any]:
    """Versions, processor and number of threads: what bit-exact repetition depends on."""
    return {
        "medrecon": medrecon.__version__,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def version(library: str) -> str:
    """Version of an installed library, or ``"not installed"``."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content, or of the names and contents of a folder's files."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for entry in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(entry.relative_to(path).as_posix().encode())
        digest.update(bytes.fromhex(file_sha256(entry)))
    return digest.hexdigest()
