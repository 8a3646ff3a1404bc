"""Recipe files: shipped ones and a user's own, whose paths are meant from the file's folder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from medrecon.errors import ProtocolError
from medrecon.setting_files import SettingFile, find, shipped_names
from medrecon.setting_words import did_you_mean, sentence
from medrecon.training.settings import Recipe

_SHIPPED = resources.files("medrecon.training") / "recipes"
_PATHS = ("train", "validation")
_PATH = "cache"


def shipped_recipes() -> dict[str, str]:
    """Name and title of every recipe that comes with medrecon."""
    names = shipped_names(_SHIPPED)
    return {name: load_recipe(name, ["data.train=[.]"]).title for name in names}


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path_or_name
        A YAML file, or the name of a shipped recipe (see :func:`shipped_recipes`).
    overrides
        ``"key.sub=value"`` texts that replace or add single settings; the value is YAML.

    Raises
    ------
    ProtocolError
        If there is no such recipe, or it is not valid; the message has file, line and key.
    UsageError
        If an override is not ``key=value`` or its key cannot be reached.

    Examples
    --------
    >>> load_recipe("tiny", ["budget.steps=5"]).budget.steps
    5
    """
    found = find(path_or_name, _SHIPPED)
    if found is None:
        known = shipped_names(_SHIPPED)
        hint = did_you_mean(Path(path_or_name).stem, known, f"shipped are {', '.join(known)}")
        raise ProtocolError(sentence(f"there is no recipe {str(path_or_name)!r}{hint}"))
    file = SettingFile(found.content, found.name)
    if found.folder is not None:  # a shipped recipe means the paths from where it is run
        _resolve(file.data, found.folder)
    for override in overrides:
        file.override(override, "budget.minutes=30")
    return file.validated(Recipe)


def _resolve(recipe: dict[str, Any], folder: Path) -> None:
    """Take relative paths of a file as meant from its folder."""
    data = recipe.get("data")
    if not isinstance(data, dict):
        return
    for block, key in [(data, key) for key in _PATHS] + [
        (data.get("ood"), name) for name in (data.get("ood") or {})
    ]:
        if isinstance(block, dict) and isinstance(block.get(key), list):
            block[key] = [str(folder / p) if isinstance(p, str) else p for p in block[key]]
    if isinstance(data.get(_PATH), str):
        data[_PATH] = str(folder / data[_PATH])
