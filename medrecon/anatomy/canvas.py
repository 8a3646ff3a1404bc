"""Painting tissues over each other, pixels on an edge in shares."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medrecon.anatomy.dice import Dice
from medrecon.anatomy.frame import Box, Frame, Places, Point
from medrecon.anatomy.shapes import ellipsoid, tube
from medrecon.anatomy.tissues import Tissue

Palette = Callable[[Tissue], float]
"""The value a tissue has in an image."""
Site = tuple[Tissue, Box, Tensor]
"""An organ that can have a lesion: what it is, and depths in mm in a box of pixels."""


class Canvas:
    """An image of tissues under construction.

    Parameters
    ----------
    frame
        Coordinates of its pixels.
    palette
        Values of tissues.
    dice
        Source of randomness for whoever paints.
    """

    def __init__(self, frame: Frame, palette: Palette, dice: Dice) -> None:
        self.frame = frame
        self.palette = palette
        self.dice = dice
        self.image = torch.full(frame.shape, palette(Tissue.AIR))
        self.sites: list[Site] = []
        self.limit: Tensor | None = None
        """Depth in mm below the surface that nothing painted may cross; absent for none."""
        self._everything = (slice(None), slice(None), slice(None))

    @property
    def places(self) -> Places:
        """Coordinates of all pixels."""
        return self.frame.places

    def paint(
        self,
        depth: Tensor,
        tissue: Tissue,
        box: Box | None = None,
        *,
        soft_mm: float = 0.0,
        over: float = 1.0,
    ) -> None:
        """Cover what lies inside a body with a tissue.

        Parameters
        ----------
        depth
            Millimetres inside the surface.
        tissue
            What to paint.
        box
            Pixels that ``depth`` is given for; absent for all.
        soft_mm
            Width of a blurred edge beyond the pixel's own.
        over
            Opacity.
        """
        box = self._everything if box is None else box
        if self.limit is not None:
            depth = torch.minimum(depth, self.limit[box])
        share = (depth / (self.frame.pixel_mm + soft_mm) + 0.5).clamp_(0, 1)
        view = self.image[box]
        view += share.mul_(over) * (self.palette(tissue) - view)

    def mark(self, tissue: Tissue, depth: Tensor, box: Box | None = None) -> None:
        """Remember an organ as a place for lesions."""
        self.sites.append((tissue, self._everything if box is None else box, depth))

    def ball(
        self,
        centre: Point,
        radii: Point,
        tissue: Tissue,
        *,
        turn: float = 0.0,
        power: float = 2.0,
        soft_mm: float = 0.0,
        site: bool = False,
    ) -> None:
        """Paint an ellipsoid; see :func:`~medrecon.anatomy.shapes.ellipsoid`."""
        wide = max(radii[1:]) if turn else 0.0
        reach = (radii[0], max(radii[1], wide), max(radii[2], wide))
        box = self.frame.around(centre, reach)
        if box is None:
            return
        depth = ellipsoid(self.frame.at(box), centre, radii, turn=turn, power=power)
        self.paint(depth, tissue, box, soft_mm=soft_mm)
        if site:
            self.mark(tissue, depth, box)

    def rod(
        self,
        start: Point,
        end: Point,
        radii: tuple[float, float],
        tissue: Tissue,
        within: Tensor | None = None,
    ) -> None:
        """Paint a rod, only where the depth ``within`` (of the whole stack) is positive."""
        z, y, x = ((a + b) / 2 for a, b in zip(start, end, strict=True))
        r = max(radii)
        hz, hy, hx = (abs(a - b) / 2 + r for a, b in zip(start, end, strict=True))
        box = self.frame.around((z, y, x), (hz, hy, hx))
        if box is None:
            return
        depth = tube(self.frame.at(box), start, end, radii)
        if within is not None:
            depth = torch.minimum(depth, within[box])
        self.paint(depth, tissue, box)
