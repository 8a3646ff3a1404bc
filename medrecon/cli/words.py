"""All that is printed: lines on stdout, one sentence on stderr."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import typer


def fail(text: str, code: int) -> int:
    """Say an error, and return its exit code."""
    line(f"medrecon: error: {text}")
    return code


def show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Say a warning in one line."""
    line(f"medrecon: warning: {message}")


def line(text: str) -> None:
    """One line on stderr, whatever a file name or a header put into the text."""
    clean = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    print(clean.encode("utf-8", "replace").decode(), file=sys.stderr)


def say(text: str) -> None:
    """Print to standard output."""
    print(text, flush=True)


def usage(error: typer.TyperException) -> str:
    """Typer's message in our one sentence, with the nearest command or option."""
    message = error.format_message().replace("\n", " ").rstrip(".")
    command = getattr(getattr(error, "ctx", None), "command", None)
    wrong = getattr(error, "option_name", None)
    if wrong and message.startswith("No such option"):
        known = [o for p in getattr(command, "params", []) for o in p.opts if o.startswith("--")]
        close = difflib.get_close_matches(wrong, [*known, "--help"], 1, 0.5)
        hint = f", did you mean {close[0]}?" if close else ", see --help."
        return f"no such option {wrong}{hint}"
    if message.endswith("?"):
        return message
    return f"{message}, see medrecon --help."


def show(facts: dict[str, Any], indent: str = "") -> None:
    """Print names and values, blocks indented."""
    width = max((len(key) for key in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            say(f"{indent}{key}")
            show(value, indent + "  ")
        else:
            say(f"{indent}{key:{width}}  {_in_words(value)}")


def _in_words(value: Any) -> str:
    """Write one value for people: sizes as a product, other lists with commas."""
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | dict) and not value:
        return "none"
    if isinstance(value, list):
        sizes = all(isinstance(item, int | float) and item > 0 for item in value)
        return (" x " if sizes else ", ").join(map(str, value))
    return str(value)
