"""How much every measured ray counts, so that each line through the object counts once.

A full turn measures every line twice, a short scan some lines twice, an offset detector some
once.  One rule covers them all: with ``c`` between 0 and 1, smoothly falling to 0 at the ends of
what was measured, a ray weighs ``c / (c + c')`` where ``c'`` belongs to the same line seen from
the other side.  Lines that nobody measured stay missing.

References
----------
D. L. Parker, Med. Phys. 9 (1982) 254-257, doi:10.1118/1.595078 (short scan).
G. Wang, Med. Phys. 29 (2002) 1634-1636, doi:10.1118/1.1489043 (offset detector).
F. Noo et al., Phys. Med. Biol. 47 (2002) 2525-2546, doi:10.1088/0031-9155/47/14/311 (the rule).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medrecon.geometry.ct import ConeBeam, CTGeometry, FanBeam, ParallelBeam
from medrecon.operators.rays import column_positions

Array = NDArray[np.float64]
G = TypeVar("G", bound=ParallelBeam | FanBeam | ConeBeam)

TURN = 2 * math.pi
# A gap this many times the usual step is a part of the turn that was not scanned. Golden-angle
# scans have gaps that differ by a factor of 2.6.
UNSCANNED = 3.0
SMALLEST_TAPER = math.radians(10)


@dataclass(frozen=True)
class Arc:
    """The part of a turn that was scanned: where it starts, how long it is, steps of its views.

    ``steps`` has one entry per view in the order of the scan; all angles are in rad.
    """

    start: float
    length: float
    steps: Array

    @property
    def is_full(self) -> bool:
        """Whether the arc closes."""
        return self.length >= TURN - 1e-9

    def coverage(self, angles: Array) -> Array:
        """``c`` at any source angles: 1 inside, falling to 0 at the ends, 0 outside."""
        if self.is_full:
            return np.ones_like(angles)
        taper = max(self.length - math.pi, min(SMALLEST_TAPER, self.length / 4))
        inside = np.mod(angles - self.start, TURN)
        return _rise(np.minimum(inside, self.length - inside) / taper)


def scanned_arc(angles: tuple[float, ...]) -> Arc:
    """Find the arc of a scan in any order and over any number of turns.

    Each view stands for the angles nearer to it than to its neighbours.
    """
    turned = np.mod(np.array(angles), TURN)
    order = np.argsort(turned, kind="stable")
    gaps = np.diff(turned[order], append=turned[order[0]] + TURN)
    usual = float(np.median(gaps[gaps > 1e-6]))
    widest = int(np.argmax(gaps))
    first = 0.0
    if len(angles) > 1 and gaps[widest] > UNSCANNED * usual:
        order, gaps = np.roll(order, -widest - 1), np.roll(gaps, -widest - 1)
        before, after = gaps[0], gaps[-2]
        length = float(gaps[:-1].sum() + (before + after) / 2)
        first = float(turned[order[0]] - before / 2)
        cells = np.concatenate([[before], (gaps[:-2] + gaps[1:-1]) / 2, [after]])
    else:
        length = TURN
        cells = (gaps + np.roll(gaps, 1)) / 2
    steps = np.empty_like(cells)
    steps[order] = cells
    return Arc(first, length, steps)


def completed(geometry: G) -> tuple[G, tuple[int, int]]:
    """Widen an offset detector until it reaches as far on its short side as on its long one.

    The measured rays end there, but not what the ramp makes of them, and voxels look it up.

    Returns
    -------
    (geometry, (left, right))
        The scan with the wider detector and the number of columns to add on either side.
    """
    missing = round(2 * abs(geometry.column_offset) / geometry.column_spacing)
    left, right = (missing, 0) if geometry.column_offset > 0 else (0, missing)
    shift = (right - left) / 2 * geometry.column_spacing
    wider = replace(
        geometry,
        columns=geometry.columns + missing,
        column_offset=geometry.column_offset + shift,
    )
    return wider, (left, right)


def ray_weights(geometry: CTGeometry) -> Array:
    """Step in angle times share of the line, rad, ``(views, columns)``."""
    arc = scanned_arc(geometry.angles)
    u = column_positions(geometry)
    fan = np.zeros_like(u)
    if not isinstance(geometry, ParallelBeam):
        fan = np.arctan2(u, geometry.source_to_detector)
    a = np.array(geometry.angles)[:, None]
    # The line of fan angle g seen from a is that of -g seen from a + pi - 2 g.
    here = arc.coverage(np.broadcast_to(a, (a.size, u.size))) * _detector_coverage(geometry, u)
    there = arc.coverage(a + math.pi - 2 * fan) * _detector_coverage(geometry, -u)
    share = here / np.maximum(here + there, np.finfo(float).tiny)
    return np.asarray(arc.steps[:, None] * share)


def _detector_coverage(geometry: CTGeometry, u: Array) -> Array:
    """``c`` along the detector: falls to 0 at the nearer end of an offset detector."""
    half = geometry.columns / 2 * geometry.column_spacing
    left, right = half - geometry.column_offset, half + geometry.column_offset
    taper = min(2 * min(left, right), max(abs(right - left), 4 * geometry.column_spacing))
    if taper <= 0:  # the detector does not reach the axis: no line is seen twice
        return ((u > -left) & (u < right)).astype(np.float64)
    return _rise(np.minimum(u + left, right - u) / taper)


def _rise(t: Array) -> Array:
    """From 0 at t <= 0 to 1 at t >= 1 without a kink."""
    return np.asarray(np.sin(math.pi / 2 * np.clip(t, 0.0, 1.0)) ** 2)
