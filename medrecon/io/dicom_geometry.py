"""From the positions of single slices to one grid, or to the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.grid import Grid

_ORTHONORMAL = 1e-3  # DICOM writes cosines with as few as four digits
_SAME_COSINE = 1e-4
_SHEAR_MM = 0.1
_GAP_MM = 0.02  # positions are often rounded to a hundredth of a millimetre
_GAP_RELATIVE = 0.01


@dataclass(frozen=True)
class SlicePlane:
    """Where one slice lies.

    Parameters
    ----------
    position
        ImagePositionPatient: LPS mm of the centre of the first pixel.
    along, down
        ImageOrientationPatient: unit vectors along which the column and the row index grow.
    spacing
        PixelSpacing: mm between rows, mm between columns.
    shape
        Rows, columns.
    thickness
        SpacingBetweenSlices or SliceThickness in mm; used only where there is a single slice.
    """

    position: NDArray[np.float64]
    along: NDArray[np.float64]
    down: NDArray[np.float64]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    thickness: float | None


def stack_slices(planes: Sequence[SlicePlane], where: str) -> tuple[Grid, list[int]]:
    """Find the grid of a stack of parallel slices, and their order along its z index.

    Parameters
    ----------
    planes
        The slices in any order.
    where
        Name of the series for messages.

    Returns
    -------
    grid : Grid
        The z index grows along the normal ``along x down``.
    order : list of int
        ``planes[order[z]]`` is slice ``z``.

    Raises
    ------
    InconsistentError
        If slices are not parallel, differ in size, share a position, miss a neighbour, are not
        equally spaced, or are shifted against each other (tilted gantry).
    """
    first = planes[0]
    _require_alike(planes, where)
    normal = _normal(first, where)
    heights = np.array([plane.position @ normal for plane in planes])
    order = [int(i) for i in np.argsort(heights, kind="stable")]
    positions = np.array([planes[i].position for i in order])
    spacing = _slice_spacing(heights[order], first, where)
    _require_straight(positions, normal, where)
    rows, columns = first.shape
    # Exactly orthonormal: DICOM's few digits would otherwise add up over the stack.
    along = first.along / np.linalg.norm(first.along)
    down = np.cross(normal, along)
    grid = Grid(
        shape=(len(planes), rows, columns),
        spacing=(spacing, *first.spacing),
        origin=tuple(positions[0].tolist()),
        directions=tuple(tuple(v.tolist()) for v in (normal, down, along)),  # type: ignore[arg-type]
    )
    return grid, order


def _require_alike(planes: Sequence[SlicePlane], where: str) -> None:
    first = planes[0]
    if any(plane.shape != first.shape for plane in planes):
        sizes = sorted({plane.shape for plane in planes})
        raise InconsistentError(f"{where}: slices differ in size: {sizes} (rows, columns).")
    if not all(np.allclose(p.spacing, first.spacing, rtol=1e-4) for p in planes):
        raise InconsistentError(f"{where}: slices differ in PixelSpacing.")
    turned = sum(
        not np.allclose([p.along, p.down], [first.along, first.down], atol=_SAME_COSINE)
        for p in planes
    )
    if turned:
        raise InconsistentError(
            f"{where}: {turned} of {len(planes)} slices have another ImageOrientationPatient than "
            "the first (a localizer, or several stacks); give one stack of parallel slices."
        )


def _normal(plane: SlicePlane, where: str) -> NDArray[np.float64]:
    axes = np.array([plane.along, plane.down])
    if not np.allclose(axes @ axes.T, np.eye(2), atol=_ORTHONORMAL):
        raise InconsistentError(
            f"{where}: ImageOrientationPatient is not two perpendicular unit vectors."
        )
    normal = np.cross(plane.along, plane.down)
    return np.asarray(normal / np.linalg.norm(normal))


def _slice_spacing(heights: NDArray[np.float64], first: SlicePlane, where: str) -> float:
    if len(heights) == 1:
        if first.thickness is None:
            raise InconsistentError(f"{where}: a single slice without a SliceThickness.")
        return first.thickness
    gaps = np.diff(heights)
    same = int(np.count_nonzero(gaps < 1e-3))
    if same:
        raise InconsistentError(
            f"{where}: {same} slices share their position with another one (several phases, echoes "
            "or copies?); give one slice per position."
        )
    middle = float(np.median(gaps))
    wrong = np.abs(gaps - middle) > max(_GAP_MM, _GAP_RELATIVE * middle)
    if wrong.any():
        raise InconsistentError(f"{where}: {_describe_gaps(heights, gaps, wrong, middle)}")
    return float((heights[-1] - heights[0]) / len(gaps))


def _describe_gaps(
    heights: NDArray[np.float64],
    gaps: NDArray[np.float64],
    wrong: NDArray[np.bool_],
    middle: float,
) -> str:
    multiples = gaps[wrong] / middle
    if np.allclose(multiples, np.rint(multiples), atol=0.05) and multiples.min() > 1.5:
        missing = int(np.rint(multiples).sum()) - len(multiples)
        at = int(np.argmax(wrong))
        return (
            f"{missing} slice(s) missing: between {heights[at]:.2f} and {heights[at + 1]:.2f} mm "
            f"the gap is {gaps[at]:.2f} mm instead of {middle:.2f} mm; add the missing files."
        )
    shown = ", ".join(f"{gap:.2f}" for gap in sorted(set(np.round(gaps, 2).tolist()))[:6])
    return f"slices are not equally spaced ({shown} mm); resample them to one spacing first."


def _require_straight(
    positions: NDArray[np.float64], normal: NDArray[np.float64], where: str
) -> None:
    travel = positions - positions[0]
    height = travel @ normal
    sideways = np.linalg.norm(travel - np.outer(height, normal), axis=1)
    if sideways.max() > _SHEAR_MM:
        worst = int(np.argmax(sideways))
        tilt = math.degrees(math.atan2(sideways[worst], height[worst]))
        raise InconsistentError(
            f"{where}: slices are shifted against each other by up to {sideways[worst]:.2f} mm "
            f"(gantry tilt of {tilt:.1f} degrees); correct the tilt by resampling first."
        )
