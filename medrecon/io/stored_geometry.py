"""Every CT geometry as an HDF5 group and back: the part of medrecon-study that knows scanners.

A field with one entry per view is a dataset, a length or a count an attribute; the layout is
documented in docs/file-formats.md.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import (
    ConeBeam,
    ConeVectors,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    ParallelVectors,
)
from medrecon.io.hdf5 import read_dataset

KINDS: dict[str, Any] = {
    "parallel": ParallelBeam,
    "parallel3d": ParallelBeam3D,
    "fan": FanBeam,
    "cone": ConeBeam,
    "cone_vectors": ConeVectors,
    "parallel_vectors": ParallelVectors,
}
"""Value of the attribute ``kind`` and the geometry it means."""

_FIRST_VERSION = frozenset({"parallel", "fan", "cone"})
_COUNTS = ("rows", "columns")
_LENGTHS = (
    "source_to_axis",
    "source_to_detector",
    "row_spacing",
    "column_spacing",
    "row_offset",
    "column_offset",
)
_RADIUS = "detector_radius"
# Field, dataset, numbers per view.
_PER_VIEW = (
    ("angles", "angles_rad", 1),
    ("heights", "heights_mm", 1),
    ("focal_shifts", "focal_shifts_mm", 3),
    ("sources", "sources_mm", 3),
    ("directions", "directions", 3),
    ("detectors", "detectors_mm", 3),
    ("column_steps", "column_steps_mm", 3),
    ("row_steps", "row_steps_mm", 3),
)
_OPTIONAL = frozenset({"heights", "focal_shifts"})


def needed_version(geometry: CTGeometry) -> int:
    """Oldest version of medrecon-study whose readers understand the geometry."""
    bent = math.isfinite(getattr(geometry, _RADIUS, math.inf))
    moving = any(getattr(geometry, name, ()) for name in _OPTIONAL)
    return 1 if _kind(geometry) in _FIRST_VERSION and not (bent or moving) else 2


def write_geometry(group: Any, geometry: CTGeometry) -> None:
    """Store a geometry in an empty HDF5 group."""
    group.attrs["kind"] = _kind(geometry)
    for name, dataset, _ in _PER_VIEW:
        values = getattr(geometry, name, ())
        if len(values):
            group.create_dataset(dataset, data=np.array(values, np.float64))
    for name in _COUNTS:
        if hasattr(geometry, name):
            group.attrs[name] = int(getattr(geometry, name))
    for name in _LENGTHS:
        if hasattr(geometry, name):
            group.attrs[f"{name}_mm"] = float(getattr(geometry, name))
    radius = getattr(geometry, _RADIUS, math.inf)
    if math.isfinite(radius):
        group.attrs[f"{_RADIUS}_mm"] = float(radius)


def read_geometry(group: Any, path: Path) -> CTGeometry:
    """Read what :func:`write_geometry` stored.

    Raises
    ------
    UnreadableError
        If the kind is unknown or a part is missing.
    InconsistentError
        If the parts are no geometry; the message lacks the file.
    """
    kind = group.attrs.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        known = ", ".join([*KINDS, "cartesian"])
        raise UnreadableError(f"{path}: unknown geometry kind {kind!r}; known are {known}.")
    wanted = KINDS[kind].__dataclass_fields__
    values: dict[str, Any] = {
        name: _per_view(group, dataset, width)
        for name, dataset, width in _PER_VIEW
        if name in wanted and not (name in _OPTIONAL and dataset not in group)
    }
    values |= {n: int(number(group.attrs, n, path)) for n in _COUNTS if n in wanted}
    values |= {n: number(group.attrs, f"{n}_mm", path) for n in _LENGTHS if n in wanted}
    if _RADIUS in wanted and f"{_RADIUS}_mm" in group.attrs:
        values[_RADIUS] = number(group.attrs, f"{_RADIUS}_mm", path)
    geometry: CTGeometry = KINDS[kind](**values)
    return geometry


def number(notes: Any, name: str, path: Path) -> float:
    """One number of HDF5 attributes, or a sentence that names it."""
    value = numbers(notes, name, path)
    if value.size != 1:
        raise UnreadableError(f"{path}: attribute {name!r} must be one number.")
    return float(value.reshape(-1)[0])


def numbers(notes: Any, name: str, path: Path) -> Any:
    """Return an attribute that is an array of numbers, or a sentence that names it."""
    if name not in notes:
        raise UnreadableError(f"{path}: attribute {name!r} is missing; see docs/file-formats.md.")
    value = np.asarray(notes[name])
    if value.dtype.kind not in "iufb":
        raise UnreadableError(f"{path}: attribute {name!r} must be numbers, is {value.dtype}.")
    return value


def _kind(geometry: CTGeometry) -> str:
    return next(kind for kind, known in KINDS.items() if type(geometry) is known)


def _per_view(group: Any, name: str, width: int) -> tuple[Any, ...]:
    values = read_dataset(group, name)
    shape_fits = values.ndim == 1 if width == 1 else values.ndim == 2 and values.shape[1] == width
    if not shape_fits or values.dtype.kind not in "fiu":
        words = "one list of numbers" if width == 1 else f"{width} numbers per view"
        raise InconsistentError(f"{name} must be {words}, got shape {values.shape}.")
    listed = values.astype(np.float64).tolist()
    return tuple(listed) if width == 1 else tuple(tuple(row) for row in listed)
