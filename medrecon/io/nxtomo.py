"""Tomography in the NeXus layout NXtomo: all frames in one stack, told apart by a key.

The sample turns there, and neither its sense nor the detector's handedness is part of the format:
an image may come out mirrored.  Detector rows are taken as slices in their order.

References
----------
NeXus application definition NXtomo, https://manual.nexusformat.org/classes/applications/NXtomo.html
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import ConeBeam, ParallelBeam
from medrecon.io.flat_field import (
    angles_rad,
    corrected,
    estimated_offset,
    length_mm,
    slices,
)
from medrecon.io.hdf5 import list_members, open_hdf5, read_dataset
from medrecon.io.plausible import check_ct_study
from medrecon.study import Study

_DATA = "instrument/detector/data"
_KEY = "instrument/detector/image_key"
_ANGLE = "sample/rotation_angle"
_SIZES = ("instrument/detector/x_pixel_size", "instrument/detector/y_pixel_size")
_SOURCE = "instrument/source/distance"
_DETECTOR = "instrument/detector/distance"
_PROJECTION, _FLAT, _DARK = 0, 1, 2
_SEEN = 0.5  # cells by which rays of one cell may part inside the sample and count as parallel


def read_nxtomo(
    path: Path,
    *,
    flat: float | None = None,
    dark: float | None = None,
    column_offset: float | None = None,
) -> Study:
    """Read the frames of ``detector/data`` by their ``image_key``: projections, flats, darks.

    Flats and darks taken at several times are interpolated to every view; frames of other keys
    (alignment, invalid) are left out.  The beam is a cone where source and detector distances are
    given and their divergence can be seen, else parallel.

    Parameters
    ----------
    path
        The HDF5 file.
    flat, dark
        Counts that stand for all cells where the file has no such frames.
    column_offset
        Shift of the detector's middle from the rotation axis, mm on the detector; default:
        estimated, with a warning that says it.

    Returns
    -------
    Study
        Parallel beam, ``(z, views, columns)``, or cone beam, ``(views, rows, columns)``.

    Raises
    ------
    UnreadableError
        If the file is no NXtomo file or damaged.
    InconsistentError
        If keys, flats or darks are missing, parts do not fit each other, angles are in another
        unit than they say, or the values cannot be counts.
    """
    with open_hdf5(path) as file:
        entry = _entry(file, path)
        keys = _keys(entry, path)
        angles = angles_rad(entry, _ANGLE, path)
        frames = _frames(entry, path)
        if not len(keys) == len(angles) == len(frames):
            raise InconsistentError(
                f"{path}: {len(frames)} frames, {len(keys)} image keys and {len(angles)} angles; "
                "they have to be as many."
            )
        cell = tuple(length_mm(entry, name, path) for name in _SIZES)
        distances = _distances(entry, path)
    scan = corrected(
        frames[keys == _PROJECTION],
        _field(frames, keys, _FLAT, flat, "flat", path),
        _field(frames, keys, _DARK, dark, "dark", path),
        path,
        flats_at=_times(keys, _FLAT),
        darks_at=_times(keys, _DARK),
    )
    geometry = _geometry(angles[keys == _PROJECTION], frames.shape[1:], cell, distances, path)
    parallel = isinstance(geometry, ParallelBeam)
    values, weights = scan.values, scan.weights
    if parallel:
        values, weights = slices(values), slices(weights)
    if column_offset is None:
        column_offset = estimated_offset(values, geometry, path)
    study = Study(
        measurements=values,
        geometry=replace(geometry, column_offset=column_offset),
        grid=None,
        weights=weights,
        source=path,
    )
    return check_ct_study(study, path)


def is_nxtomo(file: Any) -> bool:
    """Whether an open HDF5 file has an entry that is laid out like NXtomo."""
    return any(_is_entry(group) for group in file.values())


def _is_entry(group: Any) -> bool:
    return isinstance(group, h5py.Group) and all(
        isinstance(group.get(name), h5py.Dataset) for name in (_DATA, _ANGLE)
    )


def _entry(file: Any, path: Path) -> Any:
    entries = [group for group in file.values() if _is_entry(group)]
    if not entries:
        raise UnreadableError(
            f"{path} has no entry with {_DATA} and {_ANGLE}; it holds {list_members(file)}."
        )
    if len(entries) > 1:
        raise InconsistentError(
            f"{path} holds {len(entries)} scans ({list_members(file)}); split the file."
        )
    return entries[0]


def _keys(entry: Any, path: Path) -> NDArray[Any]:
    if not isinstance(entry.get(_KEY), h5py.Dataset):
        raise InconsistentError(
            f"{path}: {_KEY} is missing, so projections, flats and darks cannot be told apart."
        )
    keys = read_dataset(entry, _KEY).reshape(-1)
    if keys.dtype.kind not in "iu" or not (keys == _PROJECTION).any():
        raise InconsistentError(f"{path}: {_KEY} marks no projection (0).")
    return keys


def _frames(entry: Any, path: Path) -> NDArray[Any]:
    frames = read_dataset(entry, _DATA)
    if frames.dtype.kind not in "iuf" or frames.ndim != 3:
        raise InconsistentError(
            f"{path}: {_DATA} must be real numbers (frame, row, column), got {frames.dtype} of "
            f"shape {frames.shape}."
        )
    return frames


def _field(
    frames: NDArray[Any], keys: NDArray[Any], key: int, value: float | None, name: str, path: Path
) -> NDArray[Any]:
    found: NDArray[Any] = frames[keys == key]
    if len(found):
        return found
    if value is None:
        raise InconsistentError(
            f"{path}: no frame is marked as a {name} ({key} in {_KEY}); give the counts of a "
            f"{name} instead."
        )
    return np.full((1, *frames.shape[1:]), value, np.float32)


def _times(keys: NDArray[Any], key: int) -> tuple[float, ...]:
    """After how many projections each frame of a kind was taken."""
    before = np.cumsum(keys == _PROJECTION)
    return tuple(before[keys == key].astype(float).tolist())


def _distances(entry: Any, path: Path) -> tuple[float, float] | None:
    """Source to sample and sample to detector, mm, where the file tells both."""
    if not all(isinstance(entry.get(name), h5py.Dataset) for name in (_SOURCE, _DETECTOR)):
        return None
    # A source stands before the sample and is told with either sign.
    return abs(length_mm(entry, _SOURCE, path)), abs(length_mm(entry, _DETECTOR, path))


def _geometry(
    angles: NDArray[np.float64],
    shape: tuple[int, ...],
    cell: tuple[float, ...],
    distances: tuple[float, float] | None,
    path: Path,
) -> ParallelBeam | ConeBeam:
    rows, columns = shape
    column_spacing, row_spacing = cell
    views = tuple(angles.tolist())
    if distances is None or not _diverges(columns * column_spacing, column_spacing, distances):
        return ParallelBeam(angles=views, columns=columns, column_spacing=column_spacing)
    to_axis, beyond = distances
    try:
        return ConeBeam(
            angles=views,
            source_to_axis=to_axis,
            source_to_detector=to_axis + beyond,
            rows=rows,
            columns=columns,
            row_spacing=row_spacing,
            column_spacing=column_spacing,
        )
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error


def _diverges(width: float, cell: float, distances: tuple[float, float]) -> bool:
    """Whether the outermost ray leaves its cell on its way through the sample."""
    to_axis, beyond = distances
    magnification = (to_axis + beyond) / to_axis
    slope = width / 2 / (to_axis + beyond)
    return slope * width / magnification > _SEEN * cell
