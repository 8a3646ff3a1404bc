"""What every CT geometry shares: views that can be counted and sliced, a repr that rebuilds it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import MISSING, Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from medrecon.errors import InconsistentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medrecon.grid import Grid

Vector = tuple[float, float, float]
"""A point or direction ``(x, y, z)``, LPS, mm."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Scan:
    """Base of the CT geometries: a frozen value with one or more fields per view.

    A subclass names its fields that have one entry per view in ``PER_VIEW``, the first of which is
    never empty; others may be empty where the scanner does not use them.
    """

    PER_VIEW: ClassVar[tuple[str, ...]]

    columns: int
    """Detector cells along u."""

    @property
    def views(self) -> int:
        """Number of views."""
        return len(getattr(self, self.PER_VIEW[0]))

    def __getitem__(self, views: slice) -> Self:
        """Keep some views, e.g. every fourth one: ``geometry[::4]``."""
        if not isinstance(views, slice):
            raise InconsistentError(
                f"Views are selected by a slice such as geometry[::2], got {views}."
            )
        return replace(self, **{name: getattr(self, name)[views] for name in self.PER_VIEW})

    def __repr__(self) -> str:
        """Python that makes this value again; fields at their default are left out."""
        told = (f for f in fields(self) if getattr(self, f.name) != _default(f))
        inside = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in told)
        return f"{type(self).__name__}({inside})"

    def plot(self, grid: Grid | None = None) -> Figure:
        """Draw source path, detector and field of view, and the volume where a grid is given.

        Returns
        -------
        matplotlib.figure.Figure
            Seen from above (x, y) and from the side; LPS mm.
        """
        from medrecon.geometry.plot import plot

        return plot(self, grid)  # type: ignore[arg-type]

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InconsistentError(
                    f"{type(self).__name__}.{name} must be positive, got {value}."
                )

    def _scalars(self, *names: str) -> None:
        """Make plain floats, so that repr and equality do not depend on who computed them."""
        for name in names:
            value = float(getattr(self, name))
            if math.isnan(value) or (math.isinf(value) and name != "detector_radius"):
                raise InconsistentError(
                    f"{type(self).__name__}.{name} must be a finite number, got {value}."
                )
            self._set(**{name: value})

    def _numbers(self, name: str, *, unit: str) -> None:
        """One number per view."""
        values = tuple(float(v) for v in getattr(self, name))
        self._set(**{name: values})
        if not all(math.isfinite(v) for v in values):
            raise InconsistentError(f"{type(self).__name__}.{name} must be finite, in {unit}.")
        self._length(name)

    def _vectors(self, name: str) -> None:
        """One vector per view."""
        given = getattr(self, name)
        try:
            array = np.array(given, np.float64).reshape(len(given), 3)
        except (TypeError, ValueError):  # ragged, or not three each
            array = np.full((1, 3), np.nan)
        if not np.isfinite(array).all():
            raise InconsistentError(
                f"{type(self).__name__}.{name} needs three finite numbers (x, y, z) per view, mm."
            )
        self._set(**{name: tuple(tuple(row) for row in array.tolist())})
        self._length(name)

    def _length(self, name: str) -> None:
        first, n = self.PER_VIEW[0], len(getattr(self, name))
        if name == first and n == 0:
            raise InconsistentError(f"{type(self).__name__} needs at least one view.")
        optional = any(f.name == name and f.default == () for f in fields(self))
        if name != first and n != self.views and not (optional and n == 0):
            raise InconsistentError(
                f"{type(self).__name__}.{name} has {n} entries for {self.views} views; give one "
                "per view."
            )


def _default(field: Field[Any]) -> object:
    return field if field.default is MISSING else field.default


def vector(values: Iterable[float]) -> Vector:
    """Three plain floats."""
    x, y, z = (float(v) for v in values)
    return x, y, z
