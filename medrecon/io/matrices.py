"""Projection matrices of calibrated scanners (C-arms), one 3x4 matrix per view, from a small file.

``(c w, r w, w) = P (x, y, z, 1)`` with x, y, z in LPS mm from the isocentre and c, r the index of
column and row from 0.  Any factor on P, also a negative one, means the same.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, UnreadableError

_MAX_BYTES = 64 * 2**20
_MARK = b"\x93NUMPY"
_SEPARATOR = re.compile(r"[\s,;]+")


def read_matrices(path: Path, *, views: int | None = None) -> NDArray[np.float64]:
    r"""Read one projection matrix per view, for :meth:`ConeVectors.from_matrices`.

    Parameters
    ----------
    path
        Text (or CSV) with 12 numbers a line, row by row of the matrix, or with three lines of 4
        numbers per view; ``#`` begins a comment.  Or a NumPy file ``(views, 3, 4)`` or
        ``(views, 12)``.
    views
        How many there have to be.

    Returns
    -------
    numpy.ndarray
        ``(views, 3, 4)``.

    Raises
    ------
    UnreadableError
        If the file is missing, too large or holds something else.
    InconsistentError
        If numbers are not finite, a matrix is of no rank 3, or their number is another than
        ``views``.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "matrices.csv"
    >>> _ = file.write_text("1,0,0,5, 0,1,0,5, 0,0,1,900\n")
    >>> read_matrices(file, views=1).shape
    (1, 3, 4)
    """
    content = read_small(path)
    matrices = _from_npy(path) if content.startswith(_MARK) else _from_text(content, path)
    if not np.isfinite(matrices).all():
        bad = int((~np.isfinite(matrices)).sum())
        raise InconsistentError(f"{path}: {bad} numbers are NaN or infinite.")
    ranks = np.linalg.matrix_rank(
        matrices / np.abs(matrices).max((1, 2), keepdims=True).clip(1e-300)
    )
    if (ranks < 3).any():
        raise InconsistentError(
            f"{path}: the matrix of view {int(np.argmax(ranks < 3))} has no rank 3, so it is no "
            "projection."
        )
    if views is not None and len(matrices) != views:
        raise InconsistentError(f"{path} has {len(matrices)} matrices, the scan {views} views.")
    return matrices


def read_small(path: Path, max_bytes: int = _MAX_BYTES) -> bytes:
    """Read a file that has to be small.

    Raises
    ------
    UnreadableError
        If it is missing, empty or larger.
    """
    try:
        if not path.is_file():
            raise UnreadableError(f"{path} is not a file, or does not exist.")
        size = path.stat().st_size
        if not 0 < size <= max_bytes:
            raise UnreadableError(
                f"{path} has {size} bytes; a geometry has some, and at most {max_bytes}."
            )
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be opened: {error.strerror}.") from error


def _from_npy(path: Path) -> NDArray[np.float64]:
    try:
        with path.open("rb") as file:
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(file)
        if int(np.prod(shape, dtype=object)) * dtype.itemsize > path.stat().st_size:
            raise ValueError("declares more than it holds")
        stored: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, TypeError, SyntaxError):
        raise UnreadableError(f"{path}: the NumPy file is damaged or truncated.") from None
    if stored.dtype.kind not in "iuf" or stored.shape[1:] not in ((3, 4), (12,)) or not stored.size:
        raise UnreadableError(
            f"{path} holds {stored.dtype} of shape {stored.shape}; real numbers (views, 3, 4) are "
            "expected."
        )
    return stored.astype(np.float64).reshape(-1, 3, 4)


def _from_text(content: bytes, path: Path) -> NDArray[np.float64]:
    try:
        lines = [line.split("#")[0].strip(" \t,;\r") for line in content.decode().split("\n")]
        rows = [[float(n) for n in _SEPARATOR.split(line)] for line in lines if line]
    except ValueError:  # also what is no UTF-8
        raise UnreadableError(
            f"{path} is no list of projection matrices: numbers only, 12 a line, one line a view."
        ) from None
    widths = {len(row) for row in rows}
    if widths not in ({12}, {4}) or (widths == {4} and len(rows) % 3):
        shown = ", ".join(map(str, sorted(widths)[:4])) or "no"
        raise UnreadableError(
            f"{path}: its {len(rows)} lines hold {shown} numbers; a view has 12 in one line, or "
            "three lines of 4."
        )
    return np.array(rows, np.float64).reshape(-1, 3, 4)
