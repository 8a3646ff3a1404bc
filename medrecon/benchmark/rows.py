"""Rows of a benchmark, and the file they grow in."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medrecon.errors import OutputError, UnreadableError

Row = dict[str, Any]
"""Plain values of one method on one case with one seed; ``key`` says what it depends on."""


def fingerprint(**what: Any) -> str:
    """Short name of everything that a row depends on.

    Examples
    --------
    >>> fingerprint(case="cone-32", seed=0) == fingerprint(seed=0, case="cone-32")
    True
    """
    text = json.dumps(what, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Rows:
    """Rows by their key; on disk a line of JSON each, written as soon as it is known.

    Rows of an earlier run are there again, so that nothing is measured twice; where something that
    a row depends on has changed, its key has, too.

    Parameters
    ----------
    path
        The file to read and to add to; ``None``: nothing is kept.

    Raises
    ------
    UnreadableError
        If the file holds something else than rows. A last line that was cut off is dropped.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        whole, _, torn = text.rpartition("\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                row = json.loads(line)
                self._rows[row["key"]] = row
            except (ValueError, TypeError, KeyError):
                raise UnreadableError(
                    f"{path.name}, line {number} is no row of a benchmark; choose another folder."
                ) from None
        if torn:  # the end of a killed run: the next row must begin on a line of its own
            path.write_text(whole + "\n" if whole else "", encoding="utf-8")

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def get(self, key: str) -> Row | None:
        """Return the row of that key, if it is known."""
        return self._rows.get(key)

    def add(self, row: Row) -> None:
        """Keep a row, and write it at once.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        self._rows.pop(row["key"], None)
        self._rows[row["key"]] = row
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{self._path} cannot be written: {error.strerror}.") from error
