"""BART's pair of files: dimensions as text (.hdr), complex values (.cfl)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np

from medrecon import __version__
from medrecon.errors import InconsistentError, ResourceError, UnreadableError
from medrecon.io.hdf5 import MAX_BYTES
from medrecon.raw.plausible import Complex

DIMENSIONS = 16
_MAX_HEADER = 2**20
_MARK = "# Dimensions"


def base_of(path: Path) -> Path:
    """Name of the pair: the path without ``.cfl`` or ``.hdr``."""
    return path.with_suffix("") if path.suffix in (".cfl", ".hdr") else path


def pair(base: Path) -> tuple[Path, Path]:
    """Names of values and header."""
    return base.parent / f"{base.name}.cfl", base.parent / f"{base.name}.hdr"


def read_pair(base: Path) -> Complex:
    """Read an array, first index fastest, as complex64 with all 16 axes.

    Raises
    ------
    UnreadableError
        If one of the files is missing, the header is not BART's, or the sizes do not fit.
    ResourceError
        If the array is larger than memory allows.
    InconsistentError
        If a dimension is zero.
    """
    values, header = pair(base)
    shape = _dimensions(header)
    wanted = 8 * math.prod(shape)
    try:
        found = values.stat().st_size
    except OSError as error:
        raise UnreadableError(f"{values} cannot be read: {error.strerror}.") from error
    if wanted != found:
        raise UnreadableError(
            f"{values} has {found} bytes, but {header.name} says {wanted}; copy both again from "
            "their source."
        )
    if wanted > MAX_BYTES:
        raise ResourceError(f"{values} needs {wanted / 2**30:.1f} GiB of memory.")
    flat = np.fromfile(values, dtype="<c8")
    if flat.size != math.prod(shape):
        raise UnreadableError(f"{values} was cut off while it was read.")
    return flat.astype(np.complex64, copy=False).reshape(shape, order="F")


def write_pair(values: BinaryIO, header: BinaryIO, array: np.ndarray) -> None:
    """Write an array of at most 16 axes, first index fastest."""
    shape = [*array.shape, *([1] * (DIMENSIONS - array.ndim))]
    values.write(np.ascontiguousarray(array.T, dtype="<c8").data)
    header.write(
        f"{_MARK}\n{' '.join(map(str, shape))} \n# Creator\nmedrecon {__version__}\n".encode()
    )


def _dimensions(header: Path) -> tuple[int, ...]:
    try:
        if header.stat().st_size > _MAX_HEADER:
            raise UnreadableError(f"{header} is too long for a header of BART.")
        lines = header.read_bytes().decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise UnreadableError(
            f"{header} cannot be read: {error.strerror}; BART's arrays are two files, .cfl and "
            ".hdr."
        ) from error
    titles = [i for i, line in enumerate(lines) if line.strip() == _MARK]
    words = lines[titles[0] + 1].split() if titles and titles[0] + 1 < len(lines) else []
    plain = all(word.isascii() and word.isdecimal() and len(word) < 12 for word in words)
    if not words or len(words) > DIMENSIONS or not plain:
        raise UnreadableError(f"{header} says no dimensions that BART would write.")
    shape = [int(word) for word in words]
    if 0 in shape:
        raise InconsistentError(f"{header}: a dimension is 0: {' '.join(words)}.")
    return tuple(shape + [1] * (DIMENSIONS - len(shape)))
