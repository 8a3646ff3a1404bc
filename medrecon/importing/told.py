"""Settings that came with weights, asked by name and checked when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from medrecon.errors import WeightsError
from medrecon.priors.diffusion import Schedule


@dataclass(frozen=True)
class Told:
    """Settings of a network's training, all of them optional.

    A section may be left out: ``model.nf`` is also found as ``nf``.
    """

    config: Mapping[str, Any]

    def any(self, path: str) -> Any:
        """Give a setting as it is, or ``None``."""
        section, _, name = path.rpartition(".")
        inside = self.config.get(section)
        return (inside if isinstance(inside, Mapping) else self.config).get(
            name, self.config.get(name)
        )

    def number(self, path: str, default: float) -> float:
        """Give a number above 0 and below a million."""
        found = self.any(path)
        if found is None:
            return default
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1e6:
            raise WeightsError(f"Its setting {path} is {found!r}, no positive number.")
        return found

    def count(self, path: str, default: int) -> int:
        """Give a whole number; the default may be what no setting can be, 0."""
        found = self.number(path, default)
        if found != int(found):
            raise WeightsError(f"Its setting {path} is {found!r}, no whole number.")
        return int(found)

    def truth(self, path: str, default: bool) -> bool:
        """Give yes or no."""
        found = self.any(path)
        if not isinstance(found, bool | None):
            raise WeightsError(f"Its setting {path} is {found!r}, not true or false.")
        return default if found is None else found

    def word(self, path: str, default: str) -> str:
        """Give a name in lower case."""
        found = self.any(path)
        if not isinstance(found, str | None):
            raise WeightsError(f"Its setting {path} is {found!r}, no name.")
        return default if found is None else found.lower()

    def numbers(self, path: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Give a list of numbers."""
        found = self.any(path)
        if found is None:
            return default
        if not isinstance(found, list | tuple) or not all(
            isinstance(n, int | float) for n in found
        ):
            raise WeightsError(f"Its setting {path} is {found!r}, no list of numbers.")
        return tuple(float(n) for n in found)


def schedule_of(**levels: Any) -> Schedule:
    """Make a schedule of settings.

    Raises
    ------
    WeightsError
        If no network can have been trained with it.
    """
    try:
        return Schedule(**levels)
    except ValidationError as error:
        first = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise WeightsError(f"The noise levels of its settings cannot be: {first}.") from None
