"""Whether CT measurements can be what they are said to be; all CT readers ask here."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import ConeVectors, CTGeometry, ParallelVectors, SliceGeometry
from medrecon.study import Study

_MAX_ANGLE = 8 * math.pi  # rad; four turns of a circular scan, or degrees taken for rad
_MAX_LINE_INTEGRAL = 20.0  # exp(-20): one quantum in half a billion


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
        return  # said view by view; ConeVectors and ParallelVectors check themselves
    largest = max(abs(angle) for angle in geometry.angles)
    if largest > _MAX_ANGLE and not getattr(geometry, "heights", ()):  # a helix may go on turning
        raise InconsistentError(
            f"{path}: a view angle of {largest:.1f} rad is more than four turns; "
            "the angles seem to be degrees."
        )
    half = geometry.columns * geometry.column_spacing / 2
    if abs(geometry.column_offset) > half:
        raise InconsistentError(
            f"{path}: the detector is shifted by {geometry.column_offset:.2f} mm, more than half "
            f"its width ({half:.2f} mm), so it does not see the rotation axis."
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
    middle = float(measurements.median())
    if not -1 < middle < _MAX_LINE_INTEGRAL:
        kind = "counts (before the logarithm)" if middle > 0 else "HU"
        raise InconsistentError(
            f"{path}: the median measurement is {middle:.4g}, which cannot be a line integral; "
            f"the values seem to be {kind}."
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
