"""Parallel-beam projections in the DXchange layout of synchrotrons: counts, flats, darks.

The sample turns there, not the source, and neither the turning sense nor the detector's handedness
is part of the format: an image may come out mirrored.  Rows are taken as slices in their order.
"""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import ParallelBeam
from medrecon.io.hdf5 import open_hdf5, read_dataset
from medrecon.io.plausible import check_ct_study
from medrecon.io.rotation_centre import find_center
from medrecon.study import Study

_DEAD_CELLS = 0.01  # share of detector cells that may be dead
_BLOCKED = 0.05  # share of samples that may lie at or below the dark level
_PIXEL_SIZES = (
    "measurement/instrument/detector/pixel_size",
    "measurement/instrument/detector/pixel_size_x",
    "measurement/instrument/detector/x_pixel_size",
)
_TO_MM = {"m": 1e3, "mm": 1.0, "um": 1e-3, "micron": 1e-3, "microns": 1e-3, "µm": 1e-3}


def read_dxchange(
    path: Path, *, column_spacing: float | None = None, column_offset: float | None = None
) -> Study:
    """Read ``/exchange``: data, data_white, data_dark and theta.

    With the means of flats F and darks D, transmission is ``(data - D) / (F - D)`` and the
    measurement its negative logarithm; the weights are the dark-corrected counts, which are the
    detected quanta up to the detector's gain.  Samples at or below the dark level, and cells
    whose flat is, get weight 0 and the line integral of a single count; more than 5 % of such
    samples, or 1 % of such cells, are an error.

    Parameters
    ----------
    path
        The HDF5 file.
    column_spacing
        Size of a detector cell at the sample, mm; default: the file's, or 1 mm with a warning.
    column_offset
        Shift of the detector's middle from the rotation axis, mm; default: estimated by
        :func:`medrecon.io.rotation_centre.find_center`, with a warning that says it.

    Returns
    -------
    Study
        Parallel beam, ``(z, views, columns)``.

    Raises
    ------
    UnreadableError
        If the file is no DXchange file or damaged.
    InconsistentError
        If flats are missing, parts do not fit each other, or the values cannot be counts.
    """
    with open_hdf5(path) as file:
        data = _frames(file, "exchange/data", path)
        if "exchange/data_white" not in file:
            raise InconsistentError(
                f"{path}: exchange/data_white is missing; without flats counts cannot become line "
                "integrals."
            )
        flat = _frames(file, "exchange/data_white", path).mean(0)
        dark = np.zeros_like(flat)
        if "exchange/data_dark" in file:
            dark = _frames(file, "exchange/data_dark", path).mean(0)
        angles = _angles(file, path)
        spacing = column_spacing or _pixel_size(file, path)
    measurements, weights = _line_integrals(data, flat, dark, path)
    if len(angles) != measurements.shape[1]:
        raise InconsistentError(
            f"{path}: {measurements.shape[1]} projections but {len(angles)} angles in theta."
        )
    if column_offset is None:
        column_offset = _estimated_offset(measurements, angles, spacing, path)
    geometry = ParallelBeam(
        angles=angles,
        columns=measurements.shape[2],
        column_spacing=spacing,
        column_offset=column_offset,
    )
    study = Study(
        measurements=measurements, geometry=geometry, grid=None, weights=weights, source=path
    )
    return check_ct_study(study, path)


def is_dxchange(file: Any) -> bool:
    """Whether an open HDF5 file is laid out like DXchange."""
    return isinstance(file.get("exchange/data"), h5py.Dataset)


def _frames(file: Any, name: str, path: Path) -> NDArray[np.float64]:
    """Frames ``(n, rows, columns)``; a single frame may lack its first axis."""
    frames = read_dataset(file, name)
    if frames.dtype.kind not in "iuf" or frames.ndim not in (2, 3):
        raise InconsistentError(
            f"{path}: {name} must be real numbers (frame, row, column), got {frames.dtype} of "
            f"shape {frames.shape}."
        )
    return frames.reshape(-1, *frames.shape[-2:]).astype(np.float64)


def _line_integrals(
    data: NDArray[np.float64], flat: NDArray[np.float64], dark: NDArray[np.float64], path: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    if data.shape[1:] != flat.shape or flat.shape != dark.shape:
        raise InconsistentError(
            f"{path}: frames of data, flats and darks differ: {data.shape[1:]}, {flat.shape}, "
            f"{dark.shape} (rows, columns)."
        )
    if not all(np.isfinite(part).all() for part in (data, flat, dark)):
        raise InconsistentError(f"{path}: some counts are NaN or infinite.")
    full = flat - dark
    dead = full <= 0
    if dead.mean() > _DEAD_CELLS:
        raise InconsistentError(
            f"{path}: flats are not above darks in {int(dead.sum())} of {dead.size} cells; "
            "were they swapped or left out?"
        )
    counts = data - dark
    blocked = (counts <= 0) | dead
    if blocked.mean() > _BLOCKED:
        raise InconsistentError(
            f"{path}: {int(blocked.sum())} of {blocked.size} samples are not above the dark level."
        )
    # exp(-p) of a blocked sample is only known to be below one count.
    safe_full = np.where(dead, 1.0, full)
    line = np.log(safe_full) - np.log(np.where(blocked, np.minimum(1.0, safe_full), counts))
    weights = np.where(blocked, 0.0, counts)
    if blocked.any():
        warnings.warn(
            f"{path}: {int(blocked.sum())} samples at or below the dark level got weight 0.",
            stacklevel=3,
        )
    return _slices(line), _slices(weights)


def _slices(values: NDArray[np.float64]) -> torch.Tensor:
    """Order ``(view, row, column)`` as ``(z, view, column)``, float32."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(1, 0, 2), np.float32))


def _angles(file: Any, path: Path) -> tuple[float, ...]:
    theta = read_dataset(file, "exchange/theta").reshape(-1)
    if theta.dtype.kind not in "iuf" or not np.isfinite(theta).all() or theta.size == 0:
        raise InconsistentError(f"{path}: theta must be finite numbers in degrees.")
    unit = str(file["exchange/theta"].attrs.get("units", "degrees")).lower()
    if unit.startswith("rad"):
        return tuple(theta.astype(np.float64).tolist())
    turn = float(np.ptp(theta)) / math.pi
    if theta.size > 30 and (abs(turn - 1) < 0.05 or abs(turn - 2) < 0.05):
        raise InconsistentError(
            f"{path}: theta spans {np.ptp(theta):.2f} degrees in {theta.size} views; it seems to "
            "be in rad (set its attribute 'units' to 'radians')."
        )
    return tuple(np.deg2rad(theta.astype(np.float64)).tolist())


def _pixel_size(file: Any, path: Path) -> float:
    for name in _PIXEL_SIZES:
        if isinstance(file.get(name), h5py.Dataset):
            unit = str(file[name].attrs.get("units", "")).lower()
            size = float(read_dataset(file, name).reshape(-1)[0]) * _TO_MM.get(unit, math.nan)
            if not (math.isfinite(size) and size > 0):
                raise InconsistentError(f"{path}: {name} is not a positive length with a unit.")
            return size
    warnings.warn(
        f"{path} has no pixel size: a detector cell is taken as 1 mm, all lengths are relative.",
        stacklevel=3,
    )
    return 1.0


def _estimated_offset(
    measurements: torch.Tensor, angles: tuple[float, ...], spacing: float, path: Path
) -> float:
    try:
        center = find_center(measurements, angles)
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error
    warnings.warn(f"{path}: the rotation axis is estimated at column {center:.1f}.", stacklevel=3)
    return ((measurements.shape[2] - 1) / 2 - center) * spacing
