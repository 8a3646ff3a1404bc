"""What MRD has no place for: datasets of our own beside the standard's, that others pass over.

``reference`` and ``reference_phase`` (the truth of a simulated scan), ``mask`` (where readouts are
not measured whole), ``maps``, ``weights``, ``noise_std``, and the double precision ``trajectory``
and its ``times``.
In files of several images the image's label follows the name, e.g. ``maps_contrast-2``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.io.hdf5 import read_dataset
from medrecon.study import Study

OWN = (
    "reference",
    "reference_phase",
    "mask",
    "maps",
    "weights",
    "noise_std",
    "trajectory",
    "times",
)
_CLOSE = 1e-5  # single precision of the standard's trajectory, relative to its reach

Own = Mapping[str, NDArray[Any]]


def own_name(name: str, label: str) -> str:
    """Name of the dataset of one image."""
    return f"{name}_{label}" if label else name


def own_of(study: Study) -> dict[str, NDArray[Any]]:
    """Collect what of a study must be kept in datasets of our own, by name."""
    geometry = study.geometry
    found: dict[str, NDArray[Any]] = {}
    for name in ("reference", "reference_phase", "maps", "weights"):
        value = getattr(study, name)
        if value is not None:
            found[name] = value.detach().cpu().numpy()
    if study.noise_std is not None:
        found["noise_std"] = np.array(study.noise_std)
    if isinstance(geometry, Cartesian):
        lines = geometry.mask.any(axis=-1, keepdims=True)
        if not np.array_equal(geometry.mask, np.broadcast_to(lines, geometry.mask.shape)):
            found["mask"] = geometry.mask.astype(np.uint8)
    elif isinstance(geometry, NonCartesian):
        found["trajectory"] = geometry.trajectory
    if isinstance(geometry, MRGeometry) and geometry.times is not None:
        found["times"] = geometry.times
    return found


def read_own(file: Any, group: str) -> Own:
    """Read all datasets of our own in a file; empty for files of others."""
    return {
        name: read_dataset(file, f"{group}/{name}")
        for name, member in file[group].items()
        if isinstance(member, h5py.Dataset) and name.startswith(OWN)
    }


def with_own(study: Study, own: Own, path: Path) -> Study:
    """Put in place what the datasets of our own say of a study.

    Raises
    ------
    InconsistentError
        If one does not fit the study.
    """
    for name in OWN:
        values = own.get(own_name(name, study.label))
        if values is not None:
            study = _APPLY[name](study, values, path)
    return study


def _reference(study: Study, values: NDArray[Any], path: Path) -> Study:
    shape = None if study.grid is None else study.grid.shape
    _require(values.shape == shape, "reference", values, study, path)
    return replace(study, reference=torch.from_numpy(values.astype(np.float32)))


def _reference_phase(study: Study, values: NDArray[Any], path: Path) -> Study:
    shape = None if study.grid is None else study.grid.shape
    _require(values.shape == shape, "reference_phase", values, study, path)
    return replace(study, reference_phase=torch.from_numpy(values.astype(np.float32)))


def _mask(study: Study, values: NDArray[Any], path: Path) -> Study:
    """Put in the true mask, where it does not consist of whole readouts."""
    geometry = study.geometry
    fits = isinstance(geometry, Cartesian) and values.shape[-2:] == geometry.mask.shape[-2:]
    _require(fits and values.ndim in (2, 3), "mask", values, study, path)
    assert isinstance(geometry, Cartesian)
    true = Cartesian(mask=values.astype(bool), encoded=geometry.encoded)
    size = study.measurements.shape[0 if not geometry.is_3d else 1]
    _require(values.ndim == 2 or len(values) == size, "mask", values, study, path)
    return replace(
        study,
        geometry=true,
        measurements=study.measurements * torch.from_numpy(true.samples),
    )


def _maps(study: Study, values: NDArray[Any], path: Path) -> Study:
    coils = study.measurements.shape[study.geometry.coil_axis]  # type: ignore[union-attr]
    axis = study.geometry.coil_axis  # type: ignore[union-attr]
    spatial = np.delete(np.array(values.shape[-4:]), axis) if values.ndim in (4, 5) else None
    fits = (
        spatial is not None
        and study.grid is not None
        and tuple(spatial.tolist()) == study.grid.shape
        and values.shape[-4:][axis] == coils
    )
    _require(fits, "maps", values, study, path)
    return replace(study, maps=torch.from_numpy(values.astype(np.complex64)))


def _weights(study: Study, values: NDArray[Any], path: Path) -> Study:
    try:
        fits = np.broadcast_shapes(values.shape, study.measurements.shape) == tuple(
            study.measurements.shape
        )
    except ValueError:
        fits = False
    _require(fits, "weights", values, study, path)
    return replace(study, weights=torch.from_numpy(values.astype(np.float32)))


def _noise_std(study: Study, values: NDArray[Any], path: Path) -> Study:
    _require(
        values.size == 1 and float(values.reshape(-1)[0]) > 0, "noise_std", values, study, path
    )
    return replace(study, noise_std=float(values.reshape(-1)[0]))


def _trajectory(study: Study, values: NDArray[Any], path: Path) -> Study:
    """Put in the positions in double precision; those of the standard are rounded."""
    geometry = study.geometry
    fits = isinstance(geometry, NonCartesian) and values.shape == geometry.trajectory.shape
    _require(fits, "trajectory", values, study, path)
    assert isinstance(geometry, NonCartesian)
    reach = max(1.0, *geometry.reach)
    close = bool(np.abs(values - geometry.trajectory).max() <= _CLOSE * reach)
    _require(close, "trajectory", values, study, path)
    return replace(study, geometry=replace(geometry, trajectory=values.astype(np.float64)))


def _times(study: Study, values: NDArray[Any], path: Path) -> Study:
    geometry = study.geometry
    fits = isinstance(geometry, MRGeometry) and values.shape == study.measurements.shape[-1:]
    _require(fits, "times", values, study, path)
    assert isinstance(geometry, MRGeometry)
    return replace(study, geometry=replace(geometry, times=values.astype(np.float64)))


def _require(fits: bool, name: str, values: NDArray[Any], study: Study, path: Path) -> None:
    if not fits:
        raise InconsistentError(
            f"{path}: the dataset {own_name(name, study.label)!r} of shape {values.shape} does not "
            f"fit the k-space of shape {tuple(study.measurements.shape)} beside it."
        )


_APPLY: Mapping[str, Callable[[Study, NDArray[Any], Path], Study]] = {
    "reference": _reference,
    "reference_phase": _reference_phase,
    "mask": _mask,
    "maps": _maps,
    "weights": _weights,
    "noise_std": _noise_std,
    "trajectory": _trajectory,
    "times": _times,
}
