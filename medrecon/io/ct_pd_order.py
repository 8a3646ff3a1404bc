"""Whether the views of a DICOM-CT-PD series are one scan: one scanner, in order, none missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.io import ct_pd_tags as tags
from medrecon.io.ct_pd_view import Detector, View

_STILL = 0.05  # mm; positions are rounded to hundredths


def common_detector(views: list[View], path: Path) -> Detector:
    """Return the scanner of which all files have to tell the same.

    Raises
    ------
    InconsistentError
        With the first property in which they differ, and in how many files.
    """
    detector = views[0].detector
    for name in Detector.__dataclass_fields__:
        other = sum(getattr(v.detector, name) != getattr(detector, name) for v in views)
        if other:
            raise InconsistentError(
                f"{path}: {other} of {len(views)} views differ from the first in their {name}; "
                "they are not of one scan."
            )
    return detector


def check_turn(views: list[View], missing_views: int, path: Path) -> NDArray[np.float64]:
    """Angles of ordered views without their jumps by full turns.

    Raises
    ------
    InconsistentError
        If views are repeated, more than ``missing_views`` lack, or the gantry turns back; with
        their number.
    """
    numbers = np.array([view.instance for view in views])
    angles = np.unwrap([view.angle for view in views])
    repeated = int((np.diff(numbers) == 0).sum())
    steps = np.diff(angles)
    if repeated or not len(steps):
        if repeated:
            raise InconsistentError(f"{path}: {repeated} views repeat an InstanceNumber.")
        return angles
    usual = float(np.median(steps))
    still = int((np.abs(steps) < 0.25 * abs(usual)).sum())
    back = int((steps * np.sign(usual) < -0.25 * abs(usual)).sum())
    if usual == 0 or still or back:
        raise InconsistentError(
            f"{path}: {max(still, back, int(usual == 0))} views repeat an angle or turn back; "
            "is the series of one scan, and complete?"
        )
    lacking = max(_gaps(steps), _gaps(np.diff(numbers).astype(np.float64)))
    if lacking > missing_views:
        raise InconsistentError(
            f"{path}: {lacking} of {len(views) + lacking} views are missing; get them, or allow "
            f"{lacking} missing views (counts.missing_views of the protocol)."
        )
    return angles


def _gaps(steps: NDArray[np.float64]) -> int:
    """How many steps lack in a sequence that should have one size."""
    ratio = np.abs(steps / np.median(steps))
    return int((np.round(ratio[ratio > 1.5]) - 1).sum())


def check_heights(views: list[View], path: Path) -> None:
    """Refuse a table that moves back and forth.

    Raises
    ------
    InconsistentError
        With the number of views.
    """
    heights = np.array([view.height for view in views])
    steps = np.diff(heights) * (np.sign(heights[-1] - heights[0]) or 1.0)
    back = int((steps < -_STILL).sum())
    if back:
        raise InconsistentError(
            f"{path}: the table turns back in {back} of {len(views)} views ({tags.HEIGHT} has to "
            "grow or fall throughout)."
        )
