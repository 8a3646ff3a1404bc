"""Liver, spleen, kidneys, stomach, bowel and what hangs between them."""

from __future__ import annotations

import itertools
import math

import torch

from medrecon.anatomy.canvas import Canvas
from medrecon.anatomy.chest import above_diaphragm
from medrecon.anatomy.fields import filtered_noise
from medrecon.anatomy.frame import Box, Point
from medrecon.anatomy.shapes import both, ellipsoid, tube, wave
from medrecon.anatomy.tissues import Tissue
from medrecon.anatomy.torso import Torso
from medrecon.anatomy.vessels import depth_of, random_tree


def paint_abdomen(canvas: Canvas, torso: Torso, inside: torch.Tensor) -> None:
    """Paint the organs below the diaphragm, from the back to the front."""
    if canvas.frame.heights[0] > 40:
        return
    _paint_psoas(canvas, torso)
    _paint_kidneys(canvas, torso)
    _paint_pancreas(canvas, torso)
    _paint_bowel(canvas, torso)
    _paint_stomach(canvas, torso)
    _paint_liver_and_spleen(canvas, torso, inside)


def _paint_liver_and_spleen(canvas: Canvas, torso: Torso, inside: torch.Tensor) -> None:
    dice, places = canvas.dice, canvas.places
    w, d = torso.cavity_width, torso.cavity_depth
    roof = both(inside - 2, -3 - above_diaphragm(torso, places))
    size = dice.uniform(0.85, 1.12)
    right = ellipsoid(
        places,
        (-50, 0.04 * d, -0.52 * w),
        (95 * size, 0.95 * d * size, 0.62 * w * size),
        turn=0.25,
        power=2.3,
    )
    left = ellipsoid(
        places, (-22, -0.36 * d, 0.05 * w), (48 * size, 0.42 * d * size, 0.62 * w), power=2.2
    )
    liver = both(torch.maximum(right, left), roof)
    canvas.paint(liver, Tissue.LIVER)
    canvas.mark(Tissue.LIVER, liver)
    gate: Point = (-55, -0.02 * d, -0.2 * w)
    ways: list[Point] = [(0.6, -0.3, -1), (-0.5, 0.4, -1), (0.2, 0.6, -0.8), (0.3, -0.8, 0.2)]
    tree = random_tree(
        dice.generator, gate, ways, radius=dice.uniform(4, 6), length=34, levels=5, thinnest=1.0
    )
    canvas.paint(both(depth_of(canvas.frame, tree), liver - 4), Tissue.VEIN)
    bladder: Point = (-82, -0.42 * d, -0.34 * w)
    canvas.ball(bladder, (26, dice.uniform(9, 16), dice.uniform(11, 18)), Tissue.BOWEL)
    canvas.ball(bladder, (24, dice.uniform(7, 10), dice.uniform(9, 12)), Tissue.URINE)
    spleen = ellipsoid(
        places,
        (-42 + dice.normal(0, 8), 0.4 * d, 0.74 * w),
        (52 * size, 0.46 * d * size, 0.26 * w * size),
        turn=-0.35,
        power=2.2,
    )
    spleen = both(spleen, roof)
    canvas.paint(spleen, Tissue.SPLEEN)
    canvas.mark(Tissue.SPLEEN, spleen)


def _paint_psoas(canvas: Canvas, torso: Torso) -> None:
    y = torso.spine + 4
    for side in (-1.0, 1.0):
        r = canvas.dice.uniform(11, 18)
        for start, stop, radii in (
            ((-85.0, y, side * 24), (-180.0, y - 4, side * 38), (0.4 * r, r)),
            ((-180.0, y - 4, side * 38), (-320.0, y - 62, side * 72), (r, 1.1 * r)),
        ):
            canvas.rod(start, stop, radii, Tissue.MUSCLE)


def _paint_kidneys(canvas: Canvas, torso: Torso) -> None:
    dice, w = canvas.dice, torso.cavity_width
    for side in (-1.0, 1.0):
        z = -95.0 + 8 * side + dice.normal(0, 8)
        y, x = torso.spine + dice.uniform(-2, 14), side * max(0.5 * w, 48)
        size, turn = dice.uniform(0.85, 1.12), side * dice.uniform(0.4, 0.9)
        canvas.ball(
            (z, y, x), (55 * size, 27 * size, 32 * size), Tissue.CORTEX, turn=turn, site=True
        )
        for k in range(7):
            angle = 2 * math.pi * k / 7 + dice.normal(0, 0.2)
            up = dice.uniform(-1, 1)
            pyramid = (z + 36 * size * up, y + 15 * math.sin(angle), x + 16 * math.cos(angle))
            canvas.ball(pyramid, (11, 6.5, 6.5), Tissue.MEDULLA, soft_mm=2)
        hilum = (z, y - 5, x - side * 12)
        canvas.ball(hilum, (26 * size, 9, 15), Tissue.FAT, turn=turn, soft_mm=1)
        canvas.ball(hilum, (13, dice.uniform(3, 7), dice.uniform(4, 9)), Tissue.URINE)
        canvas.rod(hilum, (z + 5, torso.spine - 22, -side * 4), (3.2, 4.2), Tissue.VEIN)
        canvas.rod(hilum, (-330, torso.spine - 40, side * 25), (1.8, 1.8), Tissue.URINE)


def _paint_pancreas(canvas: Canvas, torso: Torso) -> None:
    dice, w, d = canvas.dice, torso.cavity_width, torso.cavity_depth
    r = dice.uniform(7, 11)
    places: list[Point] = [
        (-100, 0.05 * d, -0.3 * w),
        (-85, -0.1 * d, -0.02 * w),
        (-72, 0.05 * d, 0.28 * w),
        (-62, 0.22 * d, 0.5 * w),
    ]
    for start, stop in itertools.pairwise(places):
        canvas.rod(start, stop, (r * 1.2, r), Tissue.PANCREAS)
    canvas.rod((-75, 0.0, -0.1 * w), (-60, 0.2 * d, 0.6 * w), (4, 3.5), Tissue.VEIN)
    canvas.rod((-80, torso.spine - 42, 2), (-215, -0.2 * d, -10), (3.5, 2.5), Tissue.ARTERY)
    canvas.rod((-80, torso.spine - 42, -12), (-215, -0.2 * d, -25), (4.5, 3), Tissue.VEIN)


def _paint_stomach(canvas: Canvas, torso: Torso) -> None:
    dice, w, d = canvas.dice, torso.cavity_width, torso.cavity_depth
    centre = (-40.0 + dice.normal(0, 8), -0.12 * d, 0.46 * w)
    radii = (dice.uniform(36, 52), dice.uniform(0.28, 0.48) * d, dice.uniform(0.24, 0.36) * w)
    _hollow(canvas, centre, radii, wall=dice.uniform(2.5, 5), full=dice.uniform(0.2, 0.9))


def _hollow(canvas: Canvas, centre: Point, radii: Point, *, wall: float, full: float) -> None:
    """Paint a hollow organ with content and gas above it: the patient lies on the back."""
    dice = canvas.dice
    box = canvas.frame.around(centre, radii)
    content = Tissue.CONTRAST if dice.chance(0.2) else Tissue.CHYME
    gas, turn, folds = dice.chance(0.7), dice.uniform(-0.5, 0.5), dice.uniform(0.5, 2)
    if box is None:
        return
    places = canvas.frame.at(box)
    depth = ellipsoid(places, centre, radii, turn=turn) + folds * wave(places, turn, 26)
    canvas.paint(depth, Tissue.BOWEL, box)
    canvas.paint(depth - wall, content, box)
    if gas:
        level = centre[1] + radii[1] * (1 - 2 * full) - places.y
        canvas.paint(both(depth - wall, level), Tissue.GAS, box)


def _paint_bowel(canvas: Canvas, torso: Torso) -> None:
    dice, w, d = canvas.dice, torso.cavity_width, torso.cavity_depth
    ways: list[Point] = [(0.3, -1, -0.6), (-0.4, -1, -0.2), (0, -1, 0.3), (-0.3, -0.9, 0.7)]
    tree = random_tree(
        dice.generator, (-130, 0.05 * d, 0), ways, radius=3.2, length=34, levels=6, thinnest=0.7
    )
    canvas.paint(depth_of(canvas.frame, tree), Tissue.VEIN)
    for _ in range(210):
        centre = (dice.uniform(-310, -85), dice.uniform(-0.85, 0.1) * d, dice.normal(0, 0.36) * w)
        stop = (
            centre[0] + dice.normal(0, 12),
            centre[1] + dice.normal(0, 13),
            centre[2] + dice.normal(0, 16),
        )
        r = dice.uniform(6, 13)
        _loop(canvas, centre, stop, r, stool=False)
    start = dice.uniform(13, 21)
    for side in (-1.0, 1.0):
        y = dice.uniform(0.1, 0.5) * d
        _loop(canvas, (-215, y, side * 0.76 * w), (-85, y, side * 0.78 * w), start, stool=True)
    across = dice.uniform(-150, -100)
    bend = (across, -0.72 * d, 0.0)
    for side in (-1.0, 1.0):
        _loop(canvas, (-85, -0.4 * d, side * 0.74 * w), bend, 0.9 * start, stool=True)
    _loop(canvas, (-215, 0.2 * d, 0.76 * w), (-285, 0.0, 0.3 * w), 0.8 * start, stool=True)
    _loop(canvas, (-285, 0.0, 0.3 * w), (-300, torso.spine, 0.0), 0.8 * start, stool=True)
    _loop(canvas, (-300, torso.spine, 0.0), (-370, torso.spine, 0.0), start, stool=True)


def _loop(canvas: Canvas, start: Point, stop: Point, radius: float, *, stool: bool) -> None:
    """Paint a piece of bowel: wall, folds, content, bubbles."""
    dice = canvas.dice
    draws = [dice.uniform() for _ in range(5)]
    z, y, x = ((a + b) / 2 for a, b in zip(start, stop, strict=True))
    reach = [abs(a - b) / 2 + radius + 2 for a, b in zip(start, stop, strict=True)]
    box = canvas.frame.around((z, y, x), (reach[0], reach[1], reach[2]))
    if box is None:
        return
    places = canvas.frame.at(box)
    depth = tube(places, start, stop, (radius, radius * (0.8 + 0.4 * draws[0])))
    depth = depth + (2.5 if stool else 0.8) * wave(places, 6.28 * draws[1], 9 + 12 * draws[4])
    wall = 1.6 + 1.4 * draws[4]
    canvas.paint(depth, Tissue.BOWEL, box)
    content = Tissue.CONTRAST if draws[2] < 0.2 else Tissue.CHYME
    canvas.paint(depth - wall, content, box)
    if draws[3] < (0.55 if stool else 0.15):
        level = y + radius * (0.6 - 1.2 * draws[2]) - places.y
        canvas.paint(both(depth - wall, level), Tissue.GAS, box)
    if stool and draws[3] < 0.7:
        _bubbles(canvas, depth - wall - 1, box)


def _bubbles(canvas: Canvas, depth: torch.Tensor, box: Box) -> None:
    noise = filtered_noise(canvas.dice.generator, canvas.frame.shape, finest=1.2)[box]
    canvas.paint(both(depth, 2.5 * (noise - 0.8)), Tissue.GAS, box)


def paint_bladder(canvas: Canvas, torso: Torso) -> None:
    """Paint the bladder and the vessels beside it."""
    dice = canvas.dice
    centre = (-318.0, torso.spine - 62, 0.0)
    radii = (dice.uniform(24, 42), dice.uniform(22, 36), dice.uniform(28, 48))
    canvas.ball(centre, (radii[0] + 3, radii[1] + 3, radii[2] + 3), Tissue.BOWEL, power=2.4)
    canvas.ball(centre, radii, Tissue.URINE, power=2.4)
    for side in (-1.0, 1.0):
        for tissue, back, r in ((Tissue.ARTERY, 0, 5.0), (Tissue.VEIN, 9, 6.0)):
            y = torso.spine - 24 + back
            canvas.rod((-205, y, side * 6), (-275, y + 10, side * 48), (r, r), tissue)
            canvas.rod((-275, y + 10, side * 48), (-345, y - 62, side * 62), (r, r), tissue)
