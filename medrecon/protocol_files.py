"""Protocol files: shipped ones and a user's own, with paths that lead nowhere unexpected."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path, PureWindowsPath
from typing import Any

from medrecon import yaml_loader
from medrecon.errors import ProtocolError
from medrecon.protocol import Protocol
from medrecon.setting_files import SettingFile, find, shipped_names
from medrecon.setting_words import did_you_mean, sentence

_FILES = (
    ("acquisition", "matrices_file"),
    ("coil_maps", "file"),
    ("field_map_file",),
)
"""Settings that are paths, meant relative to the protocol file."""


def shipped_protocols() -> dict[str, str]:
    """Name and title of every protocol that comes with medrecon."""
    names = shipped_names(resources.files("medrecon.protocols"))
    return {name: load_protocol(name).title for name in names}


def load_protocol(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Protocol:
    """Read a protocol.

    Parameters
    ----------
    path_or_name
        A YAML file, or the name of a shipped protocol (see :func:`shipped_protocols`).
    overrides
        ``"key.sub=value"`` texts that replace or add single settings; the value is YAML, items
        of lists go by their number (``baselines.1.weight=0.02``).

    Raises
    ------
    ProtocolError
        If there is no such protocol, or it is not valid; the message has file, line and column,
        the key, what is wrong, and the nearest valid name of an unknown key.
    UsageError
        If an override is not ``key=value`` or its key cannot be reached.

    Examples
    --------
    >>> load_protocol("ct_cone_sparse", ["acquisition.views=16"]).acquisition.views
    16
    """
    shipped = resources.files("medrecon.protocols")
    found = find(path_or_name, shipped)
    if found is None:
        stem, known = Path(path_or_name).stem, shipped_names(shipped)
        hint = did_you_mean(stem, known, "see: medrecon protocols")
        raise ProtocolError(
            sentence(
                f"there is no protocol file and no shipped protocol {str(path_or_name)!r}{hint}"
            )
        )
    file = SettingFile(found.content, found.name)
    _resolve(file, found.folder or Path(str(shipped)))
    for override in overrides:
        file.override(override, "sampler.steps=10")
    return file.validated(Protocol)


def _resolve(file: SettingFile, folder: Path) -> None:
    """Make paths relative to the protocol file: of a prior's folder, of files of a scan."""
    name = _text(file, "prior", "name")
    if name is not None:
        _refuse_address(file, ("prior", "name"), name)
        if "/" in name or "\\" in name:
            file.data["prior"]["name"] = str((folder / name).resolve())
    for path in _FILES:
        given = _text(file, *path)
        if given is None:
            continue
        _refuse_address(file, path, given)
        if Path(given).is_absolute() or PureWindowsPath(given).is_absolute():
            raise file.error(path, "absolute paths are not followed, put it beside this file")
        _block(file, path[:-1])[path[-1]] = str((folder / given).resolve())


def _block(file: SettingFile, path: tuple[str, ...]) -> dict[str, Any]:
    node: Any = file.data
    for key in path:
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else {}


def _text(file: SettingFile, *path: str) -> str | None:
    value = _block(file, path[:-1]).get(path[-1])
    return value if isinstance(value, str) else None


def _refuse_address(file: SettingFile, path: yaml_loader.Path, name: str) -> None:
    if "://" in name or name.startswith("~") or "$" in name:
        raise file.error(path, "addresses, ~ and variables are not followed, write a path")
