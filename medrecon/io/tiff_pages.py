"""Grey images out of TIFF files, after looking at what the files declare.

A TIFF file is a chain of directories anywhere in the file; a prepared one can be a ring, or a
million directories.  So the chain is walked here before a library sees it.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, MedreconError, ResourceError, UnreadableError

MAX_BYTES = 16 * 2**30
"""Default cap of a stack in memory, bytes."""
MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF files begin."""
_MAX_PAGES = 100_000
_MAX_COMPRESSION = 1100  # deflate cannot do better than 1032:1
_SUFFIXES = (".tif", ".tiff")
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class _Image:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def read_pages(path: Path, *, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read a folder of single images in the order of their numbers, or one file of many pages.

    Parameters
    ----------
    path
        A folder, whose ``.tif`` and ``.tiff`` files are named alike but for one number, or a file.
    max_bytes
        Refuse stacks that need more memory, bytes.

    Returns
    -------
    numpy.ndarray
        ``(n, rows, columns)`` as stored.

    Raises
    ------
    UnreadableError
        If there are no images, or a file is damaged, a ring, or of a kind that is not read.
    InconsistentError
        If a number is missing, or images differ in size or type.
    ResourceError
        If the stack is too large.
    """
    if path.is_dir():
        files = _in_order(path)
        pages = (image for file in files for image in _images(file, single=True))
        return _stack(pages, len(files), path, max_bytes)
    if not path.is_file():
        raise UnreadableError(f"{path} is neither a folder of images nor a file.")
    return _stack(_images(path, single=False), _count_pages(path), path, max_bytes)


def _stack(
    images: Iterator[tuple[_Image, Any]], count: int, path: Path, max_bytes: int
) -> NDArray[Any]:
    stack: NDArray[Any] | None = None
    first: _Image | None = None
    read = 0
    for image, load in images:
        if stack is None or first is None:
            first = image
            needed = count * image.dtype.itemsize * int(np.prod(image.shape))
            if needed > max_bytes:
                raise ResourceError(
                    f"{path}: {count} images of {image.shape} need {needed / 2**30:.1f} GiB, more "
                    f"than the {max_bytes / 2**30:.1f} GiB allowed."
                )
            stack = np.empty((count, *image.shape), image.dtype)
        if image != first:
            raise InconsistentError(
                f"{path}: image {read + 1} of {count} is {image.dtype} of {image.shape}, the first "
                f"{first.dtype} of {first.shape}; they are not of one scan."
            )
        stack[read] = load()
        read += 1
    if stack is None or read != count:
        raise UnreadableError(f"{path}: {read} of {count} images could be read.")
    return stack


def _in_order(folder: Path) -> list[Path]:
    """Sort files by the one number in which their names differ; none may be missing."""
    files = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in _SUFFIXES and f.is_file()]
    if not files:
        raise UnreadableError(f"{folder} holds no TIFF images (.tif, .tiff).")
    parts = [_NUMBER.split(file.stem) for file in files]
    if len({tuple(part[::2]) for part in parts}) > 1:
        raise InconsistentError(
            f"{folder}: the names of the {len(files)} images differ in more than a number; give "
            "each series its own folder."
        )
    numbers = np.array([[int(n[-18:]) for n in part[1::2]] for part in parts], np.int64)
    varying = [k for k in range(numbers.shape[1]) if np.ptp(numbers[:, k]) > 0]
    if len(files) == 1:
        return files
    if len(varying) != 1:
        raise InconsistentError(
            f"{folder}: the names of the {len(files)} images differ in {len(varying)} numbers; one "
            "is needed to order them."
        )
    counter = numbers[:, varying[0]]
    order = np.argsort(counter)
    steps = np.diff(counter[order])
    step = int(np.median(steps))
    if step == 0 or (steps != step).any():
        repeated, gaps = int((steps == 0).sum()), int((steps > max(step, 1)).sum())
        raise InconsistentError(
            f"{folder}: the numbers of the {len(files)} images have {gaps} gaps and {repeated} "
            f"repetitions between {counter.min()} and {counter.max()}."
        )
    return [files[k] for k in order]


def _images(file: Path, *, single: bool) -> Iterator[tuple[_Image, Any]]:
    pages = _count_pages(file)
    if single and pages != 1:
        raise UnreadableError(
            f"{file} holds {pages} pages; give a folder of single images, or one file."
        )
    with _opened(file) as tiff:
        for k in range(pages):
            page = tiff.pages[k]
            yield _checked(page, file), partial(_load, page, file)


def _load(page: Any, file: Path) -> NDArray[Any]:
    with _known_failures(file):
        values: NDArray[Any] = page.asarray()
        return values


def _checked(page: Any, file: Path) -> _Image:
    """Look at what a page declares: it has to be one grey image that the file can hold."""
    shape, dtype = tuple(page.shape), page.dtype
    if len(shape) != 2 or dtype is None or dtype.kind not in "iuf" or page.samplesperpixel != 1:
        raise UnreadableError(f"{file}: an image is not grey (one number per pixel); convert it.")
    stored = sum(page.databytecounts)
    size = file.stat().st_size
    needed = dtype.itemsize * int(np.prod(shape))
    if stored > size or needed > (_MAX_COMPRESSION if page.compression != 1 else 1) * stored:
        raise UnreadableError(
            f"{file} declares an image of {shape} but holds {stored} bytes of it; it is truncated "
            "or made up."
        )
    description = page.description if isinstance(page.description, str) else ""
    found = re.search(r"^images=(\d{1,9})", description, re.MULTILINE)
    if found and page.parent.is_imagej and int(found[1]) > 1 and len(page.parent.pages) == 1:
        raise UnreadableError(
            f"{file} is an ImageJ stack with one directory; save it as an image sequence."
        )
    return _Image(shape, dtype)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    with _known_failures(file), tifffile.TiffFile(file) as tiff:
        yield tiff


@contextmanager
def _known_failures(file: Path) -> Iterator[None]:
    """Keep tifffile quiet; whatever it meets is one known sentence."""
    log = logging.getLogger("tifffile")
    before = log.disabled
    log.disabled = True
    try:
        yield
    except MedreconError:
        raise
    except OSError as error:
        raise UnreadableError(f"{file} cannot be opened: {error.strerror}.") from error
    except Exception:  # tifffile raises nearly anything on damaged files
        raise UnreadableError(
            f"{file}: the TIFF file is damaged, or compressed in a way that is not read here."
        ) from None
    finally:
        log.disabled = before


def _count_pages(file: Path) -> int:
    """Walk the chain of directories: it has to end, inside the file, after a sane number."""
    try:
        with file.open("rb") as stream:
            return _walk(stream, file, file.stat().st_size)
    except OSError as error:
        raise UnreadableError(f"{file} cannot be opened: {error.strerror}.") from error
    except struct.error:
        raise UnreadableError(f"{file}: the TIFF file is truncated.") from None


def _walk(stream: BinaryIO, file: Path, size: int) -> int:
    head = stream.read(16)
    if not head.startswith(MARKS):
        raise UnreadableError(f"{file} is not a TIFF file.")
    order = "<" if head.startswith(b"II") else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    number, entry, address = ("Q", 20, "Q") if big else ("H", 12, "I")
    (offset,) = struct.unpack_from(f"{order}{address}", head, 8 if big else 4)
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise UnreadableError(f"{file}: the chain of its pages is a ring; the file is damaged.")
        if offset >= size:
            raise UnreadableError(f"{file} is truncated: page {len(seen) + 1} lies beyond its end.")
        seen.add(offset)
        if len(seen) > _MAX_PAGES:
            raise UnreadableError(f"{file} holds more than {_MAX_PAGES} pages.")
        stream.seek(offset)
        (entries,) = struct.unpack(f"{order}{number}", stream.read(struct.calcsize(number)))
        stream.seek(offset + struct.calcsize(number) + entry * min(entries, size))
        (offset,) = struct.unpack(f"{order}{address}", stream.read(struct.calcsize(address)))
    if not seen:
        raise UnreadableError(f"{file} holds no image.")
    return len(seen)
