"""Lungs and their vessels, heart, great vessels and airways."""

from __future__ import annotations

import math

from torch import Tensor

from medrecon.anatomy.canvas import Canvas
from medrecon.anatomy.fields import bumps
from medrecon.anatomy.frame import Places, Point
from medrecon.anatomy.shapes import both, ellipsoid, without
from medrecon.anatomy.tissues import Tissue
from medrecon.anatomy.torso import Torso
from medrecon.anatomy.vessels import depth_of, random_tree

HILUM = 85.0


def above_diaphragm(torso: Torso, places: Places) -> Tensor:
    """Distance in mm above the domes of the diaphragm; the right one is higher."""
    w, d = torso.cavity_width, torso.cavity_depth
    aside = ((places.x.abs() - 0.45 * w) / (0.62 * w)).square()
    height = 4.0 - 0.06 * places.x - 78 * (aside + (places.y / (1.05 * d)).square())
    return 0.6 * (places.z - height)


def paint_lungs(canvas: Canvas, torso: Torso, inside: Tensor, back: Tensor) -> None:
    """Paint both lungs with vessels, airways and, now and then, disease."""
    dice, places = canvas.dice, canvas.places
    w, d = torso.cavity_width, torso.cavity_depth
    middle_radii = (math.inf, 1.02 * d, dice.uniform(0.17, 0.25) * w)
    middle = ellipsoid(places, (0, -0.12 * d, 4.0), middle_radii, power=1.7)
    lungs = both(inside - dice.uniform(1, 3), above_diaphragm(torso, places), -back)
    lungs = without(lungs, middle)
    canvas.paint(lungs, Tissue.LUNG)
    if dice.chance(0.3):
        cloud = 6 * (bumps(dice.generator, canvas.frame.shape, 11, 20) - dice.uniform(0.6, 1.4))
        shade = dice.uniform(0.1, 0.8)
        canvas.paint(both(lungs, cloud), Tissue.MUSCLE, soft_mm=6, over=shade)
    if dice.chance(0.15):
        level = places.y - dice.uniform(0.45, 0.75) * d + 0.1 * places.x
        canvas.paint(both(lungs, level), Tissue.FLUID)
    canvas.mark(Tissue.LUNG, lungs)
    for side in (-1.0, 1.0):
        _paint_trees(canvas, (HILUM, 0.05 * d, side * 0.24 * w), side, lungs)


def _paint_trees(canvas: Canvas, hilum: Point, side: float, lungs: Tensor) -> None:
    """Arteries, veins and airways of one lung, clipped to it."""
    dice = canvas.dice
    ways: list[Point] = [
        (dz, dy, side)
        for dz, dy in ((1.0, -0.4), (0.1, -1.0), (-0.7, 0.5), (-1.4, 0.3), (0.5, 0.9), (-0.3, 0.1))
    ]
    for lower in (0.0, 7.0, 14.0):
        tree = random_tree(
            dice.generator,
            (hilum[0] - lower, hilum[1] - lower / 2, hilum[2]),
            ways,
            radius=dice.uniform(4.0, 5.5),
            length=dice.uniform(24, 32),
            levels=8,
        )
        canvas.paint(both(depth_of(canvas.frame, tree), lungs), Tissue.LUNG_VESSEL)
    airways = random_tree(
        dice.generator, hilum, ways, radius=dice.uniform(3.2, 4.2), length=24, levels=4
    )
    wall = depth_of(canvas.frame, airways, 1.1)
    canvas.paint(both(wall, lungs), Tissue.BOWEL)
    canvas.paint(both(wall - 1.1, lungs), Tissue.GAS)


def paint_heart(canvas: Canvas, torso: Torso) -> None:
    """Paint the heart in its fat, with its four chambers."""
    dice = canvas.dice
    w, d = torso.cavity_width, torso.cavity_depth
    size = dice.uniform(0.85, 1.15)
    z, y, x = dice.uniform(22, 34), -0.28 * d, 0.17 * w
    turn = -dice.uniform(0.35, 0.7)
    a, b = 0.40 * d * size, 0.42 * w * size
    canvas.ball((z, y, x), (58 * size, a + 5, b + 5), Tissue.FAT, turn=turn)
    canvas.ball((z, y, x), (52 * size, a, b), Tissue.HEART, turn=turn, site=True)
    chambers: list[tuple[Point, Point, Tissue]] = [
        ((z - 5, y - 0.02 * d, x + 0.42 * b), (32, 0.42 * a, 0.46 * b), Tissue.ARTERY),
        ((z - 5, y - 0.42 * a, x - 0.2 * b), (34, 0.4 * a, 0.52 * b), Tissue.VEIN),
        ((z + 18, y + 0.62 * a, x - 0.12 * b), (22, 0.3 * a, 0.5 * b), Tissue.ARTERY),
        ((z + 12, y + 0.1 * a, x - 0.72 * b), (28, 0.45 * a, 0.28 * b), Tissue.VEIN),
    ]
    for centre, radii, tissue in chambers:
        canvas.ball(centre, radii, tissue, turn=turn, soft_mm=2)


def paint_great_vessels(canvas: Canvas, torso: Torso) -> None:
    """Paint aorta, caval veins, pulmonary arteries, windpipe and gullet."""
    dice, d, w = canvas.dice, torso.cavity_depth, torso.cavity_width
    back = torso.spine
    r = dice.uniform(10, 15)
    top = dice.uniform(112, 124)
    down = (top - 14, back - 12, 20.0)
    windpipe = dice.uniform(7, 9.5)
    rods: list[tuple[Point, Point, float, Tissue]] = [
        ((55, -0.22 * d, 0), (top - 12, -0.28 * d, -13), r + 2, Tissue.ARTERY),
        ((top - 12, -0.28 * d, -13), (top, -0.08 * d, 2), r + 1, Tissue.ARTERY),
        ((top, -0.08 * d, 2), down, r, Tissue.ARTERY),
        (down, (-20, back - 16, 16), 0.9 * r, Tissue.ARTERY),
        ((-20, back - 16, 16), (-215, back - 24, 4), 0.75 * r, Tissue.ARTERY),
        ((75, -0.4 * d, 14), (96, -0.1 * d, 6), r + 1, Tissue.LUNG_VESSEL),
        ((94, -0.1 * d, 4), (88, 0.02 * d, -0.26 * w), 0.8 * r, Tissue.LUNG_VESSEL),
        ((96, -0.1 * d, 8), (92, 0.02 * d, 0.26 * w), 0.8 * r, Tissue.LUNG_VESSEL),
        ((50, -0.12 * d, -28), (150, -0.2 * d, -22), dice.uniform(6, 9), Tissue.VEIN),
        ((45, 0.1 * d, -22), (-215, back - 22, -20), dice.uniform(8, 12), Tissue.VEIN),
        ((150, -0.2 * d, -22), (158, -0.35 * d, 32), 6, Tissue.VEIN),
        ((158, -0.25 * d, -24), (240, -0.1 * d, -32), 6.5, Tissue.VEIN),
        ((top, -0.14 * d, -8), (240, 0, -26), 5.5, Tissue.ARTERY),
        ((top, -0.06 * d, 3), (240, 0, 24), 4.2, Tissue.ARTERY),
        ((top, 0.02 * d, 12), (170, 0.1 * d, 40), 4.6, Tissue.ARTERY),
        ((240, back - 28, 2), (10, back - 27, 8), 6.5, Tissue.BOWEL),
    ]
    for start, stop, radius, tissue in rods:
        canvas.rod(start, stop, (radius, radius), tissue)
    fork = (101.0, 0.1 * d, 1.0)
    for start, stop, radius in (
        ((250.0, 0.02 * d, 0.0), fork, windpipe),
        (fork, (80.0, 0.1 * d, -0.26 * w), 0.75 * windpipe),
        (fork, (80.0, 0.1 * d, 0.26 * w), 0.7 * windpipe),
    ):
        canvas.rod(start, stop, (radius + 1.6, radius + 1.6), Tissue.BOWEL)
        canvas.rod(start, stop, (radius, radius), Tissue.GAS)
    for _ in range(14):
        node = (dice.uniform(30, 150), dice.normal(0.0, 0.25 * d), dice.normal(2, 0.13 * w))
        canvas.ball(node, (6, dice.uniform(1.5, 4), dice.uniform(2, 5)), Tissue.GLAND)
