"""Whether paths can be what a command takes them for, before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from medrecon.errors import OutputError, UnreadableError, UsageError


def not_standard_input(path: Path) -> None:
    """Refuse ``-``, which programs that read standard input would take."""
    if str(path) == "-":
        raise UsageError("standard input is not read; give the name of a file.")


def existing(path: Path) -> Path:
    """Return a path that is there."""
    not_standard_input(path)
    try:
        found = path.exists()
    except OSError:  # a name that no file can have
        found = False
    if not found:
        raise UnreadableError(f"{path} does not exist.")
    return path


def free_file(path: Path, overwrite: bool) -> None:
    """Refuse a file that exists, or has no folder to lie in."""
    if path.exists() and not (overwrite and path.is_file()):
        raise OutputError(f"{path} exists; choose another name or use --overwrite.")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first.")
