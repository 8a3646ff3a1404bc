"""Write MR studies as an MRD (ISMRMRD, version 1) file that any MRD reader can take.

What the standard has no place for stands beside it, see :mod:`medrecon.io.mrd_own`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
from ismrmrd import xsd
from ismrmrd.hdf5 import acquisition_dtype
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.grid import Grid
from medrecon.io.mrd_counters import counters_of, first_slices
from medrecon.io.mrd_own import own_name, own_of
from medrecon.io.mrd_write_header import VERSION, Space, calibration_space, header_of, space_of
from medrecon.io.outputs import whole_file
from medrecon.raw.images import PARTS, labels_of
from medrecon.raw.slices import slice_center
from medrecon.study import Study

_MOST = 65_535  # the standard counts in 16 bits
Complex = NDArray[np.complex64]


def write_ismrmrd(path: Path, studies: Study | Sequence[Study]) -> None:
    """Write MR studies into one file, whole or not at all.

    Parameters
    ----------
    path
        Output file; replaced if it is there.
    studies
        One study, or several whose labels tell them apart (``"contrast-2_repetition-1"``; see
        :func:`medrecon.raw.assemble.assemble`). Several without labels become repetitions.

    Raises
    ------
    InconsistentError
        If a study is not MR, has no grid, or the labels do not tell them apart.
    OutputError
        If the file cannot be written.
    """
    chosen = [studies] if isinstance(studies, Study) else list(studies)
    if not chosen or not all(
        isinstance(study.geometry, MRGeometry) and study.grid is not None for study in chosen
    ):
        raise InconsistentError("Only MR studies with a grid can be written as MRD.")
    counters = counters_of(chosen)
    spaces = _spaces(chosen, counters)
    starts = first_slices(chosen, counters)
    tables = [
        _table(study, own, start, spaces)
        for study, own, start in zip(chosen, counters, starts, strict=True)
    ]
    table = np.concatenate(tables)
    table["head"]["scan_counter"] = np.arange(len(table))
    table["head"]["flags"][-1] |= np.uint64(_flag(ismrmrd.ACQ_LAST_IN_MEASUREMENT))
    levels = {study.noise_std for study in chosen}
    noise_std = levels.pop() if len(levels) == 1 else None
    text = xsd.ToXML(header_of(chosen, counters, spaces, noise_std)).encode()
    with whole_file(path) as part, h5py.File(part, "w") as file:
        group = file.create_group("dataset")
        group.create_dataset("xml", data=np.array([text], dtype=object), dtype=h5py.string_dtype())
        group.create_dataset("data", data=table)
        for study, label in zip(chosen, labels_of(counters), strict=True):
            for name, values in own_of(study).items():
                if name != "noise_std" or noise_std is None:
                    group.create_dataset(own_name(name, label), data=values)


def _spaces(studies: Sequence[Study], counters: Sequence[Mapping[str, int]]) -> list[Space]:
    """Collect the encoded spaces of the file; those of calibration scans beside trajectories last.

    Raises
    ------
    InconsistentError
        If studies that share an encoding by their labels are encoded differently.
    """
    spaces: dict[int, Space] = {}
    for study, own in zip(studies, counters, strict=True):
        reference, space = own.get("encoding", 1) - 1, space_of(study)
        if spaces.setdefault(reference, space) != space:
            raise InconsistentError(
                f"The study {study.label!r} has another matrix, field of view or trajectory than "
                "the others; its label must count an encoding of its own ('encoding-2')."
            )
    filler = next(iter(spaces.values()))
    found = [spaces.get(i, filler) for i in range(max(spaces) + 1)]
    for study in studies:
        space = calibration_space(study)
        if study.calibration is not None and space not in found:
            found.append(space)
    return found


def _table(
    study: Study, counters: Mapping[str, int], first_slice: int, spaces: Sequence[Space]
) -> NDArray[np.void]:
    """All rows of one study: its calibration scan, then its image."""
    geometry, grid = study.geometry, study.grid
    assert isinstance(geometry, MRGeometry)
    assert grid is not None
    samples = study.measurements.detach().cpu().numpy().astype(np.complex64)
    if isinstance(geometry, Cartesian):
        parts = [_lines(samples, _measured_lines(geometry, len(samples)), geometry.is_3d, grid)]
    else:
        parts = [_shots(samples, geometry, grid)]
    parts[0]["head"]["encoding_space_ref"] = own_reference = counters.get("encoding", 1) - 1
    if study.calibration is not None:
        kspace = study.calibration.detach().cpu().numpy().astype(np.complex64)
        coil = geometry.coil_axis
        lines = (kspace != 0).any(axis=(coil, 3))
        rows = _lines(kspace, lines, geometry.is_3d, grid)
        rows["head"]["flags"] = _flag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
        if not isinstance(geometry, Cartesian):
            rows["head"]["encoding_space_ref"] = spaces.index(calibration_space(study))
        else:
            rows["head"]["encoding_space_ref"] = own_reference
        parts.insert(0, rows)
    table: NDArray[np.void] = np.concatenate(parts)
    head = table["head"]
    for name, value in counters.items():
        if name != "encoding" and name not in PARTS:
            head["idx"][name] = value - 1
    head["idx"]["slice"] += np.uint16(first_slice)
    return table


def _measured_lines(geometry: Cartesian, slices: int) -> NDArray[np.bool_]:
    """Which lines were measured, ``(z, y)``."""
    lines: NDArray[np.bool_] = np.asarray(geometry.mask.any(axis=-1))
    return lines if lines.ndim == 2 else np.broadcast_to(lines, (slices, len(lines)))


def _lines(kspace: Complex, lines: NDArray[np.bool_], is_3d: bool, grid: Grid) -> NDArray[np.void]:
    """One row per slice (or partition) and measured line."""
    planes = kspace.swapaxes(0, 1) if is_3d else kspace  # (z, coils, y, x)
    where = np.argwhere(lines)
    table = _rows([planes[z, :, y] for z, y in where], where[:, 0], is_3d, grid)
    table["head"]["center_sample"] = grid.shape[2] // 2
    table["head"]["idx"]["kspace_encode_step_1"] = where[:, 1]
    return table


def _shots(samples: Complex, geometry: NonCartesian, grid: Grid) -> NDArray[np.void]:
    """One row per slice (or measured partition) and shot."""
    if geometry.is_3d and not geometry.is_stack:
        planes, chosen = samples[None], np.zeros(1, dtype=int)
    elif geometry.partitions is not None:
        planes, chosen = samples.swapaxes(0, 1), np.flatnonzero(geometry.partitions)
    else:
        planes, chosen = samples, np.arange(len(samples))
    where = np.array([(z, shot) for z in chosen for shot in range(geometry.shots)])
    data = [planes[z, :, shot] for z, shot in where]
    table = _rows(data, where[:, 0], geometry.is_3d, grid)
    head, k = table["head"], geometry.trajectory
    if geometry.samples_per_shot > _MOST:
        raise InconsistentError(f"MRD readouts end at {_MOST} samples.")
    head["idx"]["kspace_encode_step_1"] = where[:, 1] % (_MOST + 1)
    head["idx"]["segment"] = where[:, 1] // (_MOST + 1)
    head["trajectory_dimensions"] = k.shape[-1]
    head["center_sample"] = int(np.argmin((k[0] ** 2).sum(axis=-1)))
    if geometry.times is not None and geometry.samples_per_shot > 1:
        head["sample_time_us"] = float(np.diff(geometry.times).mean()) * 1e6
    for row, (_, shot) in enumerate(where):
        table["traj"][row] = k[shot, :, ::-1].astype(np.float32).reshape(-1)
    return table


def _rows(
    data: Sequence[Complex], z: NDArray[np.intp], is_3d: bool, grid: Grid
) -> NDArray[np.void]:
    """Rows with samples and pose; ``z`` is the slice, or the partition of a slab."""
    table = np.zeros(len(data), dtype=acquisition_dtype)
    head = table["head"]
    head["version"] = VERSION
    head["number_of_samples"] = data[0].shape[1]
    head["available_channels"] = head["active_channels"] = data[0].shape[0]
    head["idx"]["kspace_encode_step_2" if is_3d else "slice"] = z
    for name, axis in zip(("slice_dir", "phase_dir", "read_dir"), grid.directions, strict=True):
        head[name] = axis
    # the position of a slab is its middle; of a slice, its own
    places = [grid.shape[0] // 2] * grid.shape[0] if is_3d else range(grid.shape[0])
    head["position"] = np.stack([slice_center(grid, place) for place in places])[z]
    empty: NDArray[Any] = np.zeros(0, dtype=np.float32)
    for row, samples in enumerate(data):
        table["data"][row] = np.ascontiguousarray(samples).view(np.float32).reshape(-1)
        table["traj"][row] = empty
    return table


def _flag(number: int) -> int:
    return 1 << (number - 1)
