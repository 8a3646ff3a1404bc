"""NumPy files, without pickles and without surprises in size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, ResourceError, UnreadableError
from medrecon.io.hdf5 import MAX_BYTES


def load_npy(path: Path) -> NDArray[Any]:
    """Read a ``.npy`` file whole.

    Raises
    ------
    UnreadableError
        If the file is missing or no NumPy array (pickled objects are never loaded).
    ResourceError
        If it is larger than memory allows.
    """
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a damaged header fails as Python's own parser and tokenizer do
        raise UnreadableError(
            f"{path} is no NumPy array, is truncated, or holds pickled objects, which are never "
            "loaded."
        ) from error
    if not isinstance(mapped, np.ndarray):
        raise UnreadableError(f"{path} is an archive of arrays; save one array alone.")
    if mapped.nbytes > MAX_BYTES:
        raise ResourceError(f"{path} needs {mapped.nbytes / 2**30:.1f} GiB of memory.")
    return np.array(mapped)


def load_finite(path: Path, what: str) -> NDArray[Any]:
    """Read a ``.npy`` file of finite numbers.

    Raises
    ------
    UnreadableError, ResourceError
        As :func:`load_npy`.
    InconsistentError
        If it holds something else than finite numbers.
    """
    array = load_npy(path)
    if array.dtype.kind not in "iufc" or not np.isfinite(array).all():
        raise InconsistentError(f"{path}: the {what} has to be finite numbers.")
    return array
