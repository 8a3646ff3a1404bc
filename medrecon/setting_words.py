"""Words for what is wrong with a setting, shared by protocols and recipes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "dict_type": "a block of keys",
}


def sentence(text: str) -> str:
    """End a text as a sentence."""
    return text if text.endswith("?") else f"{text}."


def did_you_mean(name: str, known: Sequence[str], otherwise: str) -> str:
    """Name the nearest known name, or say something else."""
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f", did you mean {close[0]}?" if close else f" ({otherwise})"


def expectation(detail: ErrorDetails) -> str:
    """Say what a value should have been, from pydantic's error."""
    if detail["type"] in _EXPECTED:
        return f"expected {_EXPECTED[detail['type']]}"
    if detail["type"] == "string_pattern_mismatch":
        return "expected 1 to 64 letters, digits, dots, dashes or underscores"
    limits = detail.get("ctx", {})
    if "max_length" in limits:
        return f"expected at most {limits['max_length']} items or characters"
    if "min_length" in limits:
        return f"expected at least {limits['min_length']} item"
    message = detail["msg"].removeprefix("Input should be ")
    return f"expected {'a value ' if message.startswith(('greater', 'less')) else ''}{message}"


def shown(value: Any) -> str:
    """Show a value as briefly as an error may be."""
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
