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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrecon.analytic.columns import Columns
from medrecon.analytic.orbit import Orbit

Array = NDArray[np.float64]

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


@dataclass(frozen=True)
class Shares:
    """How much of its line a ray of the scan stands for; a line is counted once over all rays.

    Parameters
    ----------
    arc
        The part of the turn that was scanned.
    low, high
        Where the detector ends, in all views; fan angles in rad, mm for parallel rays.
    columns
        Columns between these ends.
    is_parallel
        Whether rays are parallel.
    """

    arc: Arc
    low: float
    high: float
    columns: int
    is_parallel: bool

    def of(self, angles: Array, fan: Array) -> Array:
        """Share between 0 and 1 of rays at source angles ``(views,)``, ``(views, ...)``."""
        a = angles.reshape(-1, *[1] * (fan.ndim - 1))
        turned = 0.0 if self.is_parallel else 2 * fan
        # The line of fan angle g seen from a is that of -g seen from a + pi - 2 g.
        here = self.arc.coverage(a) * self._coverage(fan)
        there = self.arc.coverage(a + math.pi - turned) * self._coverage(-fan)
        return np.asarray(here / np.maximum(here + there, np.finfo(float).tiny))

    def _coverage(self, x: Array) -> Array:
        """``c`` along the detector: falls to 0 at the nearer end of an offset detector."""
        left, right = -self.low, self.high
        few = 4 * (right + left) / self.columns
        taper = min(2 * min(left, right), max(abs(right - left), few))
        if taper <= 0:  # the detector does not reach the axis: no line is seen twice
            return ((x > -left) & (x < right)).astype(np.float64)
        return _rise(np.minimum(x + left, right - x) / taper)


def shares_of(orbit: Orbit, columns: Columns, *, is_parallel: bool) -> Shares:
    """Find what a scan measured; ends of the detector are where all views have them."""
    return Shares(
        arc=scanned_arc(tuple(orbit.angles.tolist())),
        low=float(columns.ends.min(1).max()),
        high=float(columns.ends.max(1).min()),
        columns=columns.count,
        is_parallel=is_parallel,
    )


def _rise(t: Array) -> Array:
    """From 0 at t <= 0 to 1 at t >= 1 without a kink."""
    return np.asarray(np.sin(math.pi / 2 * np.clip(t, 0.0, 1.0)) ** 2)
