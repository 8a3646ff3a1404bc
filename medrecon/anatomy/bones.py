"""Ribs, spine, shoulder blades and pelvis."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medrecon.anatomy.canvas import Canvas
from medrecon.anatomy.frame import Places, Point
from medrecon.anatomy.shapes import both, ellipsoid, tube
from medrecon.anatomy.tissues import Tissue
from medrecon.anatomy.torso import Torso

_LOWEST_RIB = -105.0


def paint_ribs(canvas: Canvas, inside: Tensor) -> None:
    """Paint twelve ribs a side, which fall from the back to the front, and their cartilage.

    Parameters
    ----------
    canvas
        Where.
    inside
        Depth below the inner surface of the rib cage in mm.
    """
    places, dice = canvas.places, canvas.dice
    if canvas.frame.heights[0] > 190 or canvas.frame.heights[1] < -150:
        return
    pitch, fall = dice.uniform(22, 28), dice.uniform(95, 135)
    forward = torch.atan2(places.x.abs(), places.y) / math.pi  # 0 at the back, 1 at the front
    turns = (places.z + fall * forward - _LOWEST_RIB) / pitch
    number = turns.round()
    height = 6.8 - (turns - number).abs() * pitch
    sheet = (inside + dice.uniform(4.0, 5.5)).abs()
    rib = both(height * 0.8, 4.2 - sheet, 40 * (number + 0.5))
    reach = (0.32 + 0.14 * number).clamp_max(dice.uniform(0.7, 0.78))
    bone = both(rib, (reach - forward) * 250, (forward - 0.1) * 250)
    canvas.paint(both(rib, (forward - reach) * 250, (number - 4.5) * 9), Tissue.DISC)
    canvas.paint(bone, Tissue.CORTICAL, over=dice.uniform(0.75, 1))
    canvas.paint(bone - dice.uniform(1.2, 1.8), Tissue.MARROW)


def paint_spine(canvas: Canvas, torso: Torso) -> None:
    """Paint vertebrae and discs, cord and fluid, and the arches behind them."""
    dice, back = canvas.dice, torso.spine
    pitch = dice.uniform(25, 33)
    size = dice.uniform(0.9, 1.12)
    offset = dice.uniform(0, pitch)
    heights = canvas.frame.heights
    box = canvas.frame.box((heights[0], back - 30, -60), (heights[1], back + 85, 60))
    if box is None:
        return
    z, y, x = canvas.frame.at(box)
    turns = (z - offset) / pitch
    places = Places((turns - turns.round()) * pitch, y, x)  # each vertebra is the same
    radii = (math.inf, 15 * size, 20.5 * size)
    body = ellipsoid(places, (0, back, 0), radii, power=2.5)
    end = pitch / 2 - dice.uniform(1.5, 3.5) - places.z.abs()
    canvas.paint(body, Tissue.DISC, box)
    shell = dice.uniform(1.0, 2.2)
    _bone(canvas, both(body, end), box, shell)
    for start, stop, thickness in _arch(back, size):
        depth = tube(places, start, stop, (thickness * size, 0.8 * thickness * size))
        _bone(canvas, depth, box, shell)
    canal = ellipsoid(places, (0, back + 24 * size, 0), (math.inf, 8 * size, 10 * size))
    canvas.paint(canal, Tissue.FLUID, box)
    canvas.paint(canal - 3.2, Tissue.CORD, box)


def _arch(back: float, size: float) -> list[tuple[Point, Point, float]]:
    """Rods of the vertebral arch: pedicles, transverse processes, laminae and the spine's."""
    y = [back + size * offset for offset in (12, 26, 34, 47, 64)]
    rods: list[tuple[Point, Point, float]] = [((-4, y[3], 0), (-14, y[4], 0), 3.6)]
    for side in (-1.0, 1.0):
        w = side * size
        rods += [
            ((3, y[0], 13 * w), (3, y[1], 16 * w), 4.6),
            ((1, y[1], 17 * w), (0, y[2], 38 * w), 4.4),
            ((-1, y[1], 16 * w), (-4, y[3], 1 * w), 3.9),
            ((-16, y[2], 13 * w), (16, y[2] - 2, 15 * w), 4.2),
        ]
    return rods


def _bone(
    canvas: Canvas, depth: Tensor, box: tuple[slice, slice, slice] | None, shell: float
) -> None:
    canvas.paint(depth, Tissue.CORTICAL, box)
    canvas.paint(depth - shell, Tissue.MARROW, box, soft_mm=1.0)


def paint_breastbone(canvas: Canvas, torso: Torso) -> None:
    """Paint the sternum: a flat bone in front."""
    front, wide = -torso.cavity_depth - 4, canvas.dice.uniform(9, 17)
    box = canvas.frame.box((-10, front - 12, -40), (165, front + 12, 40))
    if box is not None:
        z, y, x = canvas.frame.at(box)
        flat = Places(torch.zeros_like(z), y, x)
        depth = tube(flat, (0, front, -wide), (0, front, wide), (5.5, 5.5))
        _bone(canvas, both(depth, z + 5, 160 - z), box, 1.3)


def paint_shoulders(canvas: Canvas, torso: Torso) -> None:
    """Paint shoulder blades and, high up, collar bones and the heads of the arms."""
    dice = canvas.dice
    w, d = torso.cavity_width, torso.cavity_depth
    low = dice.uniform(35, 60)
    slope = dice.uniform(0.35, 0.75)
    for side in (-1.0, 1.0):
        blade = (low + 70, 0.84 * d, side * (0.78 * w + 4))
        turn = -side * slope
        canvas.ball(blade, (92, 15, 52), Tissue.MUSCLE, turn=turn)
        canvas.ball(blade, (76, 2.6, 44), Tissue.CORTICAL, turn=turn, power=2.6)
        spine = (blade[0] + 18, blade[1] - 3, blade[2] + side * 2)
        canvas.rod(spine, (low + 120, 0.35 * d, side * (w + 8)), (3.2, 6.0), Tissue.CORTICAL)
        canvas.rod(spine, (low + 120, 0.35 * d, side * (w + 8)), (1.6, 4.4), Tissue.MARROW)
        head = (low + 122, 0.25 * d, side * (w + dice.uniform(14, 26)))
        collar = (low + 132, -0.2 * d, side * (w + 4)), (150.0, -0.75 * d, side * 26.0)
        canvas.rod(*collar, (14, 12), Tissue.MUSCLE)
        canvas.rod(*collar, (5.5, 6.5), Tissue.CORTICAL)
        canvas.rod(*collar, (4.2, 5.2), Tissue.MARROW)
        canvas.ball(head, (34, 30, 28), Tissue.MUSCLE)
        canvas.ball(head, (23, 22, 21), Tissue.CORTICAL)
        canvas.ball(head, (21, 20, 19), Tissue.MARROW, soft_mm=2)


def paint_pelvis(canvas: Canvas, torso: Torso) -> None:
    """Paint the wings of the pelvis, the sacrum and the hips."""
    dice = canvas.dice
    if canvas.frame.heights[0] > -140:
        return
    w, back = torso.cavity_width, torso.spine
    for side in (-1.0, 1.0):
        turn = -side * dice.uniform(0.75, 1.0)
        wing = (-235.0, back - 4, side * 0.62 * w)
        canvas.ball((-250, back + 16, side * 0.72 * w), (95, 30, 56), Tissue.MUSCLE, turn=turn)
        canvas.ball((-235, back - 18, side * 0.56 * w), (70, 20, 44), Tissue.MUSCLE, turn=turn)
        canvas.ball((-250, back + 34, side * 0.5 * w), (90, 34, 54), Tissue.MUSCLE)
        plate = dice.uniform(4, 6)
        canvas.ball(wing, (68, plate, 52), Tissue.CORTICAL, turn=turn, power=2.4)
        canvas.ball(wing, (66, plate - 1.7, 50), Tissue.MARROW, turn=turn, power=2.4)
        joint = (-255.0, back + 22, side * 44)
        canvas.ball(joint, (52, 22, 9), Tissue.CORTICAL, turn=side * 0.5)
        canvas.ball(joint, (50, 20, 7), Tissue.MARROW, turn=side * 0.5)
        column = (-295.0, back - 20, side * 76)
        canvas.rod((-250, back, side * 62), column, (13, 15), Tissue.CORTICAL)
        canvas.rod((-250, back, side * 62), column, (11.4, 13.4), Tissue.MARROW)
        hip = (-335.0, back - 26, side * dice.uniform(84, 94))
        canvas.ball(hip, (42, 46, 44), Tissue.MUSCLE)
        canvas.ball(hip, (32, 31, 30), Tissue.CORTICAL)
        canvas.ball(hip, (30, 29, 28), Tissue.MARROW)
        canvas.ball(hip, (25.5, 25.5, 25.5), Tissue.DISC)
        canvas.ball(hip, (24, 24, 24), Tissue.CORTICAL)
        canvas.ball(hip, (22.5, 22.5, 22.5), Tissue.MARROW, soft_mm=2)
        neck = (-365.0, back - 10, hip[2] + side * 38)
        canvas.rod(hip, neck, (15, 17), Tissue.MARROW)
    sacrum = (-255.0, back + 26, 0.0)
    box = canvas.frame.around(sacrum, (80, 34, 56))
    if box is not None:
        depth = ellipsoid(canvas.frame.at(box), sacrum, (70, 22, 48), power=2.5)
        _bone(canvas, depth, box, 1.6)
