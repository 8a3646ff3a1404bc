"""Recipe files: find one, read it strictly, say in one sentence what is wrong with it."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medrecon import yaml_loader
from medrecon.errors import ProtocolError, UsageError
from medrecon.setting_words import did_you_mean, expectation, sentence, shown
from medrecon.training.settings import Recipe

_RECIPES = "medrecon.training"
_SCHEMA = 1
_PATHS = ("train", "validation")
_PATH = "cache"
_Key = tuple[str | int, ...]


def shipped_recipes() -> dict[str, str]:
    """Name and title of every recipe that comes with medrecon."""
    return {name: load_recipe(name, ["data.train=[.]"]).title for name in _names()}


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
    content, source, folder = _read(path_or_name)
    document = yaml_loader.load_yaml(content, source)
    if not isinstance(document.value, dict):
        raise ProtocolError(f"{source} has to be a block of keys such as 'name: chest'.")
    version = document.value.get("schema_version")
    if type(version) is not int or version != _SCHEMA:
        raise ProtocolError(
            f"{source}: schema_version: is needed, write schema_version: {_SCHEMA}."
        )
    if folder is not None:
        _resolve(document.value, folder)
    changed = {_override(document.value, text) for text in overrides}
    try:
        return Recipe.model_validate(document.value)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise _sentence_of(details, document, source, changed) from None


def _names() -> list[str]:
    folder = resources.files(_RECIPES) / "recipes"
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def _read(path_or_name: str | Path) -> tuple[bytes, str, Path | None]:
    """Content, name, and the folder from which its paths are meant (shipped ones have none)."""
    path = Path(path_or_name)
    if path.is_file():
        try:
            return path.read_bytes(), path.name, path.parent
        except OSError as error:
            raise ProtocolError(f"{path.name} cannot be read: {error.strerror}.") from None
    name, known = str(path_or_name).removesuffix(".yaml"), _names()
    if name in known:
        file = resources.files(_RECIPES) / "recipes" / f"{name}.yaml"
        return file.read_bytes(), f"{name}.yaml", None
    hint = did_you_mean(path.stem, known, f"shipped are {', '.join(known)}")
    raise ProtocolError(sentence(f"there is no recipe {str(path_or_name)!r}{hint}"))


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


def _override(recipe: dict[str, Any], text: str) -> _Key:
    """Apply one ``key.sub=value``; return its key."""
    key, equals, value = text.partition("=")
    parts = tuple(int(p) if p.isdecimal() else p for p in key.strip().split("."))
    if not equals or "" in parts:
        raise UsageError(f"--set {text!r}: expected key=value, such as budget.minutes=30.")
    node: Any = recipe
    for part in parts[:-1]:
        if isinstance(node, dict) and node.get(part) is None:
            node[part] = {}
        node = node[part] if isinstance(node, dict) or _item(node, part) else None
        if not isinstance(node, dict | list):
            raise UsageError(f"--set {text!r}: {part} has no settings below it.")
    last = parts[-1]
    if isinstance(node, list) and not _item(node, last):
        raise UsageError(f"--set {text!r}: the list has items 0 to {len(node) - 1}.")
    plain = value.strip()
    node[last] = yaml_loader.load_yaml(plain.encode(), f"--set {key}").value if plain else None
    return parts


def _item(node: Any, part: str | int) -> bool:
    return isinstance(node, list) and isinstance(part, int) and part < len(node)


def _sentence_of(
    details: list[ErrorDetails], document: yaml_loader.Document, source: str, changed: set[_Key]
) -> ProtocolError:
    # A misspelt key is unknown here and missing there: the unknown one is the cause.
    first = min(details, key=lambda detail: detail["type"] != "extra_forbidden")
    path: _Key = tuple(first["loc"])
    what = f"{expectation(first)}, got {shown(first['input'])}"
    if first["type"] == "extra_forbidden":
        known = _fields(Recipe, path[:-1])
        hint = did_you_mean(str(path[-1]), known, f"valid here: {', '.join(known)}")
        what = f"unknown key{hint}"
    elif first["type"] == "missing":
        what = "is missing"
    elif first["type"] == "value_error":
        key, _, what = str(first["ctx"]["error"]).partition(": ")
        if not what:
            key, what = "", key
        path = (*path, *(part for part in key.split(".") if part))
    name = ".".join(map(str, path))
    if any(path[: len(key)] == key or key[: len(path)] == path for key in changed):
        return ProtocolError(sentence(f"--set {name}: {what}"))
    marks = document.marks
    mark = next((marks[path[:n]] for n in range(len(path), 0, -1) if path[:n] in marks), None)
    place = f" {mark}" if mark else ""
    return ProtocolError(sentence(f"{source}{place}: {name}: {what}"))


def _fields(model: type[BaseModel], path: _Key) -> list[str]:
    """Names of the settings in the block at ``path``."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        below = _models(field.annotation) if field else []
        if not below:
            return []
        model = below[0]
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in typing.get_args(annotation) for model in _models(part)]
