"""What a scan sees: the radius around its axis and the range along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medrecon.geometry.frames import Array, Frames, HasFrames


@dataclass(frozen=True)
class FieldOfView:
    """The cylinder around the z axis that a scan sees.

    Parameters
    ----------
    left, right
        How far from the axis the detector's first and last column see, mm, the median over the
        views; an offset detector sees less far on one side, which the other side of a full turn
        makes up for.
    low, high
        Range of z that some view sees at the axis, mm; both 0 where slices are measured one by
        one.
    """

    left: float
    right: float
    low: float
    high: float

    @property
    def radius(self) -> float:
        """Radius in mm that at least one side of the detector reaches; 0: it misses the axis."""
        return max(0.0, self.left, self.right)

    @property
    def radius_of_both_sides(self) -> float:
        """Radius in mm that every view sees whole."""
        return max(0.0, min(self.left, self.right))


def field_of_view(geometry: HasFrames) -> FieldOfView:
    """Measure the field of view of a scan, from the outer edges of its outermost cells.

    Parameters
    ----------
    geometry
        Any CT geometry; its axis is z, to which C-arms come near.
    """
    frame = geometry.frames()
    middle = (frame.rows - 1) / 2
    left, _ = _past_axis(frame, middle, -0.5)
    right, _ = _past_axis(frame, middle, frame.columns - 0.5)
    low = high = 0.0
    if has_rows(geometry):
        centre = _column_of_axis(frame)
        ends = [_past_axis(frame, row, centre)[1] for row in (-0.5, frame.rows - 0.5)]
        low, high = float(np.min(ends)), float(np.max(ends))
    return FieldOfView(float(np.median(-left)), float(np.median(right)), low, high)


def has_rows(geometry: HasFrames) -> bool:
    """Whether a scan has detector rows, or measures slices that do not see each other."""
    return hasattr(geometry, "rows")


def _past_axis(frame: Frames, row: float, column: float) -> tuple[Array, Array]:
    """Signed distance in mm of each view's ray from the z axis, along u, and its z there."""
    points, directions = frame.rays(row, column)
    flat = directions[:, :2] / np.linalg.norm(directions[:, :2], axis=1, keepdims=True)
    along = -(points[:, :2] * flat).sum(1)
    nearest = points[:, :2] + along[:, None] * flat
    climb = directions[:, 2] / np.linalg.norm(directions[:, :2], axis=1)
    u = frame.u[:, :2] / np.linalg.norm(frame.u[:, :2], axis=1, keepdims=True)
    distance = np.copysign(np.linalg.norm(nearest, axis=1), (nearest * u).sum(1))
    return distance, points[:, 2] + along * climb


def _column_of_axis(frame: Frames) -> float:
    """Column whose rays pass nearest to the axis in the middle view."""
    columns = np.arange(frame.columns)
    points, directions = frame.rays((frame.rows - 1) / 2, columns)
    view = frame.views // 2
    p, d = points[view, :, :2], directions[view, :, :2]
    distance = np.abs(p[:, 0] * d[:, 1] - p[:, 1] * d[:, 0]) / np.linalg.norm(d, axis=1)
    return float(np.argmin(distance))
