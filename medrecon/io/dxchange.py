"""Parallel-beam projections in the DXchange layout of synchrotrons: counts, flats, darks.

The sample turns there, not the source, and neither the turning sense nor the detector's handedness
is part of the format: an image may come out mirrored.  Rows are taken as slices in their order.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import ParallelBeam
from medrecon.io.flat_field import angles_rad, corrected, estimated_offset, length_mm, slices
from medrecon.io.hdf5 import open_hdf5, read_dataset
from medrecon.io.plausible import check_ct_study
from medrecon.study import Study

_PIXEL_SIZES = (
    "measurement/instrument/detector/pixel_size",
    "measurement/instrument/detector/pixel_size_x",
    "measurement/instrument/detector/x_pixel_size",
)


def read_dxchange(
    path: Path, *, column_spacing: float | None = None, column_offset: float | None = None
) -> Study:
    """Read ``/exchange``: data, data_white, data_dark and theta.

    With the means of flats F and darks D, transmission is ``(data - D) / (F - D)`` and the
    measurement its negative logarithm; the weights are the dark-corrected counts, which are the
    detected quanta up to the detector's gain.  What happens to samples at or below the dark level
    is told in :func:`medrecon.physics.counts.line_integrals`.

    Parameters
    ----------
    path
        The HDF5 file.
    column_spacing
        Size of a detector cell at the sample, mm; default: the file's, or 1 mm with a warning.
    column_offset
        Shift of the detector's middle from the rotation axis, mm; default: estimated by
        :func:`medrecon.physics.rotation_centre.find_rotation_centre`, with a warning that says it.

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
        flats = _frames(file, "exchange/data_white", path)
        darks = np.zeros((1, *flats.shape[1:]), np.float32)
        if "exchange/data_dark" in file:
            darks = _frames(file, "exchange/data_dark", path)
        angles = angles_rad(file, "exchange/theta", path)
        spacing = column_spacing or _pixel_size(file, path)
    scan = corrected(data, flats, darks, path)
    if len(angles) != len(data):
        raise InconsistentError(
            f"{path}: {len(data)} projections but {len(angles)} angles in theta."
        )
    geometry = ParallelBeam(
        angles=tuple(angles.tolist()), columns=data.shape[2], column_spacing=spacing
    )
    measurements = slices(scan.values)
    if column_offset is None:
        column_offset = estimated_offset(measurements, geometry, path)
    study = Study(
        measurements=measurements,
        geometry=replace(geometry, column_offset=column_offset),
        grid=None,
        weights=slices(scan.weights),
        source=path,
    )
    return check_ct_study(study, path)


def is_dxchange(file: Any) -> bool:
    """Whether an open HDF5 file is laid out like DXchange."""
    return isinstance(file.get("exchange/data"), h5py.Dataset)


def _frames(file: Any, name: str, path: Path) -> NDArray[Any]:
    """Frames ``(n, rows, columns)``; a single frame may lack its first axis."""
    frames = read_dataset(file, name)
    if frames.dtype.kind not in "iuf" or frames.ndim not in (2, 3):
        raise InconsistentError(
            f"{path}: {name} must be real numbers (frame, row, column), got {frames.dtype} of "
            f"shape {frames.shape}."
        )
    return frames.reshape(-1, *frames.shape[-2:])


def _pixel_size(file: Any, path: Path) -> float:
    for name in _PIXEL_SIZES:
        if isinstance(file.get(name), h5py.Dataset):
            size = length_mm(file, name, path)
            if size < 0:
                raise InconsistentError(f"{path}: {name} is not positive.")
            return size
    warnings.warn(
        f"{path} has no pixel size: a detector cell is taken as 1 mm, all lengths are relative.",
        stacklevel=3,
    )
    return 1.0
