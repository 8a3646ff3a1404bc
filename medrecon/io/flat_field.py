"""What readers of raw counts share: the logarithm, the axis, lengths and angles by their units."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import CTGeometry
from medrecon.io.hdf5 import read_dataset
from medrecon.physics.counts import LineIntegrals, LowCounts, field_per_view, line_integrals
from medrecon.physics.rotation_centre import find_rotation_centre

_TO_MM = {
    "m": 1e3,
    "meter": 1e3,
    "metre": 1e3,
    "mm": 1.0,
    "millimeter": 1.0,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "µm": 1e-3,
    "μm": 1e-3,
}
_SURE = 30  # views from which on a span of pi or 2 pi "degrees" is no coincidence


def corrected(
    data: NDArray[Any],
    flats: NDArray[Any],
    darks: NDArray[Any],
    path: Path,
    *,
    flats_at: Sequence[float] = (),
    darks_at: Sequence[float] = (),
    policy: LowCounts = "exclude",
) -> LineIntegrals:
    """Turn counts into line integrals by flat and dark frames; tells in a warning what it mended.

    Parameters
    ----------
    data
        ``(views, rows, columns)``, counts.
    flats, darks
        ``(n, rows, columns)``; their mean serves, or where it is known when each was taken
        (``flats_at``, ``darks_at``: after how many views) what is interpolated to every view.
    path
        The file, named in errors and warnings.
    policy
        What becomes of samples without signal.

    Raises
    ------
    InconsistentError
        As :func:`medrecon.physics.counts.line_integrals`.
    """
    try:
        fields = [
            field_per_view(torch.from_numpy(frames), at or [0.0] * len(frames), len(data))
            for frames, at in ((_real(flats), flats_at), (_real(darks), darks_at))
        ]
        scan = line_integrals(torch.from_numpy(_real(data)), *fields, policy=policy)
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error
    if scan.remark:
        warnings.warn(f"{path}: {scan.remark}.", stacklevel=3)
    return scan


def slices(values: Tensor) -> Tensor:
    """Order ``(view, row, column)`` as ``(z, view, column)``."""
    return values.movedim(0, 1).contiguous()


def estimated_offset(measurements: Tensor, geometry: CTGeometry, path: Path) -> float:
    """Where the rotation axis is, as a column offset in mm; told in a warning."""
    try:
        found = find_rotation_centre(measurements, geometry)
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error
    warnings.warn(
        f"{path}: the rotation axis is estimated at column {found.column:.1f}.", stacklevel=3
    )
    return found.column_offset


def length_mm(file: Any, name: str, path: Path) -> float:
    """Read a length, not zero, with the unit of its attribute ``units``.

    Raises
    ------
    InconsistentError
        If it is no number, 0, or has no known unit.
    """
    unit = unit_of(file[name])
    values = read_dataset(file, name).reshape(-1)
    size = math.nan
    if values.size == 1 and values.dtype.kind in "iuf":
        size = float(values[0]) * _TO_MM.get(unit, math.nan)
    if not math.isfinite(size) or size == 0:
        raise InconsistentError(
            f"{path}: {name} must be one length with a unit (attribute 'units': m, mm or um)."
        )
    return size


def angles_rad(file: Any, name: str, path: Path) -> NDArray[np.float64]:
    """Read angles in the unit of their attribute ``units``; without it they are degrees.

    Raises
    ------
    InconsistentError
        If they are no finite numbers, or look like the other unit.
    """
    stored = read_dataset(file, name).reshape(-1)
    if stored.dtype.kind not in "iuf" or stored.size == 0 or not np.isfinite(stored).all():
        raise InconsistentError(f"{path}: {name} must be finite numbers.")
    angles = stored.astype(np.float64)
    unit = unit_of(file[name]) or "degrees"
    if unit.startswith("rad"):
        return angles
    if not unit.startswith("deg"):
        raise InconsistentError(f"{path}: {name} is neither in degrees nor in radians.")
    turn = float(np.ptp(angles)) / math.pi
    if angles.size > _SURE and (abs(turn - 1) < 0.05 or abs(turn - 2) < 0.05):
        raise InconsistentError(
            f"{path}: {name} spans {np.ptp(angles):.2f} degrees in {angles.size} views; it seems "
            "to be in rad (set its attribute 'units' to 'radians')."
        )
    return np.deg2rad(angles)


def unit_of(dataset: Any) -> str:
    """Return the attribute ``units`` in lower case, ``""`` where there is none."""
    unit = dataset.attrs.get("units", "")
    if isinstance(unit, np.ndarray) and unit.size == 1:
        unit = unit.reshape(-1)[0]
    return (unit.decode("utf-8", "replace") if isinstance(unit, bytes) else str(unit)).lower()


def _real(values: NDArray[Any]) -> NDArray[Any]:
    """Give counts a type that torch has, without a copy where it can be."""
    if values.dtype.kind == "u" and values.dtype.itemsize > 1:
        return values.astype(np.float32)
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))
