"""The table under the patient."""

from __future__ import annotations

import torch

from medrecon.anatomy.canvas import Canvas
from medrecon.anatomy.frame import Frame, Places
from medrecon.anatomy.shapes import both
from medrecon.anatomy.tissues import Tissue


def paint_couch(canvas: Canvas, flat: Places, below_mm: float) -> None:
    """Paint a curved carbon shell around foam, which no deformation of the body bends.

    Parameters
    ----------
    canvas
        Where.
    flat
        Coordinates of the pixels in mm from the centre of the field of view.
    below_mm
        Height of the table's lowest top, front to back.
    """
    dice = canvas.dice
    sag = dice.uniform(0, 0.0016)
    reach = dice.uniform(190, 270)
    thick = dice.uniform(25, 70)
    top = flat.y - (below_mm - sag * flat.x.square())
    bottom = (below_mm + thick) - 0.3 * sag * flat.x.square() - flat.y
    inside = both(top, bottom, reach - flat.x.abs())
    outside = canvas.image < -700
    if not bool(outside.any()):
        return
    shell = dice.uniform(0.6, 1.8)
    straight = Canvas(Frame(flat, canvas.frame.pixel_mm), canvas.palette, dice)
    straight.paint(inside, Tissue.FAT, over=dice.uniform(0.5, 1.0))
    straight.paint(inside - shell, Tissue.AIR, over=dice.uniform(0.85, 1))
    # the body lies on it: what the table shows beside the body only
    canvas.image = torch.where(outside, torch.maximum(canvas.image, straight.image), canvas.image)
