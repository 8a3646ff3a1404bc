"""Prepared slices in memory, and which of them are neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.anatomy.draw import Draw
from medrecon.errors import InconsistentError
from medrecon.training.stack import Stack, alone

_COARSE = 3  # every third pixel along both axes tells whether two slices are alike


@dataclass(frozen=True)
class Series:
    """Slices of one patient in the order of the file.

    Parameters
    ----------
    patient
        A name that is the same for all series of a patient; never shown.
    slices
        ``(z, y, x)``, float32 or float16, in the prior's unit: CT [-1, 1], MR the magnitude;
        complex MR where it is procedural.
    pixel_mm
        Mean side of a pixel; ``None`` where not known.
    """

    patient: str
    slices: Tensor
    pixel_mm: float | None = None


@dataclass(frozen=True)
class _Place:
    series: int
    z: int
    reaches: tuple[int, ...]


class Slices:
    """All slices of a set of patients.

    Parameters
    ----------
    series
        One item per series; several may be of one patient.
    correlation
        Slices less alike than this are no neighbours.
    reach
        Largest distance of a neighbour, in slices.

    Raises
    ------
    InconsistentError
        If there is no slice.
    """

    def __init__(self, series: Sequence[Series], *, correlation: float, reach: int) -> None:
        self.series = tuple(series)
        self._places = [
            _Place(i, z, reaches)
            for i, one in enumerate(self.series)
            for z, reaches in enumerate(_reaches(one.slices, correlation, reach))
        ]
        if not self._places:
            raise InconsistentError("There are no slices to train on; name other files.")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def with_neighbours(self) -> int:
        """How many slices have one below and one above."""
        return sum(bool(place.reaches) for place in self._places)

    @property
    def patients(self) -> frozenset[str]:
        """Names of the patients."""
        return frozenset(one.patient for one in self.series)

    @property
    def pixel_mm(self) -> tuple[float, float] | None:
        """Smallest and largest pixel, mm; ``None`` where none is known."""
        known = [one.pixel_mm for one in self.series if one.pixel_mm is not None]
        return (round(min(known), 3), round(max(known), 3)) if known else None

    def at(self, index: int) -> Stack:
        """Stack of slice ``index`` with its direct neighbours, where it has both."""
        place = self._places[index]
        return self._stack(place, 1 if 1 in place.reaches else 0)

    def draw(self, draw: Draw, share: float) -> Stack:
        """Draw a slice; of those with neighbours, a ``share`` shows them, near or farther ones."""
        place = self._places[draw.integer(len(self._places))]
        if not place.reaches or not draw.chance(share):
            return self._stack(place, 0)
        return self._stack(place, place.reaches[draw.integer(len(place.reaches))])

    def _stack(self, place: _Place, reach: int) -> Stack:
        values = self.series[place.series].slices
        if not reach:
            return alone(_exact(values[place.z]))
        three = _exact(values[[place.z - reach, place.z, place.z + reach]])
        return Stack(three, torch.ones(2, dtype=torch.bool))


def _exact(values: Tensor) -> Tensor:
    """Half precision is for keeping, not for computing."""
    return values.float() if values.dtype == torch.float16 else values


def _reaches(values: Tensor, correlation: float, reach: int) -> list[tuple[int, ...]]:
    """Distances at which every slice of a series has neighbours on both sides."""
    coarse = _exact(values[:, ::_COARSE, ::_COARSE]).flatten(1)
    coarse = coarse - coarse.mean(1, keepdim=True)
    unit = coarse / coarse.norm(dim=1, keepdim=True).clamp_min(1e-6)
    found: list[list[int]] = [[] for _ in values]
    for distance in range(1, reach + 1):
        alike = (unit[:-distance] * unit[distance:]).sum(1) > correlation
        for z in range(distance, len(values) - distance):
            if bool(alike[z - distance]) and bool(alike[z]):
                found[z].append(distance)
    return [tuple(distances) for distances in found]
