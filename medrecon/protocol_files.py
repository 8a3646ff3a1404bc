"""Protocol files: find one, read it strictly, say in one sentence what is wrong with it."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path, PureWindowsPath
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medrecon import yaml_loader
from medrecon.errors import ProtocolError, UsageError
from medrecon.protocol import METHODS, Protocol
from medrecon.setting_words import did_you_mean, expectation, sentence, shown

SCHEMA_VERSION = 1
_FILES = (
    ("acquisition", "matrices_file"),
    ("coil_maps", "file"),
    ("field_map_file",),
)
"""Settings that are paths, meant relative to the protocol file."""


def shipped_protocols() -> dict[str, str]:
    """Name and title of every protocol that comes with medrecon."""
    return {name: load_protocol(name).title for name in _shipped_names()}


def _shipped_names() -> list[str]:
    folder = resources.files("medrecon.protocols")
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


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
    content, source, folder = _read(path_or_name)
    document = yaml_loader.load_yaml(content, source)
    if not isinstance(document.value, dict):
        raise ProtocolError(f"{source} has to be a block of keys such as 'name: chest'.")
    reader = _Reader(source, document)
    reader.check_version()
    reader.resolve_paths(folder)
    for override in overrides:
        reader.override(override)
    return reader.protocol()


def _read(path_or_name: str | Path) -> tuple[bytes, str, Path]:
    path = Path(path_or_name)
    if path.is_file():
        try:
            return path.read_bytes(), path.name, path.parent
        except OSError as error:
            raise ProtocolError(f"{path.name} cannot be read: {error.strerror}.") from None
    name, known = str(path_or_name).removesuffix(".yaml"), _shipped_names()
    if name in known:
        folder = Path(str(resources.files("medrecon.protocols")))
        return (folder / f"{name}.yaml").read_bytes(), f"{name}.yaml", folder
    hint = did_you_mean(path.stem, known, "see: medrecon protocols")
    raise ProtocolError(
        sentence(f"there is no protocol file and no shipped protocol {str(path_or_name)!r}{hint}")
    )


class _Reader:
    """One protocol on its way from plain values to the typed tree."""

    def __init__(self, source: str, document: yaml_loader.Document) -> None:
        self.source = source
        self.data: dict[str, Any] = document.value
        self.marks = document.marks
        self.overrides: dict[yaml_loader.Path, str] = {}

    def check_version(self) -> None:
        """Say so where the file was written for a newer program, before anything else."""
        version, path = self.data.get("schema_version"), ("schema_version",)
        if type(version) is not int:  # the schema alone would take true for 1
            raise self._error(path, f"is needed, write schema_version: {SCHEMA_VERSION}")
        if version > SCHEMA_VERSION:
            raise self._error(
                path, f"{version} is written for a newer medrecon (this one reads {SCHEMA_VERSION})"
            )

    def resolve_paths(self, folder: Path) -> None:
        """Make paths relative to the protocol file: of a prior's folder, of files of a scan."""
        name = self._text("prior", "name")
        if name is not None:
            self._refuse_address(("prior", "name"), name)
            if "/" in name or "\\" in name:
                self.data["prior"]["name"] = str((folder / name).resolve())
        for path in _FILES:
            file = self._text(*path)
            if file is None:
                continue
            self._refuse_address(path, file)
            if Path(file).is_absolute() or PureWindowsPath(file).is_absolute():
                raise self._error(path, "absolute paths are not followed, put it beside this file")
            self._block(path[:-1])[path[-1]] = str((folder / file).resolve())

    def _block(self, path: tuple[str, ...]) -> dict[str, Any]:
        node: Any = self.data
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node if isinstance(node, dict) else {}

    def _text(self, *path: str) -> str | None:
        value = self._block(path[:-1]).get(path[-1])
        return value if isinstance(value, str) else None

    def _refuse_address(self, path: yaml_loader.Path, name: str) -> None:
        if "://" in name or name.startswith("~") or "$" in name:
            raise self._error(path, "addresses, ~ and variables are not followed, write a path")

    def override(self, text: str) -> None:
        """Apply one ``key.sub=value``."""
        key, equals, value = text.partition("=")
        parts = [int(p) if p.isdecimal() else p for p in key.strip().split(".")]
        if not equals or "" in parts:
            raise UsageError(f"--set {text!r}: expected key=value, such as sampler.steps=10.")
        parsed = None
        if value.strip():
            parsed = yaml_loader.load_yaml(value.encode(), f"--set {key.strip()}").value
        container = self._container(parts, text)
        if isinstance(container, list):
            if not isinstance(parts[-1], int) or parts[-1] >= len(container):
                raise UsageError(f"--set {text!r}: the list has items 0 to {len(container) - 1}.")
            container[parts[-1]] = parsed
        else:
            container[str(parts[-1])] = parsed
        self.overrides[tuple(parts)] = value.strip()

    def _container(self, parts: list[str | int], text: str) -> dict[str, Any] | list[Any]:
        node: Any = self.data
        for depth, part in enumerate(parts[:-1]):
            if isinstance(node, dict):
                if node.get(str(part)) is None:
                    node[str(part)] = {}
                node = node[str(part)]
            elif isinstance(node, list) and isinstance(part, int) and part < len(node):
                node = node[part]
            if not isinstance(node, dict | list):
                where = ".".join(map(str, parts[: depth + 1]))
                raise UsageError(f"--set {text!r}: {where} has no settings below it.")
        return typing.cast("dict[str, Any] | list[Any]", node)

    def protocol(self) -> Protocol:
        """Validate; an override's value is text where the schema wants text (``name=7``)."""
        try:
            return Protocol.model_validate(self.data)
        except ValidationError as error:
            details = error.errors(include_url=False)
            for detail in details:
                path = self._path(detail)
                if detail["type"] == "string_type" and path in self.overrides:
                    text = self.overrides.pop(path)
                    container = self._container(list(path), text)
                    container[path[-1]] = text  # type: ignore[index]
                    return self.protocol()
            raise self._validation_error(details) from None

    def _path(self, detail: ErrorDetails) -> yaml_loader.Path:
        """Where the error is, without the tags of unions that pydantic puts in between."""
        path: list[str | int] = []
        node: Any = self.data
        for position, part in enumerate(detail["loc"]):
            last = position == len(detail["loc"]) - 1
            inside = (isinstance(node, dict) and part in node) or (
                isinstance(node, list) and isinstance(part, int) and part < len(node)
            )
            if inside:
                node = node[part]
            if inside or (last and detail["type"] in ("missing", "extra_forbidden")):
                path.append(part)
        return tuple(path)

    def _validation_error(self, details: list[ErrorDetails]) -> ProtocolError:
        # A misspelt key is unknown here and missing there: the unknown one is the cause.
        order = sorted(details, key=lambda d: d["type"] != "extra_forbidden")
        first, path = order[0], self._path(order[0])
        if first["type"] == "extra_forbidden":
            return self._error(path, f"unknown key{self._nearest(path)}")
        if first["type"] == "missing" and isinstance(first["loc"][-1], int):
            return self._error(path[:-1], f"expected more than {path[-1]} items")
        if first["type"] == "missing":
            return self._error(path, "is missing")
        if first["type"] == "value_error":
            key, _, what = str(first["ctx"]["error"]).partition(": ")
            below = tuple(int(p) if p.isdecimal() else p for p in key.split(".") if p)
            return self._error((*path, *below), what)
        if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
            return self._error((*path, "kind"), f"expected one of {', '.join(METHODS)}")
        return self._error(path, f"{expectation(first)}, got {shown(first['input'])}")

    def _error(self, path: yaml_loader.Path, what: str) -> ProtocolError:
        key = ".".join(map(str, path))
        if path in self.overrides or any(path[: len(o)] == o for o in self.overrides):
            return ProtocolError(sentence(f"--set {key}: {what}"))
        mark = next(
            (self.marks[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.marks), None
        )
        place = f" {mark}" if mark else ""
        return ProtocolError(sentence(f"{self.source}{place}: {key}: {what}"))

    def _nearest(self, path: yaml_loader.Path) -> str:
        name = str(path[-1])
        model = _model_at(Protocol, path[:-1], self.data)
        here = list(model.model_fields) if model else []
        elsewhere = [key for key in _dotted_keys(Protocol) if key.rpartition(".")[2] == name]
        if ".".join(map(str, path)) in elsewhere:
            return f" where kind is {self.data[str(path[0])]['kind']}"
        if elsewhere and not difflib.get_close_matches(name, here, 1, 0.8):
            return f", did you mean {elsewhere[0]}?"
        return did_you_mean(name, here, f"valid here: {', '.join(here)}")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every settings class that a field's type mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)


def _model_at(model: type[BaseModel], path: yaml_loader.Path, data: Any) -> type[BaseModel] | None:
    """Return the settings class at ``path``; a union's member is picked by its ``kind``."""
    for part in path:
        data = data[part]
        if isinstance(part, int):
            continue  # an item has the class that its list's field mentions
        if part not in model.model_fields:
            return None
        kind = data.get("kind") if isinstance(data, dict) else None
        below = [
            m
            for m in _models(model.model_fields[part].annotation)
            if "kind" not in m.model_fields
            or kind in typing.get_args(m.model_fields["kind"].annotation)
        ]
        if not below:
            return None
        model = below[0]
    return model


def _dotted_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield prefix + name
        if not str(info.annotation).startswith(("tuple", "typing.Tuple")):
            for below in _models(info.annotation):
                yield from _dotted_keys(below, f"{prefix}{name}.")
