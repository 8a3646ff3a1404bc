"""Where the pixels of a stack lie in a smoothly deformed body."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medrecon.anatomy.fields import bumps

Point = tuple[float, float, float]
"""Millimetres (z, y, x): z to the head, y to the back, x to the patient's left."""
Box = tuple[slice, slice, slice]


class Places(NamedTuple):
    """Body coordinates in mm of a box of pixels, each ``(slices, y, x)``."""

    z: Tensor
    y: Tensor
    x: Tensor


class Frame:
    """Body coordinates of every pixel of a stack.

    Parameters
    ----------
    places
        Coordinates of the whole stack.
    pixel_mm
        Size of a pixel.
    """

    def __init__(self, places: Places, pixel_mm: float) -> None:
        self.places = places
        self.pixel_mm = pixel_mm
        # what rows and columns reach, so that a small organ need not look at every pixel
        self._slices = places.z.amin((1, 2)), places.z.amax((1, 2))
        self._rows = places.y.amin((0, 2)), places.y.amax((0, 2))
        self._columns = places.x.amin((0, 1)), places.x.amax((0, 1))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Stack ``(slices, y, x)``."""
        slices, y, x = self.places.z.shape
        return slices, y, x

    @property
    def heights(self) -> tuple[float, float]:
        """Lowest and highest z in mm."""
        return float(self._slices[0].min()), float(self._slices[1].max())

    def box(self, low: Point, high: Point) -> Box | None:
        """Smallest box of pixels that holds all with coordinates between two corners."""
        found = [
            _span(ends, low[axis], high[axis])
            for axis, ends in enumerate((self._slices, self._rows, self._columns))
        ]
        z, y, x = found
        return None if z is None or y is None or x is None else (z, y, x)

    def around(self, centre: Point, reach: Point) -> Box | None:
        """Box of the pixels within ``reach`` of a centre."""
        margin = 2 * self.pixel_mm
        low = (centre[0] - reach[0], centre[1] - reach[1] - margin, centre[2] - reach[2] - margin)
        high = (centre[0] + reach[0], centre[1] + reach[1] + margin, centre[2] + reach[2] + margin)
        return self.box(low, high)

    def at(self, box: Box) -> Places:
        """Coordinates in a box."""
        return Places(self.places.z[box], self.places.y[box], self.places.x[box])


def _span(ends: tuple[Tensor, Tensor], low: float, high: float) -> slice | None:
    inside = ((ends[1] >= low) & (ends[0] <= high)).nonzero()
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else None


def plain_grid(
    shape: tuple[int, int, int], pixel_mm: float, slice_mm: float, middle_mm: float = 0.0
) -> Places:
    """Coordinates in mm about the centre of a stack, nothing deformed."""
    z, y, x = (torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape)
    return Places(
        (z * slice_mm + middle_mm)[:, None, None].expand(shape),
        (y * pixel_mm)[:, None].expand(shape),
        (x * pixel_mm).expand(shape),
    )


def deformed_frame(
    generator: torch.Generator,
    shape: tuple[int, int, int],
    pixel_mm: float,
    slice_mm: float,
    *,
    middle_mm: float,
    shift_mm: tuple[float, float],
    turn: float,
    slow_mm: float,
    fine_mm: float,
) -> Frame:
    """Coordinates of a stack in a body that is shifted, turned and smoothly deformed.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        ``(slices, y, x)``.
    pixel_mm, slice_mm
        Size of a pixel and distance of slices.
    middle_mm
        Height of the middle of the stack in the body.
    shift_mm
        Shift (y, x) of the body.
    turn
        Turn about z in rad.
    slow_mm, fine_mm
        Standard deviations of the displacement with nodes a quarter and a twelfth of the field
        of view apart. Far below the distance of their nodes they never fold.

    Returns
    -------
    Frame
        Body coordinates.
    """
    grid = plain_grid(shape, pixel_mm, slice_mm, middle_mm)
    y, x = grid.y - shift_mm[0], grid.x - shift_mm[1]
    cosine, sine = torch.tensor(turn).cos(), torch.tensor(turn).sin()
    y, x = cosine * y - sine * x, sine * y + cosine * x
    y, x = (
        axis
        + slow_mm * bumps(generator, shape, 5, 50 / slice_mm)
        + fine_mm * bumps(generator, shape, 13, 20 / slice_mm)
        for axis in (y, x)
    )
    return Frame(Places(grid.z, y, x), pixel_mm)
