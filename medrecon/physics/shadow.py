"""The object's shadow on the detector: how wide, whether it is cut off, what it says of units."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import CTGeometry, FanBeam, ParallelBeam
from medrecon.geometry.field import field_of_view
from medrecon.grid import Grid
from medrecon.physics.placement import rays_meet

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

_VIEWS, _ROWS = 120, 24  # at most so many are looked at
_IN_SHADOW = 0.05  # share of the largest line integral above which a ray meets the object
_SMOOTHED = 5  # columns
_SIGMAS = 5.0
_LEAST = 0.05  # line integral below which nothing is said
_SIDE_COUNTS = 0.8  # a side of the detector that sees this share of the field is not cut by design
_FACTOR = 5.0  # attenuation this far from water's is a wrong unit


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """How much of the object the scan or the grid leaves out.

    Parameters
    ----------
    left, right
        Share of the views (and rows) in which the object reaches past the detector's first and
        last column; 0 on the short side of an offset detector, which is cut by design.
    beyond_grid
        Share of the views in which rays that miss the grid meet the object.
    reach
        How far from the axis some ray still meets the object, mm.
    field_radius
        Radius of the field of view, mm.
    """

    left: float
    right: float
    beyond_grid: float
    reach: float
    field_radius: float

    @property
    def is_truncated(self) -> bool:
        """Whether more than one view in a hundred is cut off."""
        return max(self.left, self.right, self.beyond_grid) > 0.01

    @property
    def remark(self) -> str:
        """One sentence with numbers for a warning or a report; empty if nothing is cut off."""
        cut = max(self.left, self.right)
        if cut > 0.01:
            return (
                f"The object is wider than the field of view (radius {self.field_radius:.1f} mm) "
                f"in {100 * cut:.0f} % of the views: values near its edge are too high."
            )
        if self.beyond_grid > 0.01:
            return (
                f"The object reaches {self.reach:.1f} mm from the axis, beyond the grid, in "
                f"{100 * self.beyond_grid:.0f} % of the views; iterative reconstructions need a "
                "grid that holds all of it."
            )
        return ""


def truncation(measurements: Tensor, geometry: CTGeometry, grid: Grid | None = None) -> Truncation:
    """Find out whether projections end before the object does, or the grid does.

    Parameters
    ----------
    measurements
        Line integrals in the layout of the geometry.
    geometry
        Any CT scan.
    grid
        The volume that is to be reconstructed, in the scanner's frame; height is not looked at,
        as patients are longer than scanners.
    """
    p, chosen, threshold = _sample(measurements, geometry)
    field = field_of_view(geometry)
    width = max(2, geometry.columns // 100)
    left = (p[..., :width].mean(-1) > threshold).mean()
    right = (p[..., -width:].mean(-1) > threshold).mean()
    met = p > threshold
    distance = _distance_from_axis(geometry, chosen)[:, None]
    beyond = 0.0
    if grid is not None:
        missing = ~rays_meet(grid, *_rays(geometry, chosen))[:, None]
        # two neighbours at once, so that a single bad cell is no object
        hit = met & missing
        beyond = float((hit[..., 1:] & hit[..., :-1]).any((-1, -2)).mean())
    reach = np.abs(np.broadcast_to(distance, p.shape)[met])
    return Truncation(
        left=float(left) if field.left >= _SIDE_COUNTS * field.radius else 0.0,
        right=float(right) if field.right >= _SIDE_COUNTS * field.radius else 0.0,
        beyond_grid=beyond,
        reach=float(np.quantile(reach, 0.999)) if reach.size else 0.0,
        field_radius=field.radius,
    )


def mean_attenuation(measurements: Tensor, geometry: CTGeometry) -> float | None:
    """Estimate the object's attenuation in 1/mm from its shadow, without reconstructing it.

    Per view, the largest line integral over the width of the shadow; for an ellipse of one
    material the geometric mean over a half turn is its attenuation.  For a head or a body it is
    water's within a factor of two.

    Returns
    -------
    float or None
        ``None`` if the object is cut off on a side or there is none.
    """
    p, chosen, threshold = _sample(measurements, geometry)
    row = int(p.mean((0, 2)).argmax())
    rows = p[:, row]
    cut = truncation(measurements, geometry)
    field = field_of_view(geometry)
    offset = min(field.left, field.right) < _SIDE_COUNTS * field.radius
    met = rows > threshold
    if not met.any() or offset or max(cut.left, cut.right) > 0.01:
        return None
    step = np.abs(np.gradient(_distance_from_axis(geometry, chosen), axis=1))
    width = (step * met).sum(1)
    views = np.flatnonzero(width > 0)
    thickest = np.array([np.quantile(rows[v][met[v]], 0.95) for v in views])
    return float(np.exp(np.log(thickest / width[views]).mean()))


def check_water(measurements: Tensor, geometry: CTGeometry, mu_water: float) -> None:
    """Refuse a scan whose object attenuates many times more, or less, than the water it should be.

    Line integrals have no unit, but lengths do: with cm taken for mm all attenuation comes out ten
    times too high.

    Parameters
    ----------
    measurements, geometry
        The scan.
    mu_water
        What 0 HU shall be, 1/mm.

    Raises
    ------
    InconsistentError
        If the estimate is off by a factor of five or more.
    """
    found = mean_attenuation(measurements, geometry)
    if found is None or 1 / _FACTOR < found / mu_water < _FACTOR:
        return
    ratio = found / mu_water
    power = round(math.log10(ratio))
    units = {1: "cm", 3: "m", -3: "µm"}
    near = abs(math.log10(ratio) - power) < 0.35 and power in units
    advice = (
        f"its lengths seem to be {units[power]}, not mm"
        if near
        else "check the unit of its lengths and mu_water_per_mm"
    )
    raise InconsistentError(
        f"The object of this scan attenuates about {found:.3g}/mm, {ratio:.2g} times as much as "
        f"the water of the protocol ({mu_water:.3g}/mm); {advice}."
    )


def _sample(measurements: Tensor, geometry: CTGeometry) -> tuple[Array, Indices, float]:
    """Take some views and rows ``(views, rows, columns)``, smoothed a little along columns.

    Also which views they are, and the line integral above which a ray meets the object: a share of
    the largest one, and no mere noise.
    """
    slices = isinstance(geometry, ParallelBeam | FanBeam)
    rows = measurements.movedim(0, 1) if slices else measurements
    views = np.unique(np.linspace(0, rows.shape[0] - 1, _VIEWS).astype(np.int64))
    kept = np.unique(np.linspace(0, rows.shape[1] - 1, _ROWS).astype(np.int64))
    part = rows[torch.from_numpy(views)][:, torch.from_numpy(kept)].double().cpu().numpy()
    # second differences are noise of 6 times the variance, averaging leaves a part of it
    second = np.diff(part, 2)
    noise = 1.4826 * float(np.median(np.abs(second))) / (6 * _SMOOTHED) ** 0.5 if second.size else 0
    smooth = uniform_filter1d(part, _SMOOTHED, mode="nearest")
    largest = float(np.quantile(smooth, 0.999))
    return smooth, views, max(_IN_SHADOW * largest, _LEAST, _SIGMAS * noise)


def _rays(geometry: CTGeometry, views: Indices) -> tuple[Array, Array]:
    """Points and directions of the middle row of some views, ``(views, columns, 3)``."""
    frame = geometry.frames()
    arrays = {f.name: getattr(frame, f.name) for f in fields(frame)}
    some: dict[str, Any] = {k: a[views] for k, a in arrays.items() if isinstance(a, np.ndarray)}
    return replace(frame, **some).rays((frame.rows - 1) / 2, np.arange(geometry.columns))


def _distance_from_axis(geometry: CTGeometry, views: Indices) -> Array:
    """Signed distance of rays from the z axis, mm, ``(views, columns)``."""
    points, towards = _rays(geometry, views)
    flat = towards[..., :2] / np.linalg.norm(towards[..., :2], axis=-1, keepdims=True)
    return np.asarray(points[..., 0] * flat[..., 1] - points[..., 1] * flat[..., 0])
