"""Whether CT measurements can be what they are said to be; all CT readers ask here."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import (
    ConeBeam,
    ConeVectors,
    CTGeometry,
    ParallelBeam3D,
    ParallelVectors,
    SliceGeometry,
)
from medrecon.study import Study

_TURN = 2 * math.pi
_MANY_TURNS = 4 * _TURN
# rad per view above which a circular scan of many turns, and one of more than a turn, is suspect
_SPARSE, _VERY_SPARSE = 0.02, 0.4
_GOLDEN = [math.pi * (3 - 5**0.5) / k for k in (1, 2)] + [
    math.pi * (5**0.5 - 1) / k for k in (1, 2)
]
_MIN_PITCH, _MAX_PITCH = 0.03, 8.0  # table feed per turn over the height seen at the axis
_LEAST_TURNS = 0.05  # of a helix; below, its pitch is not known
_MAX_LINE_INTEGRAL = 20.0  # exp(-20): one quantum in half a billion
_MAX_HIGH, _MIN_LOW = 40.0, -5.0  # even metal, even badly normalised air
_SAMPLES = 10**6


def check_ct_study(study: Study, path: Path) -> Study:
    """Return the study if its numbers fit each other and physics.

    Parameters
    ----------
    study
        A CT study whose measurements are line integrals.
    path
        The file it came from, named in the error.

    Raises
    ------
    InconsistentError
        If shapes disagree, values are not finite or no line integrals, angles look like degrees,
        weights are negative, or the detector does not see the rotation axis.
    """
    geometry = study.geometry
    if study.modality != "CT":
        raise InconsistentError(f"{path} holds MR data where CT was expected.")
    _check_geometry(geometry, path)  # type: ignore[arg-type]
    _check_shape(study.measurements, geometry, path)  # type: ignore[arg-type]
    require_finite(study.measurements, path, "measurements")
    _check_range(study.measurements, path)
    if study.weights is not None:
        _check_weights(study.weights, study.measurements, path)
    return study


def require_finite(values: Tensor, path: Path, name: str) -> None:
    """Raise :class:`InconsistentError` with count and first place of NaN or infinite values."""
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        first = tuple(torch.nonzero(bad)[0].tolist())
        raise InconsistentError(
            f"{path}: {int(bad.sum())} {name} are NaN or infinite, the first at index {first}; "
            "repair or leave out these views."
        )


def _check_geometry(geometry: CTGeometry, path: Path) -> None:
    if isinstance(geometry, ConeVectors | ParallelVectors):
        return  # said view by view: no angles, and no axis that a detector would have to see
    climbing = isinstance(geometry, ConeBeam) and len(set(geometry.heights)) > 1
    if not climbing:
        check_angles(geometry.angles, path)
    half = geometry.columns * geometry.column_spacing / 2
    if abs(geometry.column_offset) > half:
        raise InconsistentError(
            f"{path}: the detector is shifted by {geometry.column_offset:.2f} mm, more than half "
            f"its width ({half:.2f} mm), so it does not see the rotation axis."
        )
    if isinstance(geometry, ParallelBeam3D | ConeBeam):
        height = geometry.rows * geometry.row_spacing
        if abs(geometry.row_offset) > height:
            raise InconsistentError(
                f"{path}: the detector is shifted by {geometry.row_offset:.2f} mm along z, more "
                f"than its height ({height:.2f} mm); check the unit of lengths."
            )
    if isinstance(geometry, ConeBeam) and climbing:
        _check_pitch(geometry, path)


def _check_pitch(geometry: ConeBeam, path: Path) -> None:
    """Table feed per turn over what the detector sees at the axis: 0.1 to 3.5 in any scanner."""
    turns = float(np.ptp(geometry.angles)) / _TURN
    travel = float(np.ptp(geometry.heights))
    seen = geometry.rows * geometry.row_spacing
    seen *= geometry.source_to_axis / geometry.source_to_detector
    if turns < _LEAST_TURNS:
        return
    feed = travel / turns
    numbers = (
        f"the table moves {feed:.4g} mm per turn, {feed / seen:.2g} times the detector's height at "
        f"the axis ({seen:.1f} mm), over {turns:.1f} turns"
    )
    if feed > _MAX_PITCH * seen:
        raise InconsistentError(
            f"{path}: {numbers}: most of the body is never seen; check the units of heights and "
            "angles."
        )
    if turns > 4 and feed < _MIN_PITCH * seen:
        raise InconsistentError(f"{path}: {numbers}; the angles seem to be degrees.")


def check_angles(angles: ArrayLike, path: Path) -> None:
    """Refuse view angles of a circular scan that are degrees taken for rad, or the reverse.

    Any order, start and sense is fine, and so are many turns: what gives degrees away is a scan of
    many turns with few views in each.  Golden-angle scans, which have that too, are known by their
    step.

    Parameters
    ----------
    angles
        rad.
    path
        The file they came from, named in the error.

    Raises
    ------
    InconsistentError
        If the angles cannot be rad.
    """
    values = np.asarray(angles, np.float64)
    span = float(np.ptp(values))
    step = float(np.median(np.abs(np.diff(values)))) if len(values) > 1 else 0.0
    golden = any(abs(step - angle) < 0.01 for angle in _GOLDEN)
    many = span > _MANY_TURNS and step > _SPARSE
    if not golden and (many or (span > 1.1 * _TURN and step > _VERY_SPARSE)):
        raise InconsistentError(
            f"{path}: the view angles span {span:.1f} rad, more than {span / _TURN:.0f} turns in "
            f"steps of {step:.2f} rad; they seem to be degrees."
        )
    if len(values) > 30 and any(abs(span / math.radians(t) - 1) < 0.03 for t in (math.pi, _TURN)):
        raise InconsistentError(
            f"{path}: {len(values)} views span only {math.degrees(span):.2f} degrees, which are "
            f"{math.degrees(span) / math.pi:.2f} pi: the angles seem to have been rad already when "
            "they were converted from degrees."
        )


def _check_shape(measurements: Tensor, geometry: CTGeometry, path: Path) -> None:
    views, columns = geometry.views, geometry.columns
    if not isinstance(geometry, SliceGeometry):
        expected, words = (views, geometry.rows, columns), "(views, rows, columns)"
        fits = tuple(measurements.shape) == expected
    else:
        expected, words = (-1, views, columns), "(z, views, columns)"
        fits = measurements.ndim == 3 and tuple(measurements.shape[1:]) == expected[1:]
    if not fits:
        raise InconsistentError(
            f"{path}: measurements have shape {tuple(measurements.shape)}, but the geometry says "
            f"{words} = {str(expected).replace('-1', 'any')}."
        )


def _check_range(measurements: Tensor, path: Path) -> None:
    values = measurements.flatten()[:: max(1, measurements.numel() // _SAMPLES)].float()
    low, middle, high = torch.quantile(values, torch.tensor([0.01, 0.5, 0.99])).tolist()
    if -1 < middle < _MAX_LINE_INTEGRAL and high < _MAX_HIGH and low > _MIN_LOW:
        _warn_of_transmissions(measurements, path)
        return
    kind = "counts (before the logarithm)" if middle > 0 and low > _MIN_LOW else "HU"
    raise InconsistentError(
        f"{path}: the measurements are {low:.4g} to {high:.4g} (1st and 99th percentile) with a "
        f"median of {middle:.4g}, which cannot be line integrals; the values seem to be {kind}."
    )


def _warn_of_transmissions(measurements: Tensor, path: Path) -> None:
    """Without the logarithm air is 1 at both ends of the detector, and the object less."""
    columns = measurements.shape[-1]
    if columns < 16:
        return
    width = max(2, columns // 50)
    part = measurements.reshape(-1, columns)
    part = part[:: max(1, len(part) // 1000)]
    ends = [float(part[:, :width].median()), float(part[:, -width:].median())]
    inside = float(part[:, columns // 4 : columns - columns // 4].median())
    if all(0.85 < end < 1.15 for end in ends) and inside < 0.7 and float(part.max()) < 2:
        warnings.warn(
            f"{path}: the measurements are about {ends[0]:.2f} at the ends of the detector and "
            f"{inside:.2f} in the middle; they may be transmissions, whose negative logarithm is "
            "still to be taken.",
            stacklevel=4,
        )


def _check_weights(weights: Tensor, measurements: Tensor, path: Path) -> None:
    require_finite(weights, path, "weights")
    if bool((weights < 0).any()) or not bool((weights > 0).any()):
        raise InconsistentError(f"{path}: weights must be zero or positive, and some positive.")
    pairs = zip(reversed(weights.shape), reversed(measurements.shape), strict=False)
    fits = weights.ndim <= measurements.ndim and all(w in (1, m) for w, m in pairs)
    if not fits:
        raise InconsistentError(
            f"{path}: weights of shape {tuple(weights.shape)} do not fit measurements of shape "
            f"{tuple(measurements.shape)}."
        )
