"""Where the rotation axis falls on the detector, estimated from the scan itself.

A line is measured twice in a full turn, once from either side.  If the axis projects onto column
``c0``, then with ``gamma`` the angle of a ray to the central one

    p(view a, column c) = p(view a + pi - 2 gamma(c), column 2 c0 - c)

for fans (the sign of gamma follows from the geometry's frame), and with gamma = 0 for parallel
rays.  The column with the smallest difference between both sides is the answer, wherever a scan
holds opposite rays: full turns, short scans of fans, detectors shifted by up to almost half their
width.  A half turn of parallel rays has no opposite rays; there the double wedge of the Fourier
transform that no object can fill decides.

References
----------
N. T. Vo et al., "Reliable method for calculating the center of rotation in parallel-beam
tomography", Opt. Express 22 (2014) 19078, doi:10.1364/OE.22.019078.

A. C. Kak, M. Slaney, "Principles of Computerized Tomographic Imaging", SIAM 2001, section 3.4.3
(opposite rays of a fan), doi:10.1137/1.9780898719277.

Y. Meng, H. Gong, X. Yang, "Online geometric calibration of cone-beam computed tomography for
arbitrary imaging objects", IEEE Trans. Med. Imaging 32 (2013) 278, doi:10.1109/TMI.2012.2224360.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter, spline_filter1d
from scipy.optimize import minimize_scalar
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import ConeBeam, CTGeometry, FanBeam, ParallelBeam, ParallelBeam3D

Array = NDArray[np.float64]
Cost = Callable[[float], float]

_FINEST = 0.02  # columns
_SMOOTHING = 1.0  # cells; interpolation between them must not look like less noise
_COARSE_VIEWS, _FINE_VIEWS = 180, 720  # views that are looked at, to bound the time
_SLICES = 16  # around the middle, averaged: their mean is the sinogram of the mean slice
_FEWEST_COLUMNS, _FEWEST_PAIRS = 8, 200
_LEAST_CONFIDENCE = 0.2


@dataclass(frozen=True, kw_only=True)
class RotationCentre:
    """An estimate of the axis' place on the detector.

    Parameters
    ----------
    column
        Index of the column, from 0, onto which the axis projects; the middle of ``n`` columns is
        ``(n - 1) / 2``.
    column_offset
        The same as the ``column_offset`` of a geometry, mm.
    confidence
        How far the mismatch at the estimate lies below the usual one of the columns searched:
        1 for data that fit exactly, 0 for data that know nothing of an axis.
    """

    column: float
    column_offset: float
    confidence: float


def find_rotation_centre(
    measurements: Tensor, geometry: CTGeometry, *, search: float | None = None
) -> RotationCentre:
    """Estimate the detector column onto which the rotation axis projects.

    Parameters
    ----------
    measurements
        Line integrals in the layout of the geometry.  Slices around the middle are averaged; of a
        cone beam, the rows at the height of the source.
    geometry
        The scan as far as it is known; its ``column_offset`` is where the search begins.
    search
        How far to search to either side, in columns; default: a tenth of the detector.

    Returns
    -------
    RotationCentre
        Good to about a tenth of a column with fair data.

    Raises
    ------
    InconsistentError
        If the geometry has no single rotation axis (helix, per-view vectors), the views hold too
        few opposite rays, or the data do not tell one column from another.
    """
    sinogram = _sinogram(measurements, geometry)
    angles = np.asarray(geometry.angles, np.float64)  # type: ignore[union-attr]
    spacing, offset = geometry.column_spacing, geometry.column_offset  # type: ignore[union-attr]
    middle = (geometry.columns - 1) / 2
    start = middle - offset / spacing
    reach = geometry.columns / 10 if search is None else search
    parallel = isinstance(geometry, ParallelBeam | ParallelBeam3D)
    if parallel and abs(angles[-1] - angles[0]) < 1.5 * math.pi:
        coarse = _double_wedge_cost(sinogram, angles, views=_COARSE_VIEWS, order=1)
        fine = _double_wedge_cost(sinogram, angles, views=_FINE_VIEWS, order=3)
    else:
        fan = _ray_angle(geometry)
        coarse = _opposite_cost(sinogram, angles, fan, views=_COARSE_VIEWS, order=1)
        fine = _opposite_cost(sinogram, angles, fan, views=_FINE_VIEWS, order=3)
    column, confidence = _lowest(coarse, fine, start, reach)
    return RotationCentre(
        column=column, column_offset=(middle - column) * spacing, confidence=confidence
    )


def _sinogram(measurements: Tensor, geometry: CTGeometry) -> Array:
    """One slice ``(views, columns)`` in which opposite rays meet."""
    if isinstance(geometry, ParallelBeam | FanBeam):
        rows = measurements.movedim(0, 1)
    else:
        rows = measurements
    if isinstance(geometry, ConeBeam):
        if any(geometry.heights) or geometry.focal_shifts:
            raise InconsistentError(
                "The rotation centre can only be estimated on a circle with a steady focal spot; "
                "give it instead."
            )
        low, high = _rows_of_the_source(geometry)
    elif isinstance(geometry, ParallelBeam | ParallelBeam3D | FanBeam):
        low = max(0, (rows.shape[1] - _SLICES) // 2)
        high = low + _SLICES
    else:
        raise InconsistentError(
            "A scan with a vector per view has no single rotation centre to estimate."
        )
    return np.asarray(rows[:, low:high].double().mean(1).cpu().numpy())


def _rows_of_the_source(geometry: ConeBeam) -> tuple[int, int]:
    row = (geometry.rows - 1) / 2 - geometry.row_offset / geometry.row_spacing
    if not 0 <= row <= geometry.rows - 1:
        raise InconsistentError(
            f"The plane of the source meets the detector at row {row:.1f} of {geometry.rows}; "
            "without it the rotation centre cannot be estimated, so give it instead."
        )
    return math.floor(row), math.ceil(row) + 1


def _ray_angle(geometry: CTGeometry) -> Callable[[Array], Array]:
    """Angle gamma of a ray to the central one, from its distance to it in columns."""
    if isinstance(geometry, ParallelBeam | ParallelBeam3D):
        return np.zeros_like
    far, radius = geometry.source_to_detector, geometry.detector_radius  # type: ignore[union-attr]
    spacing = geometry.column_spacing  # type: ignore[union-attr]

    def angle(columns: Array) -> Array:
        s = columns * spacing
        if math.isinf(radius):
            return np.arctan(s / far)
        return np.arctan2(radius * np.sin(s / radius), far - radius * (1 - np.cos(s / radius)))

    return angle


def _opposite_cost(
    sinogram: Array, angles: Array, gamma: Callable[[Array], Array], *, views: int, order: int
) -> Cost:
    """Mismatch of opposite rays over their variance, for a column of the axis."""
    sense = 1.0 if angles[0] < angles[-1] else -1.0
    turn = _Turn.of(gaussian_filter(sinogram, _SMOOTHING, mode="nearest"), sense * angles)
    table = spline_filter(turn.table, order) if order > 1 else turn.table
    count, width = len(turn.angles), sinogram.shape[1]
    chosen = np.unique(np.linspace(0, count - 1, min(count, views)).astype(int))
    near, at = turn.table[turn.first + chosen], turn.angles[chosen]

    def cost(center: float) -> float:
        low, high = max(0.0, 2 * center - (width - 1)), min(width - 1.0, 2 * center)
        columns = np.arange(math.ceil(low), math.floor(high) + 1)
        if len(columns) < _FEWEST_COLUMNS:
            return math.inf
        opposite = math.pi - 2 * sense * gamma(columns - center)
        row = turn.place(at[:, None] + opposite[None])
        across = np.broadcast_to(2 * center - columns, row.shape)
        seen = np.isfinite(row)
        if int(seen.sum()) < _FEWEST_PAIRS:
            return math.inf
        a = near[:, columns][seen]
        b = map_coordinates(
            table, [row[seen], across[seen]], order=order, prefilter=False, mode="nearest"
        )
        spread = a.var() + b.var()
        return float(((a - b) ** 2).mean() / spread) if spread > 0 else math.inf

    return cost


@dataclass(frozen=True)
class _Turn:
    """At most one turn of views with growing ``angles``; a full one goes on past its ends."""

    table: Array
    """Views ``(first + len(angles) + first, columns)``."""
    angles: Array
    first: int

    @classmethod
    def of(cls, sinogram: Array, angles: Array) -> _Turn:
        steps = np.diff(angles)
        if len(steps) < 8 or not (steps > 0).all():
            raise InconsistentError(
                "The rotation centre can only be estimated from views in order of their angle; "
                "give it instead."
            )
        step = float(np.median(steps))
        count = int((angles < angles[0] + 2 * math.pi - step / 2).sum())
        full = angles[count - 1] + 1.5 * step > angles[0] + 2 * math.pi
        pad = min(8, count) if full else 0
        views = sinogram[:count]
        table = np.concatenate([views[count - pad :], views, views[:pad]])
        return cls(table, angles[:count], pad)

    def place(self, angles: Array) -> Array:
        """Fractional index in the table at which an angle was seen; NaN where it was not."""
        turn, inside, pad = 2 * math.pi, self.angles, self.first
        known = np.concatenate([inside[len(inside) - pad :] - turn, inside, inside[:pad] + turn])
        wanted = inside[0] + np.mod(angles - inside[0], turn)
        return np.asarray(np.interp(wanted, known, np.arange(len(known)), right=math.nan))


def _lowest(coarse: Cost, fine: Cost, start: float, reach: float) -> tuple[float, float]:
    """Column of the smallest cost, and how far it lies below the usual one."""
    trials = start + np.arange(-math.ceil(reach), math.ceil(reach) + 1, dtype=np.float64)
    costs = np.array([coarse(trial) for trial in trials])
    known = np.isfinite(costs)
    if known.sum() < 3:
        raise InconsistentError(
            "The views hold too few opposite rays with structure to estimate the rotation centre; "
            "give it instead."
        )
    best = float(trials[np.argmin(np.where(known, costs, np.inf))])
    usual = float(np.median([fine(t) for t in trials[known][:: max(1, int(known.sum()) // 12)]]))
    found = minimize_scalar(
        fine, bounds=(best - 1.5, best + 1.5), method="bounded", options={"xatol": _FINEST}
    )
    column, lowest = float(found.x), float(found.fun)
    confidence = 1 - lowest / usual if usual > 0 else 0.0
    at_the_end = best in (trials[known][0], trials[known][-1])
    if confidence < _LEAST_CONFIDENCE or at_the_end:
        raise InconsistentError(
            f"The data do not tell where the rotation axis is (confidence {confidence:.2f}"
            f"{', at the end of the columns searched' if at_the_end else ''}); give it instead."
        )
    return column, min(1.0, confidence)


def _double_wedge_cost(sinogram: Array, angles: Array, *, views: int, order: int) -> Cost:
    """Energy in the Fourier double wedge of the half turn and its mirror image."""
    count = _half_turn(angles)
    turn = sinogram[: count : math.ceil(count / views)]
    smooth = gaussian_filter(turn, (0, _SMOOTHING), mode="nearest")
    table = spline_filter1d(smooth, order, axis=1) if order > 1 else smooth
    rows, columns = np.indices(smooth.shape)
    wedge = _double_wedge(2 * len(smooth), smooth.shape[1])

    def cost(center: float) -> float:
        mirrored = map_coordinates(
            table, [rows, 2 * center - columns], order=order, prefilter=False, mode="nearest"
        )
        spectrum = np.fft.fft2(np.vstack([smooth, mirrored]))
        return float((np.abs(spectrum[wedge]) ** 2).mean())

    return cost


def _half_turn(angles: Array) -> int:
    """Count the leading views that make up a half turn."""
    steps = np.diff(angles)
    if len(steps) < 8 or not np.allclose(steps, steps.mean(), rtol=0.02):
        raise InconsistentError(
            "The rotation centre can only be estimated from evenly spaced views; give it instead."
        )
    views = round(math.pi / abs(float(steps.mean())))
    # A last view at 180 degrees repeats the first one mirrored; one missing view does no harm.
    if len(angles) < views - 1:
        raise InconsistentError(
            f"The views cover {math.degrees(abs(angles[-1] - angles[0])):.1f} degrees; a half turn "
            "is needed to estimate the rotation centre, so give it instead."
        )
    return min(views, len(angles))


def _double_wedge(views: int, columns: int) -> NDArray[np.bool_]:
    """Frequencies that no object inside the detector can have."""
    angular = np.abs(np.fft.fftfreq(views) * views)[:, None]
    spatial = np.abs(np.fft.fftfreq(columns))[None]
    return np.asarray(angular > 2 * np.pi * (columns / 2) * spatial + 2)
