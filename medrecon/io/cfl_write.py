"""Write an MR study as BART's files, in the conventions of :mod:`medrecon.io.cfl`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, OutputError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.geometry.trajectory import to_library
from medrecon.io.cfl_files import base_of, pair, write_pair
from medrecon.io.outputs import whole_file
from medrecon.io.sidecar import SUFFIXES, Sidecar, placement, write_sidecar
from medrecon.study import Study

_SLICE = 13


def companions(path: Path) -> tuple[Path, ...]:
    """All files that belong to ``NAME.cfl``, whether they are there or not."""
    base = base_of(path)
    stems = [base, *(base.parent / f"{base.name}_{what}" for what in ("traj", "sens"))]
    texts = [base.parent / f"{base.name}{suffix}" for suffix in SUFFIXES]
    return (*(file for stem in stems for file in pair(stem)), *texts)


def write_cfl(path: Path, study: Study) -> tuple[Path, ...]:
    """Write an MR study as BART's files, with a text file that says where the volume is.

    A stack becomes a 3D trajectory, whose samples BART takes in any order. Files of an earlier
    study of that name that this one does not have are removed.

    Parameters
    ----------
    path
        ``NAME.cfl`` or ``NAME.hdr``.
    study
        MR study with a grid. Kept are k-space, trajectory, maps, grid and noise level.

    Returns
    -------
    tuple of Path
        What was written.

    Raises
    ------
    InconsistentError
        If the study is not MR, or has no grid.
    OutputError
        If a file cannot be written.
    """
    geometry, grid = study.geometry, study.grid
    if grid is None or not isinstance(geometry, Cartesian | NonCartesian):
        raise InconsistentError("Only MR studies with a grid can be written as BART's files.")
    base = base_of(path)
    y = study.measurements.detach().resolve_conj().cpu().numpy()
    arrays = {"": _bart_kspace(y, geometry)}
    if isinstance(geometry, NonCartesian):
        arrays["_traj"] = _bart_trajectory(geometry, grid.shape)
    if study.maps is not None:
        arrays["_sens"] = _bart_maps(study.maps.cpu().numpy(), geometry.is_3d)
    sidecar = Sidecar(
        encoding="3d" if geometry.is_3d else "2d",
        matrix=grid.shape,
        noise_std=study.noise_std,
        **placement(grid),
    )
    written = []
    with ExitStack() as stack:  # renamed in the reverse order: what makes it readable comes last
        for name, array in arrays.items():
            values, header = pair(base.parent / f"{base.name}{name}")
            parts = [stack.enter_context(whole_file(file)) for file in (header, values)]
            with parts[1].open("wb") as into, parts[0].open("wb") as text:
                write_pair(into, text, array)
            written += [values, header]
        beside = base.parent / f"{base.name}.yaml"
        write_sidecar(stack.enter_context(whole_file(beside)), sidecar)
        written.append(beside)
        _remove([file for file in companions(path) if file not in written])
    return tuple(written)


def _remove(files: list[Path]) -> None:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{file} cannot be removed: {error.strerror}.") from error


def _bart_kspace(y: NDArray[Any], geometry: MRGeometry) -> NDArray[Any]:
    if isinstance(geometry, Cartesian):
        if geometry.is_3d:
            return y.transpose(3, 2, 1, 0)
        return _with_slices(y.transpose(3, 2, 1, 0)[:, :, None])
    if y.ndim == 3:  # (coils, shots, samples)
        return y.transpose(2, 1, 0)[None]
    if (
        geometry.partitions is not None
    ):  # (coils, z, shots, samples): partitions one after the other
        measured = y[:, np.flatnonzero(geometry.partitions)]
        return measured.reshape(len(y), -1, y.shape[-1]).transpose(2, 1, 0)[None]
    return _with_slices(y.transpose(3, 2, 1, 0)[None])


def _with_slices(array: NDArray[Any]) -> NDArray[Any]:
    """Move the last of five axes to BART's dimension of slices."""
    return array.reshape(*array.shape[:4], *([1] * (_SLICE - 4)), array.shape[4])


def _bart_maps(maps: NDArray[Any], is_3d: bool) -> NDArray[Any]:
    sets = maps if maps.ndim == 5 else maps[None]
    if is_3d:
        return sets.transpose(4, 3, 2, 1, 0)
    x_first = sets.transpose(4, 3, 2, 0, 1)[:, :, None]  # x, y, 1, coils, sets, z
    return x_first.reshape(*x_first.shape[:5], *([1] * (_SLICE - 5)), x_first.shape[5])


def _bart_trajectory(geometry: NonCartesian, shape: tuple[int, int, int]) -> NDArray[Any]:
    k = geometry.trajectory
    if geometry.partitions is not None:
        steps = np.flatnonzero(geometry.partitions) - len(geometry.partitions) // 2
        levels = np.broadcast_to(steps[:, None, None, None], (len(steps), *k.shape[:2], 1))
        plane = np.broadcast_to(k, (len(steps), *k.shape))
        k = np.concatenate([levels, plane], axis=-1).reshape(-1, k.shape[1], 3)
    return to_library(k, "bart", shape[3 - k.shape[-1] :])
