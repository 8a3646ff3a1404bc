"""Outputs that appear whole or not at all: files and folders made aside, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from medrecon.errors import OutputError

MARKER = ".medrecon-output"
"""An empty file in every folder written here; ``overwrite`` replaces only folders that have it."""


class OutputFolder:
    """Context manager: a folder that gets its final name only once it is complete.

    All files are written into a hidden sibling, ``.<name>.part-<uuid>``.  At the end of the block
    everything is flushed to disk and the sibling is renamed; after an exception it is removed, and
    what stood there before is untouched.

    Parameters
    ----------
    path
        The folder to make. Its parent must exist.
    overwrite
        Replace an existing, non-empty folder, if this package wrote it. The old one is kept until
        the new one is whole.
    needed_bytes
        Refuse to start with less free disk space than this, bytes.

    Raises
    ------
    OutputError
        On entry, before anything is computed: the folder is taken, cannot be written, or the disk
        is full.  On exit: the disk filled up, or somebody else made the folder meanwhile.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "out"
    >>> with OutputFolder(target) as part:
    ...     write_json(part / "run.json", {"seed": 7})
    >>> (target / "run.json").exists()
    True
    """

    def __init__(self, path: Path, *, overwrite: bool = False, needed_bytes: int = 0) -> None:
        self.path = path
        self._overwrite = overwrite
        self._needed_bytes = needed_bytes
        self._part = path.parent / f".{path.name}.part-{uuid.uuid4().hex}"

    def __enter__(self) -> Path:
        _check_target(self.path, overwrite=self._overwrite)
        _check_space(self.path.parent, self._needed_bytes)
        try:
            self._part.mkdir()
            (self._part / MARKER).touch()
        except OSError as error:
            shutil.rmtree(self._part, ignore_errors=True)
            raise _output_error(self.path, error) from error
        return self._part

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                _sync_tree(self._part)
                _put_in_place(self._part, self.path, overwrite=self._overwrite)
            elif isinstance(error, OSError) and _is_about_writing(error, self._part):
                raise _output_error(self.path, error) from error
        except OSError as failure:
            raise _output_error(self.path, failure) from failure
        finally:
            shutil.rmtree(self._part, ignore_errors=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary sibling to write to; it replaces ``path`` once the block ends well.

    Parameters
    ----------
    path
        The file to make; an existing one is replaced at once, never half.

    Yields
    ------
    pathlib.Path
        Where to write; has the suffixes of ``path``.

    Raises
    ------
    OutputError
        If the file cannot be written (folder missing, permission, disk full).
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file to write.")
    part = path.parent / f".part-{uuid.uuid4().hex}-{path.name[-100:]}"
    try:
        yield part
        _sync(part)
        part.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as strict JSON (UTF-8, indented, no NaN), whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def _check_target(path: Path, *, overwrite: bool) -> None:
    if path.is_symlink():
        raise OutputError(f"{path} is a link; give the output folder itself.")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; give another name for the output folder.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} does not exist; create it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {path.parent} is read-only; choose another output folder.")
    try:
        content = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    except OSError as error:
        raise _output_error(path, error) from error
    if content and not overwrite:
        raise OutputError(f"{path} exists and is not empty; choose another one or overwrite it.")
    if content and MARKER not in content:
        raise OutputError(f"{path} was not written by medrecon and is not overwritten; remove it.")


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"The disk of {folder} has {free / 2**20:.0f} MiB left and the outputs need "
            f"{needed / 2**20:.0f} MiB; free some space or choose another disk."
        )


def _put_in_place(part: Path, path: Path, *, overwrite: bool) -> None:
    if not (overwrite and path.is_dir()):
        part.replace(path)  # fails, as it should, if the folder was filled meanwhile
    else:
        _check_target(path, overwrite=True)
        old = path.parent / f".{path.name}.old-{uuid.uuid4().hex}"
        path.replace(old)
        try:
            part.replace(path)
        except OSError:
            old.replace(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(path.parent)


def _sync_tree(folder: Path) -> None:
    for entry in sorted(folder.rglob("*")):
        _sync(entry)
    _sync(folder)


def _sync(path: Path) -> None:
    """Flush a file or a folder to the disk (folders cannot be opened on Windows: not needed)."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_about_writing(error: OSError, part: Path) -> bool:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return True
    return isinstance(error.filename, (str, os.PathLike)) and str(part) in os.fspath(error.filename)


def _output_error(path: Path, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{path} cannot be written: the disk is full; nothing was left behind.")
    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
        return OutputError(f"{path} was made by somebody else meanwhile; choose another folder.")
    reason = (error.strerror or str(error) or "unknown reason").lower()
    return OutputError(f"{path} cannot be written: {reason}.")
