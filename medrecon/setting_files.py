"""Files of settings: find one, override what is in it, say in one sentence what is wrong with it.

Protocols and recipes are such files; what their settings mean is not known here.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medrecon import yaml_loader
from medrecon.errors import ProtocolError, UsageError
from medrecon.setting_words import did_you_mean, expectation, sentence, shown

SCHEMA_VERSION = 1
Model = TypeVar("Model", bound=BaseModel)


class Found(NamedTuple):
    """A file's content, its name, and the folder that its paths are meant from.

    The ``folder`` of a shipped file is None.
    """

    content: bytes
    name: str
    folder: Path | None


def shipped_names(shipped: Traversable) -> list[str]:
    """Names of the YAML files in a folder of the package, without their ending."""
    return sorted(f.name[: -len(".yaml")] for f in shipped.iterdir() if f.name.endswith(".yaml"))


def find(path_or_name: str | Path, shipped: Traversable) -> Found | None:
    """Find a file by its path, or a shipped one by its name; None where there is neither.

    Raises
    ------
    ProtocolError
        If it is there and cannot be read.
    """
    path = Path(path_or_name)
    if path.is_file():
        try:
            return Found(path.read_bytes(), path.name, path.parent)
        except OSError as error:
            raise ProtocolError(f"{path.name} cannot be read: {error.strerror}.") from None
    name = str(path_or_name).removesuffix(".yaml")
    if name not in shipped_names(shipped):
        return None
    return Found((shipped / f"{name}.yaml").read_bytes(), f"{name}.yaml", None)


class SettingFile:
    """Settings on their way from a file's plain values to a typed tree.

    Parameters
    ----------
    content
        The file's bytes, strict YAML.
    source
        What to call it in errors.

    Raises
    ------
    ProtocolError
        If it is not strict YAML, no block of keys, or written for another version.
    """

    def __init__(self, content: bytes, source: str) -> None:
        document = yaml_loader.load_yaml(content, source)
        if not isinstance(document.value, dict):
            raise ProtocolError(f"{source} has to be a block of keys such as 'name: chest'.")
        self.source = source
        self.data: dict[str, Any] = document.value
        self._marks = document.marks
        self._overrides: dict[yaml_loader.Path, str] = {}
        self._check_version()

    def _check_version(self) -> None:
        """Say so where the file was written for a newer program, before anything else."""
        version, path = self.data.get("schema_version"), ("schema_version",)
        if type(version) is not int:  # the schema alone would take true for 1
            raise self.error(path, f"is needed, write schema_version: {SCHEMA_VERSION}")
        if version > SCHEMA_VERSION:
            raise self.error(
                path, f"{version} is written for a newer medrecon (this one reads {SCHEMA_VERSION})"
            )

    def override(self, text: str, example: str) -> None:
        """Apply one ``key.sub=value``; the value is YAML, items of lists go by their number.

        Parameters
        ----------
        text
            The override.
        example
            What to show who wrote something else.

        Raises
        ------
        UsageError
            If it is not ``key=value`` or its key cannot be reached.
        """
        key, equals, value = text.partition("=")
        parts = [int(p) if p.isdecimal() else p for p in key.strip().split(".")]
        if not equals or "" in parts:
            raise UsageError(f"--set {text!r}: expected key=value, such as {example}.")
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
        self._overrides[tuple(parts)] = value.strip()

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

    def validated(self, model: type[Model]) -> Model:
        """Validate; an override's value is text where the schema wants text (``name=7``).

        Raises
        ------
        ProtocolError
            With file, line and column, the key, what is wrong, and the nearest valid name of an
            unknown key.
        """
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            details = error.errors(include_url=False)
            for detail in details:
                path = self._path(detail)
                if detail["type"] == "string_type" and path in self._overrides:
                    text = self._overrides.pop(path)
                    container = self._container(list(path), text)
                    container[path[-1]] = text  # type: ignore[index]
                    return self.validated(model)
            raise self._validation_error(details, model) from None

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

    def _validation_error(
        self, details: list[ErrorDetails], model: type[BaseModel]
    ) -> ProtocolError:
        # A misspelt key is unknown here and missing there: the unknown one is the cause.
        order = sorted(details, key=lambda d: d["type"] != "extra_forbidden")
        first, path = order[0], self._path(order[0])
        if first["type"] == "extra_forbidden":
            return self.error(path, f"unknown key{self._nearest(path, model)}")
        if first["type"] == "missing" and isinstance(first["loc"][-1], int):
            return self.error(path[:-1], f"expected more than {path[-1]} items")
        if first["type"] == "missing":
            return self.error(path, "is missing")
        if first["type"] == "value_error":
            key, colon, what = str(first["ctx"]["error"]).partition(": ")
            if not colon:
                key, what = "", key
            below = tuple(int(p) if p.isdecimal() else p for p in key.split(".") if p)
            return self.error((*path, *below), what)
        if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
            kinds = ", ".join(_kinds(model.model_fields[str(path[0])].annotation))
            return self.error((*path, "kind"), f"expected one of {kinds}")
        return self.error(path, f"{expectation(first)}, got {shown(first['input'])}")

    def error(self, path: yaml_loader.Path, what: str) -> ProtocolError:
        """Make the sentence of an error: the override or the line, the key, what is wrong."""
        key = ".".join(map(str, path))
        # an override above or below the key: what it set is the cause
        if any(path[: len(o)] == o[: len(path)] for o in self._overrides):
            return ProtocolError(sentence(f"--set {key}: {what}"))
        ends = range(len(path), 0, -1)
        mark = next((self._marks[path[:n]] for n in ends if path[:n] in self._marks), None)
        place = f" {mark}" if mark else ""
        return ProtocolError(sentence(f"{self.source}{place}: {key}: {what}"))

    def _nearest(self, path: yaml_loader.Path, model: type[BaseModel]) -> str:
        name = str(path[-1])
        block = _model_at(model, path[:-1], self.data)
        here = list(block.model_fields) if block else []
        elsewhere = [key for key in _dotted_keys(model) if key.rpartition(".")[2] == name]
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


def _kinds(annotation: Any) -> list[str]:
    """Every ``kind`` that the settings classes of a field's type tell apart."""
    told = (m.model_fields["kind"] for m in _models(annotation) if "kind" in m.model_fields)
    return [kind for field in told for kind in typing.get_args(field.annotation)]


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
            if "kind" not in m.model_fields or kind in _kinds(m)
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
