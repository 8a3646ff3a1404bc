"""Our own measurement file: one HDF5 file that says everything about a scan.

The layout is documented in docs/file-formats.md ("medrecon-study").  It holds CT
projections with their full geometry, or Cartesian k-space with its mask, so that simulated scans
carry their truth and measured ones need no second file.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian, CTGeometry, MRGeometry, NonCartesian
from medrecon.grid import Grid, Triple
from medrecon.io.hdf5 import open_hdf5, read_dataset
from medrecon.io.outputs import whole_file
from medrecon.io.plausible import check_ct_study, require_finite
from medrecon.io.stored_geometry import (
    needed_version,
    number,
    numbers,
    read_geometry,
    write_geometry,
)
from medrecon.study import Identity, Study

FORMAT = "medrecon-study"
VERSION = 2
"""The newest version this reader knows; a file has the oldest that says what it holds."""
_KEYWORD = re.compile(r"[A-Z][A-Za-z0-9]{1,63}")  # a DICOM keyword, nothing else


def write_projections(path: Path, study: Study, *, photons: float | None = None) -> None:
    """Write a study with its full geometry, whole or not at all.

    Parameters
    ----------
    path
        The HDF5 file to make.
    study
        What to write. Identity attributes are written as they are given: leave out what must not
        be shared.
    photons
        CT: unattenuated quanta per detector cell and view. If the study has no weights, a reader
        gets ``photons * exp(-measurements)``, the expected number of detected quanta.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with whole_file(path) as part, h5py.File(part, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = _version(study.geometry)
        file.attrs["simulated"] = study.identity.simulated
        measurements = file.create_dataset("measurements", data=_numpy(study.measurements))
        measurements.attrs["unit"] = "line integral" if study.modality == "CT" else "arbitrary"
        if photons is not None:
            measurements.attrs["photons"] = float(photons)
        if study.mu_water is not None:
            file.attrs["mu_water_per_mm"] = float(study.mu_water)
        if study.noise_std is not None:
            measurements.attrs["noise_std"] = float(study.noise_std)
        if study.weights is not None:
            file.create_dataset("weights", data=_numpy(study.weights))
        if study.reference is not None:
            reference = file.create_dataset(
                "reference", data=_numpy(study.reference), compression="gzip", shuffle=True
            )
            reference.attrs["unit"] = "HU" if study.modality == "CT" else "arbitrary"
        _write_geometry(file.create_group("geometry"), study.geometry)
        if study.grid is not None:
            _write_grid(file.create_group("grid"), study.grid)
        file.attrs["isocenter_mm"] = study.isocenter
        _write_identity(file.create_group("identity"), study.identity)


def read_projections(path: Path) -> Study:
    """Read a file that :func:`write_projections`, or anybody who follows its layout, wrote.

    Parameters
    ----------
    path
        The HDF5 file.

    Returns
    -------
    Study
        CT: float32 line integrals; MR: complex64 k-space.

    Raises
    ------
    UnreadableError
        If the file is not of this format, of a newer version, or incomplete.
    InconsistentError
        If its parts do not fit each other or physics.
    """
    with open_hdf5(path) as file:
        _check_version(file, path)
        geometry = _read_geometry(file, path)
        kind = np.complex64 if isinstance(geometry, Cartesian) else np.float32
        stored = read_dataset(file, "measurements")
        if stored.dtype.kind != np.dtype(kind).kind:
            raise InconsistentError(f"{path}: measurements are {stored.dtype}, expected {kind}.")
        measurements = torch.from_numpy(stored.astype(kind))
        notes = file["measurements"].attrs
        study = Study(
            measurements=measurements,
            geometry=geometry,
            grid=_read_grid(file["grid"], path) if "grid" in file else None,
            weights=_read_weights(file, measurements, path),
            noise_std=number(notes, "noise_std", path) if "noise_std" in notes else None,
            identity=_read_identity(file, path),
            source=path,
            isocenter=_read_isocenter(file, path),
            reference=_read_real(file, "reference") if "reference" in file else None,
            mu_water=_read_mu_water(file, path),
        )
    return _checked(study, path)


def is_projections(file: Any) -> bool:
    """Whether an open HDF5 file says it is of this format."""
    return bool(file.attrs.get("format") == FORMAT)


def _version(geometry: CTGeometry | MRGeometry) -> int:
    return 1 if isinstance(geometry, MRGeometry) else needed_version(geometry)


def _numpy(values: Tensor) -> Any:
    values = values.detach().cpu()
    return values.to(torch.complex64 if values.is_complex() else torch.float32).numpy()


def _write_geometry(group: Any, geometry: CTGeometry | MRGeometry) -> None:
    if isinstance(geometry, NonCartesian):
        raise InconsistentError("Non-Cartesian MR studies are written as MRD, not in this layout.")
    if isinstance(geometry, Cartesian):
        group.attrs["kind"] = "cartesian"
        group.create_dataset("mask", data=geometry.mask, compression="gzip")
    else:
        write_geometry(group, geometry)


def _write_grid(group: Any, grid: Grid) -> None:
    group.attrs["shape"] = grid.shape
    group.attrs["spacing_mm"] = grid.spacing
    group.attrs["origin_mm"] = grid.origin
    group.attrs["directions"] = np.array(grid.directions)


def _write_identity(group: Any, identity: Identity) -> None:
    group.attrs["frame_of_reference_uid"] = identity.frame_of_reference_uid
    attributes = group.create_group("attributes")
    for keyword, value in identity.attributes.items():
        attributes.attrs[keyword] = value


def _check_version(file: Any, path: Path) -> None:
    if not is_projections(file):
        raise UnreadableError(f"{path} is HDF5 but no {FORMAT} file (attribute 'format').")
    version = number(file.attrs, "version", path)
    if version > VERSION:
        raise UnreadableError(
            f"{path} was written by a newer medrecon ({FORMAT} version {version:g}, this one reads "
            f"{VERSION}); update medrecon."
        )


def _read_geometry(file: Any, path: Path) -> CTGeometry | Cartesian:
    if not isinstance(file.get("geometry"), h5py.Group):
        raise UnreadableError(f"{path}: the group 'geometry' is missing.")
    group = file["geometry"]
    try:
        if group.attrs.get("kind") == "cartesian":
            return Cartesian(mask=read_dataset(group, "mask").astype(np.bool_))
        return read_geometry(group, path)
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error


def _read_grid(group: Any, path: Path) -> Grid:
    parts = {
        name: numbers(group.attrs, name, path) for name in ("shape", "spacing_mm", "origin_mm")
    }
    axes = numbers(group.attrs, "directions", path)
    if axes.shape != (3, 3) or any(part.shape != (3,) for part in parts.values()):
        raise InconsistentError(f"{path}: the grid needs three numbers per attribute.")
    try:
        return Grid(
            shape=tuple(int(n) for n in parts["shape"]),  # type: ignore[arg-type]
            spacing=tuple(parts["spacing_mm"].tolist()),
            origin=tuple(parts["origin_mm"].tolist()),
            directions=tuple(tuple(axis) for axis in axes.tolist()),  # type: ignore[arg-type]
        )
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error


def _read_weights(file: Any, measurements: Tensor, path: Path) -> Tensor | None:
    notes = file["measurements"].attrs
    if "weights" in file:
        return _read_real(file, "weights")
    if "photons" in notes and not measurements.is_complex():
        return number(notes, "photons", path) * torch.exp(-measurements)
    return None


def _read_identity(file: Any, path: Path) -> Identity:
    attributes: dict[str, str] = {}
    frame = ""
    if isinstance(file.get("identity"), h5py.Group):
        group = file["identity"]
        frame = str(group.attrs.get("frame_of_reference_uid", ""))
        stored = group["attributes"].attrs if "attributes" in group else {}
        for keyword, value in stored.items():
            if not (_KEYWORD.fullmatch(keyword) and isinstance(value, str) and len(value) <= 1024):
                raise InconsistentError(
                    f"{path}: an identity attribute is no DICOM keyword with a short text."
                )
            attributes[keyword] = value
    return Identity(
        attributes=MappingProxyType(attributes),
        frame_of_reference_uid=frame,
        simulated=bool(file.attrs.get("simulated", False)),
    )


def _read_isocenter(file: Any, path: Path) -> Triple:
    if "isocenter_mm" not in file.attrs:
        return (0.0, 0.0, 0.0)
    values = numbers(file.attrs, "isocenter_mm", path).astype(np.float64).reshape(-1)
    if values.size != 3 or not np.isfinite(values).all():
        raise InconsistentError(f"{path}: isocenter_mm must be three finite numbers, LPS in mm.")
    x, y, z = values.tolist()
    return (x, y, z)


def _read_mu_water(file: Any, path: Path) -> float | None:
    if "mu_water_per_mm" not in file.attrs:
        return None
    value = number(file.attrs, "mu_water_per_mm", path)
    if not (math.isfinite(value) and value > 0):
        raise InconsistentError(f"{path}: mu_water_per_mm must be positive, got {value}.")
    return value


def _read_real(file: Any, name: str) -> Tensor:
    return torch.from_numpy(read_dataset(file, name).astype(np.float32))


def _checked(study: Study, path: Path) -> Study:
    grid, reference = study.grid, study.reference
    if reference is not None and grid is not None and tuple(reference.shape) != grid.shape:
        raise InconsistentError(
            f"{path}: the reference has shape {tuple(reference.shape)}, the grid {grid.shape}."
        )
    if study.modality == "CT":
        return check_ct_study(study, path)
    mask = study.geometry.mask  # type: ignore[union-attr]
    y = study.measurements
    if y.ndim != 4 or tuple(y.shape[-mask.ndim :]) != mask.shape:
        raise InconsistentError(
            f"{path}: k-space of shape {tuple(y.shape)} does not fit a mask of shape {mask.shape}."
        )
    require_finite(torch.view_as_real(y), path, "k-space samples")
    return study
