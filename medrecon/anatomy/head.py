"""Heads: scalp, skull, brain with its folds, ventricles, eyes and sinuses."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from medrecon.anatomy.canvas import Canvas
from medrecon.anatomy.fields import along_z, filtered_noise
from medrecon.anatomy.frame import Places, Point
from medrecon.anatomy.shapes import both, ellipsoid
from medrecon.anatomy.tissues import Tissue

_EYES = -42.0
"""Height of the eyes in mm; the middle of the brain is 0."""


class Skull(NamedTuple):
    """Radii (z, y, x) in mm of the brain and thickness of what lies around it."""

    brain: Point
    fluid: float
    bone: float
    scalp: float


def paint_head(canvas: Canvas) -> None:
    """Paint a head, from the skin inwards."""
    dice = canvas.dice
    size = dice.uniform(0.92, 1.08)
    skull = Skull(
        (80 * size, dice.uniform(80, 90) * size, dice.uniform(63, 71) * size),
        dice.uniform(1.0, 4.0),
        dice.uniform(5, 8),
        dice.uniform(4, 8),
    )
    _paint_scalp(canvas, skull)
    _paint_face(canvas)
    brain = _paint_bone(canvas, skull)
    _paint_brain(canvas, brain)
    _paint_ventricles(canvas, size)
    _paint_base(canvas, brain, size)
    _paint_eyes(canvas)


def _shell(skull: Skull, places: Places, extra: float) -> Tensor:
    z, y, x = (r + skull.fluid + extra for r in skull.brain)
    # below the widest place a skull goes on nearly straight down to its base
    lifted = Places(torch.where(places.z < 0, 0.45 * places.z, places.z), places.y, places.x)
    return ellipsoid(lifted, (0, 0, 0), (z, y, x), power=2.15)


def _paint_scalp(canvas: Canvas, skull: Skull) -> None:
    outer = _shell(skull, canvas.places, skull.bone + skull.scalp)
    canvas.paint(outer, Tissue.SKIN)
    canvas.paint(outer - 1.6, Tissue.FAT)
    thick = 0.45 * skull.scalp
    temple = both(outer - thick, -10 - canvas.places.z, canvas.places.x.abs() - 40)
    canvas.paint(temple, Tissue.MUSCLE)
    nape = both(outer - 4, -30 - canvas.places.z, canvas.places.y - 55)
    canvas.paint(nape, Tissue.MUSCLE)


def _paint_bone(canvas: Canvas, skull: Skull) -> Tensor:
    outer = _shell(skull, canvas.places, skull.bone)
    canvas.paint(outer, Tissue.CORTICAL)
    table = canvas.dice.uniform(1.2, 2.2)
    canvas.paint(outer - table, Tissue.MARROW, soft_mm=0.6)
    inner = _shell(skull, canvas.places, 0.0)
    canvas.paint(inner + table, Tissue.CORTICAL, soft_mm=0.4)
    canvas.paint(inner, Tissue.FLUID)
    return inner - skull.fluid


def _paint_face(canvas: Canvas) -> None:
    if canvas.frame.heights[0] > -10:
        return
    dice = canvas.dice
    canvas.ball((-95, -45, 0), (72, 62, 62), Tissue.FAT)
    canvas.ball((-95, -42, 0), (66, 56, 54), Tissue.MUSCLE)
    nose = (-62.0, -100.0, 0.0)
    canvas.ball(nose, (26, 16, 12), Tissue.SKIN)
    canvas.ball((-70, 10, 0), (30, 60, 58), Tissue.MUSCLE)
    for side in (-1.0, 1.0):
        canvas.ball((-85, -58, side * 27), (24, 22, 17), Tissue.CORTICAL)
        canvas.ball((-85, -58, side * 27), (22.5, 20.5, 15.5), Tissue.GAS)
        canvas.ball((-75, 35, side * 58), (26, 18, 13), Tissue.MARROW)
        canvas.ball((-60, 5, side * 80), (28, 12, 5), Tissue.SKIN)
    for _ in range(9):
        cell = (dice.uniform(-80, -45), dice.uniform(-85, -40), dice.normal(0, 7))
        canvas.ball(cell, (14, dice.uniform(5, 11), dice.uniform(2, 5)), Tissue.GAS)


def _paint_brain(canvas: Canvas, brain: Tensor) -> None:
    """Grey and white matter: folds are the zero lines of a band-limited random field."""
    dice, frame = canvas.dice, canvas.frame
    pixel = frame.pixel_mm
    fold = dice.uniform(5.0, 6.5)
    field = filtered_noise(
        dice.generator, frame.shape, coarsest=1.9 * fold / pixel, finest=0.62 * fold / pixel
    )
    heights = canvas.places.z[:, 0, 0]
    step = float(heights[1] - heights[0]) if len(heights) > 1 else 1.0
    away = along_z(field, step, fold).abs() * fold  # about the distance to a furrow in mm
    fissure = canvas.places.x.abs() + 0.35 * (canvas.places.z + 10).clamp_max(0).abs()
    brain = both(brain, fissure - dice.uniform(0.4, 1.6) + 0.02 * brain.clamp_min(0))
    ribbon = dice.uniform(2.4, 3.4)
    furrow = away + (brain - dice.uniform(14, 22)).clamp_min(0) * 0.7 + 0.06 * brain.clamp_min(0)
    open_mm = dice.uniform(0.3, 1.5)
    canvas.paint(brain, Tissue.GREY)
    white = both(brain - ribbon, furrow - open_mm - ribbon)
    canvas.paint(white, Tissue.WHITE, soft_mm=0.6)
    canvas.paint(both(open_mm - furrow, brain), Tissue.FLUID)
    canvas.mark(Tissue.WHITE, white)
    falx = both(0.9 - canvas.places.x.abs(), canvas.places.z - 5, brain + 9)
    canvas.paint(falx, Tissue.SKIN, over=0.7)


def _paint_ventricles(canvas: Canvas, size: float) -> None:
    dice = canvas.dice
    wide = dice.uniform(0.6, 1.7)
    for side in (-1.0, 1.0):
        canvas.ball((4, -2, side * 24), (16, 23, 8), Tissue.DEEP_GREY, turn=side * 0.35, soft_mm=1)
        canvas.ball((6, 14, side * 10), (13, 14, 8), Tissue.DEEP_GREY, turn=side * 0.3, soft_mm=1)
        canvas.ball((13, -20, side * 13), (14, 13, 6), Tissue.DEEP_GREY, soft_mm=1)
        parts: list[tuple[Point, Point, float]] = [
            ((17, -24, side * 8), (12, 15, 3.4), side * 0.5),
            ((22, 4, side * 10), (9, 30, 4.4), side * -0.15),
            ((12, 34, side * 19), (14, 16, 4.6), side * -0.5),
            ((-22, 12, side * 33), (7, 18, 2.4), side * 0.2),
        ]
        for (z, y, x), (rz, ry, rx), turn in parts:
            radii = (rz * size, ry * size, rx * size * wide)
            canvas.ball((z, y * size, x * size), radii, Tissue.FLUID, turn=turn)
    canvas.ball((-3, 4, 0), (13, 14, 1.6 * wide), Tissue.FLUID)


def _paint_base(canvas: Canvas, brain: Tensor, size: float) -> None:
    """Cerebellum, brain stem and the petrous bones."""
    dice = canvas.dice
    if canvas.frame.heights[0] > -15:
        return
    for side in (-1.0, 1.0):
        centre = (-52.0, 47.0 * size, side * 25)
        radii = (30.0, 34.0, 31.0)
        box = canvas.frame.around(centre, radii)
        if box is None:
            continue
        places = canvas.frame.at(box)
        depth = both(ellipsoid(places, centre, radii), brain[box])
        canvas.paint(depth + 1.5, Tissue.FLUID, box)
        canvas.paint(depth, Tissue.GREY, box)
        leaves = torch.sin(depth * (2 * math.pi / dice.uniform(4.5, 6.5))) * 1.4
        canvas.paint(both(depth - 2, leaves), Tissue.WHITE, box, soft_mm=1, over=0.75)
        canvas.ball((-50, 42, side * 17), (13, 13, 11), Tissue.WHITE, soft_mm=3)
        canvas.rod((-52, 18, side * 24), (-48, 42, side * 58), (7, 12), Tissue.MARROW)
        canvas.rod((-52, 20, side * 40), (-50, 34, side * 60), (3, 5), Tissue.GAS)
    canvas.ball((-45, 8, 0), (40, 19, 21), Tissue.FLUID)
    canvas.rod((-10, 2, 0), (-90, 20, 0), (14, 8), Tissue.WHITE)
    canvas.ball((-40, 27, 0), (14, 5, 7), Tissue.FLUID)


def _paint_eyes(canvas: Canvas) -> None:
    for side in (-1.0, 1.0):
        socket = (_EYES, -66.0, side * 31)
        canvas.ball(socket, (19, 27, 19), Tissue.CORTICAL, turn=side * -0.35)
        canvas.ball(socket, (17.5, 26, 17.5), Tissue.FAT, turn=side * -0.35)
        eye = (_EYES, -76.0, side * 32)
        canvas.rod((_EYES, -64, side * 29), (_EYES + 2, -38, side * 12), (2.4, 2.4), Tissue.WHITE)
        for out in (-13.0, 13.0):
            start = (_EYES, -72.0, eye[2] + out)
            canvas.rod(start, (_EYES, -42, side * 16), (1.9, 1.4), Tissue.MUSCLE)
        canvas.ball(eye, (12.5, 12.5, 12.5), Tissue.SKIN)
        canvas.ball(eye, (11.3, 11.3, 11.3), Tissue.EYE)
        canvas.ball((eye[0], eye[1] - 8.5, eye[2]), (4.5, 2.4, 4.5), Tissue.MUSCLE)
