"""Strict YAML: the part of YAML 1.2 in which a file means what a reader thinks it means.

Common YAML 1.1 loaders turn ``no`` into False, ``010`` into 8, ``1:30`` into 90 and ``1e-3`` into
text, let the last of two equal keys win, expand aliases without bound and build objects from tags.
Here a plain scalar is null, true/false, a decimal number or text; duplicate keys, anchors, aliases,
merge keys, tags and a second document are errors; size and depth are capped; every error names its
line and column.  The tree is built from parser events, so no constructor ever runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from medrecon.errors import ProtocolError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
_MAX_NUMBER = 40  # characters; longer digits are text, and int() stays fast

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_SPECIAL = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    ".inf": float("inf"),
    "+.inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mark:
    """A place in a text; both numbers start at 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}:{self.column}"


@dataclass(frozen=True)
class Document:
    """A parsed text.

    Parameters
    ----------
    value
        Mappings as dict, sequences as list, scalars as None, bool, int, float or str.
    marks
        Where every node stands: the key of a mapping's entry, the start of a list's item.
    """

    value: Any
    marks: dict[Path, Mark] = field(default_factory=dict)


def resolve_scalar(text: str) -> Any:
    """Return the value of a plain (unquoted) scalar under the YAML 1.2 rules above.

    >>> [resolve_scalar(s) for s in ("no", "1e-3", "010", "1:30", "12", "null")]
    ['no', 0.001, '010', '1:30', 12, None]
    """
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) > _MAX_NUMBER or _LEADING_ZERO.fullmatch(text):
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def load_yaml(content: bytes, source: str) -> Document:
    """Parse strict YAML.

    Parameters
    ----------
    content
        The file's bytes, UTF-8 with or without byte order mark, any line endings.
    source
        What to call the text in errors, e.g. the file's name.

    Raises
    ------
    ProtocolError
        If the text is too large, not UTF-8, not YAML, or uses one of the refused features.
    """
    if len(content) > MAX_BYTES:
        raise ProtocolError(
            f"{source} has {len(content)} bytes; a protocol has at most {MAX_BYTES}."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProtocolError(
            f"{source} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from None
    parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(source, iter(yaml.parse(text, Loader=parser))).document()
    except yaml.YAMLError as error:
        raise ProtocolError(f"{source}{_syntax_error(error, text)}.") from None


def _syntax_error(error: yaml.YAMLError, text: str) -> str:
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f": not valid YAML, {reason}"
    place = Mark(mark.line + 1, mark.column + 1)
    lines = text.splitlines()
    if mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
        return f" {place}: tabs cannot indent YAML, use spaces"
    return f" {place}: not valid YAML, {reason}"


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(1, 1) if start is None else Mark(start.line + 1, start.column + 1)


class _Builder:
    """Turns one document's events into plain values, refusing what strict YAML leaves out."""

    def __init__(self, source: str, events: Iterator[yaml.Event]) -> None:
        self.source = source
        self.events = events
        self.marks: dict[Path, Mark] = {}

    def document(self) -> Document:
        """Build the only document of the stream."""
        event = self._next(yaml.StreamStartEvent)
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            raise ProtocolError(f"{self.source} is empty.")
        value = self._node(next(self.events), (), 0)
        self._next(yaml.DocumentEndEvent)
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._error(event, "a second document begins; a protocol is one document")
        return Document(value, self.marks)

    def _next(self, kind: type[yaml.Event]) -> yaml.Event:
        event = next(self.events)
        if not isinstance(event, kind):  # the parser's grammar excludes it
            raise self._error(event, "not valid YAML")
        return event

    def _error(self, event: yaml.Event, what: str) -> ProtocolError:
        return ProtocolError(f"{self.source} {_mark(event)}: {what}.")

    def _node(self, event: yaml.Event, path: Path, depth: int) -> Any:
        self._check(event, depth)
        self.marks.setdefault(path, _mark(event))
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else resolve_scalar(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path, depth)
        return self._mapping(path, depth)

    def _check(self, event: yaml.Event, depth: int) -> None:
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"aliases (*{anchor}) are not allowed, write the value")
        if anchor is not None:
            raise self._error(event, f"anchors (&{anchor}) are not allowed")
        if tag is not None:
            raise self._error(event, f"tags ({tag}) are not allowed")
        if depth > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")

    def _sequence(self, path: Path, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event, (*path, len(items)), depth + 1))
        return items

    def _mapping(self, path: Path, depth: int) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, entries)
            self.marks[*path, key] = _mark(event)
            entries[key] = self._node(next(self.events), (*path, key), depth + 1)
        return entries

    def _key(self, event: yaml.Event, entries: dict[str, Any]) -> str:
        self._check(event, 0)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(event, "a key must be a word")
        key = str(event.value)
        if key == "<<" and not event.style:
            raise self._error(event, "merge keys (<<) are not allowed, write the values")
        if key in entries:
            raise self._error(event, f"the key {key!r} stands twice in one block")
        return key
