"""A part of the body, painted from the skin inwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from medrecon.anatomy.abdomen import paint_abdomen, paint_bladder
from medrecon.anatomy.bones import (
    paint_breastbone,
    paint_pelvis,
    paint_ribs,
    paint_shoulders,
    paint_spine,
)
from medrecon.anatomy.canvas import Canvas
from medrecon.anatomy.chest import paint_great_vessels, paint_heart, paint_lungs
from medrecon.anatomy.dice import Dice
from medrecon.anatomy.head import paint_head
from medrecon.anatomy.torso import Torso, paint_back, paint_layers

Region = Literal["head", "chest", "abdomen", "pelvis"]

HEIGHTS: dict[Region, tuple[float, float]] = {
    "head": (-55.0, 72.0),
    "chest": (-15.0, 155.0),
    "abdomen": (-190.0, -20.0),
    "pelvis": (-335.0, -195.0),
}
"""Heights in mm of the stack's middle: of heads about the middle of the brain, else about the
domes of the diaphragm."""


def random_region(dice: Dice, chances: Mapping[Region, float]) -> Region:
    """Draw a part of the body; ``chances`` add up to 1."""
    draw = dice.uniform()
    for region, chance in chances.items():
        draw -= chance
        if draw < 0:
            return region
    return next(iter(chances))  # the chances added up to a little less than 1


def paint_trunk(canvas: Canvas, torso: Torso) -> None:
    """Paint everything between shoulders and hips that the stack's heights reach."""
    low, high = canvas.frame.heights
    inside = paint_layers(canvas, torso)
    if low < 30:
        paint_abdomen(canvas, torso, inside)
    if low < -180:
        paint_bladder(canvas, torso)
    back = paint_back(canvas, torso)
    if high > -90:
        paint_lungs(canvas, torso, inside, back)
        paint_heart(canvas, torso)
    paint_great_vessels(canvas, torso)
    paint_ribs(canvas, inside)
    if low < -140:
        paint_pelvis(canvas, torso)
    if high > -20:
        paint_breastbone(canvas, torso)
        paint_shoulders(canvas, torso)
    paint_spine(canvas, torso)


def paint_body(canvas: Canvas, region: Region, torso: Torso) -> None:
    """Paint a head or a part of the trunk."""
    if region == "head":
        paint_head(canvas)
    else:
        paint_trunk(canvas, torso)
