"""The outer layers of a trunk: skin, fat, muscle and the cavity inside."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from medrecon.anatomy.canvas import Canvas
from medrecon.anatomy.dice import Dice
from medrecon.anatomy.fields import bumps
from medrecon.anatomy.frame import Places
from medrecon.anatomy.shapes import both, ellipsoid
from medrecon.anatomy.tissues import Tissue

SHOULDER = 40.0
"""Height in mm above which the rib cage narrows; the diaphragm's domes are at 0."""
_CAGE = 140.0


class Torso(NamedTuple):
    """Sizes of one body in mm; all heights count from the domes of the diaphragm."""

    half_width: float
    half_depth: float
    fat: float
    wall: float
    power: float

    @property
    def cavity_width(self) -> float:
        """Half the width of the cavity."""
        return self.half_width - self.fat - self.wall

    @property
    def cavity_depth(self) -> float:
        """Half the depth of the cavity, front to back."""
        return self.half_depth - 0.7 * self.fat - self.wall

    @property
    def spine(self) -> float:
        """Place of the vertebral bodies' centre, front to back."""
        return 0.43 * self.cavity_depth


def random_torso(dice: Dice) -> Torso:
    """Draw a body: from slight to stout."""
    half_width = min(max(dice.normal(150, 15), 118), 182)
    fat = dice.uniform(5, 14) if dice.chance(0.5) else dice.uniform(12, 30)
    return Torso(
        half_width=half_width,
        half_depth=max(half_width * dice.uniform(0.62, 0.78), 78 + fat),
        fat=fat,
        wall=dice.uniform(11, 18),
        power=dice.uniform(2.05, 2.6),
    )


def cage(torso: Torso, places: Places) -> Tensor:
    """Depth in mm below the inner surface of the rib cage, which narrows to the neck."""
    upper = Places(places.z.clamp_min(SHOULDER), places.y, places.x)
    radii = (_CAGE, torso.cavity_depth, torso.cavity_width)
    return ellipsoid(upper, (SHOULDER, 0.0, 0.0), radii, power=torso.power)


def paint_layers(canvas: Canvas, torso: Torso) -> Tensor:
    """Paint skin, fat, muscle and the fat of the cavity.

    Returns
    -------
    Tensor
        Depth below the inner surface of the chest and belly wall in mm, for every pixel.
    """
    places, dice = canvas.places, canvas.dice
    outer = (math.inf, torso.half_depth, torso.half_width)
    # shoulders are wider than the chest below them
    wider = 1 + 0.28 * ((places.z - 80) / 60).clamp(0, 1)
    places = Places(places.z, places.y, places.x / wider)
    skin = ellipsoid(places, (0, 0, 0), outer, power=torso.power)
    canvas.paint(skin, Tissue.SKIN)
    canvas.paint(skin - dice.uniform(1.2, 2.5), Tissue.FAT)
    # fat lies thicker at the sides and the back, unevenly
    uneven = bumps(dice.generator, canvas.frame.shape, 7, 40)
    under = torso.half_depth - 0.7 * torso.fat, torso.half_width - torso.fat
    muscle = ellipsoid(places, (0, 0, 0), (math.inf, *under), power=torso.power)
    muscle = muscle + uneven.clamp(-1.5, 1.5) * (0.12 * torso.fat)
    canvas.paint(muscle, Tissue.MUSCLE)
    _fat_planes(canvas, muscle)
    canvas.limit = skin - 0.6 * torso.fat
    inside = cage(torso, canvas.places)
    canvas.paint(inside, Tissue.FAT)
    return inside


def _fat_planes(canvas: Canvas, muscle: Tensor) -> None:
    """Thin planes of fat between the layers of muscle."""
    dice = canvas.dice
    field = bumps(dice.generator, canvas.frame.shape, 24, 12)
    plane = 1.1 - (6 * field).abs()
    canvas.paint(both(plane, muscle - 2), Tissue.FAT, over=dice.uniform(0.4, 0.9))
    layer = dice.uniform(4, 8)
    patches = 5 * bumps(dice.generator, canvas.frame.shape, 9, 25)
    sheet = dice.uniform(0.6, 1.6) - (muscle - layer).abs()
    canvas.paint(torch.minimum(sheet, patches), Tissue.FAT)


def paint_back(canvas: Canvas, torso: Torso) -> Tensor:
    """Paint the muscles along the spine; returns their depth in mm."""
    dice = canvas.dice
    centre = (0.0, torso.spine + 38, 0.0)
    radii = (math.inf, 30.0, dice.uniform(56, 70))
    depth = ellipsoid(canvas.places, centre, radii, power=2.4)
    canvas.paint(depth, Tissue.MUSCLE)
    return depth
