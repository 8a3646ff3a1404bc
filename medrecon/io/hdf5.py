"""The one door to HDF5 files: nothing outside the file is read, nothing absurd is allocated.

HDF5 can point out of itself (external raw storage, external links, virtual datasets) and can load
filter plugins from disk.  A plain ``h5py`` read of a prepared file returns ``/etc/passwd``; so all
readers of this package open files here, and :func:`open_hdf5` walks the file before handing it out.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from medrecon.errors import ResourceError, UnreadableError

MAX_BYTES = 16 * 2**30
"""Default cap of one dataset in memory, bytes."""
_MAX_OBJECTS = 100_000
_FREE_BYTES = 64 * 2**20  # up to here a declared size does no harm and is not questioned
_MAX_COMPRESSION = 1100  # deflate cannot do better than 1032:1
# deflate, shuffle, fletcher32, szip, nbit, scale-offset, and LZF, which h5py itself brings.
_KNOWN_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open an HDF5 file read-only, after checking that it keeps to itself.

    Parameters
    ----------
    path
        The file.

    Yields
    ------
    h5py.File
        Open for reading; closed at the end of the ``with`` block.

    Raises
    ------
    UnreadableError
        If the file is missing, truncated, locked or not HDF5, or if it holds external storage,
        virtual datasets, links that leave the file or lead nowhere, or third-party filters; also if
        damage shows only while the block reads.
    """
    _require_regular_file(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UnreadableError(f"{path}: {_reason(error, path)}") from error
    with file, _without_plugins():
        try:
            _walk(file, path)
            yield file
        except (OSError, RuntimeError, KeyError) as error:
            # What h5py raises on damage that shows only where it is read: in attributes, in text.
            if isinstance(error, KeyError) and "synchronously" not in str(error):
                raise
            raise UnreadableError(
                f"{path}: the HDF5 file is damaged; copy it again from its source."
            ) from error


def read_dataset(file: Any, name: str, *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read one dataset whole, after judging its declared size.

    Parameters
    ----------
    file
        What :func:`open_hdf5` gave, or a group of it.
    name
        Path of the dataset, e.g. ``"exchange/data"``.
    max_bytes
        Refuse to read more than this, in bytes.

    Returns
    -------
    numpy.ndarray
        The values as stored (shape and dtype of the file).

    Raises
    ------
    UnreadableError
        If there is no such dataset, its values are damaged, or far more is declared than stored.
    ResourceError
        If the dataset is larger than ``max_bytes``.
    """
    path = Path(file.file.filename)
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        raise UnreadableError(
            f"{path} has no dataset {name!r}; it holds {list_members(file)} there instead."
        )
    check_size(dataset, max_bytes=max_bytes)
    try:
        values: NDArray[Any] = np.asarray(dataset[()])
    except (OSError, RuntimeError, ValueError) as error:
        raise UnreadableError(
            f"{path}: dataset {name!r} is damaged or truncated and cannot be read; "
            "copy the file again from its source."
        ) from error
    return values


def check_size(dataset: Any, *, max_bytes: int = MAX_BYTES) -> None:
    """Refuse a dataset that is larger than the cap, or declares what it cannot hold.

    Raises
    ------
    UnreadableError
        If the shape promises more than the stored bytes can decompress to.
    ResourceError
        If it would take more than ``max_bytes`` of memory.
    """
    path, name = dataset.file.filename, dataset.name
    if dataset.shape is None:
        raise UnreadableError(f"{path}: dataset {name!r} is empty (null dataspace).")
    declared = math.prod(dataset.shape) * dataset.dtype.itemsize
    stored = dataset.id.get_storage_size()
    # An image of nothing but fill values is legal HDF5 but no measurement.
    if declared > _FREE_BYTES and (
        declared > _MAX_COMPRESSION * stored or stored > Path(path).stat().st_size
    ):
        raise UnreadableError(
            f"{path}: dataset {name!r} declares shape {dataset.shape} ({_mib(declared)}) but "
            f"{stored} bytes are stored; the file is damaged or was not written to its end."
        )
    if declared > max_bytes:
        raise ResourceError(
            f"{path}: dataset {name!r} of shape {dataset.shape} needs {_mib(declared)}, more than "
            f"the {_mib(max_bytes)} allowed for one dataset; split the scan."
        )


def list_members(group: Any, limit: int = 8) -> str:
    """Names in a group for an error message, quoted and shortened; ``"nothing"`` if empty."""
    names = [_shown(name) for name in list(group)[:limit]]
    more = ", ..." if len(group) > limit else ""
    return ", ".join(names) + more if names else "nothing"


@contextmanager
def _without_plugins() -> Iterator[None]:
    """Forget for a while where HDF5 looks for filters (``HDF5_PLUGIN_PATH``): it would run them."""
    paths = [h5py.h5pl.get(i) for i in range(h5py.h5pl.size())]
    for _ in paths:
        h5py.h5pl.remove(0)
    try:
        yield
    finally:
        for path in paths:
            h5py.h5pl.append(path)


def _require_regular_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UnreadableError(
            f"{path} cannot be opened: {error.strerror or 'no such file'}."
        ) from error
    if not stat.S_ISREG(mode):
        raise UnreadableError(f"{path} is not a file; give the HDF5 file itself.")


def _reason(error: OSError, path: Path) -> str:
    text = str(error)
    if isinstance(error, BlockingIOError) or "lock" in text:
        return "the file is in use (locked for writing by another program); wait until it is done."
    if "already open for write" in text:
        return (
            "the file is in use (open for writing in another program), or its writer died; wait "
            "until it is done, or mend it with h5clear."
        )
    if isinstance(error, PermissionError):
        return "permission denied; ask for read access."
    if path.stat().st_size == 0:
        return "the file is empty; copy it again from its source."
    if "truncated" in text:
        return "the HDF5 file is truncated; copy it again from its source."
    if "signature not found" in text:
        return "not an HDF5 file."
    return "the HDF5 file is damaged and cannot be opened; copy it again from its source."


def _walk(file: Any, path: Path) -> None:
    """Visit every link once, without following any before it is known to stay inside."""
    seen: set[int] = set()
    pending = [file["/"]]
    while pending:
        group = pending.pop()
        for name in group:
            child = _resolve(group, name, path)
            address = h5py.h5o.get_info(child.id).addr
            if address in seen:
                continue  # a second hard link, possibly back to a parent
            seen.add(address)
            if len(seen) > _MAX_OBJECTS:
                raise UnreadableError(f"{path} holds more than {_MAX_OBJECTS} objects.")
            if isinstance(child, h5py.Group):
                pending.append(child)
            elif isinstance(child, h5py.Dataset):
                _check_dataset(child, path)


def _resolve(group: Any, name: str, path: Path) -> Any:
    link = group.get(name, getlink=True)
    where = _shown(f"{group.name.rstrip('/')}/{name}")
    if isinstance(link, h5py.ExternalLink):
        raise UnreadableError(
            f"{path}: {where} is a link to another file, which is refused; "
            "copy the data into one file (e.g. with h5repack or h5copy)."
        )
    try:
        return group[name]
    except KeyError as error:
        raise UnreadableError(
            f"{path}: {where} is a link that leads nowhere in the file."
        ) from error


def _check_dataset(dataset: Any, path: Path) -> None:
    where = _shown(dataset.name)
    if dataset.external:
        raise UnreadableError(
            f"{path}: {where} keeps its values in another file (external storage), which is "
            "refused; copy the data into one file."
        )
    if dataset.is_virtual:
        raise UnreadableError(
            f"{path}: {where} is a virtual dataset, which may read other files and is refused; "
            "copy the data into one file."
        )
    creation = dataset.id.get_create_plist()
    codes = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
    if codes - _KNOWN_FILTERS:
        raise UnreadableError(
            f"{path}: {where} is compressed by the third-party HDF5 filter "
            f"{min(codes - _KNOWN_FILTERS)}; repack it with gzip (h5repack -f GZIP=4)."
        )


def _shown(name: str) -> str:
    """Make a name out of a file safe on a terminal: quoted, controls escaped, short."""
    return ascii(name if len(name) <= 60 else name[:57] + "...")


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
