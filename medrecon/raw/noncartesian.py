"""One image of radial, spiral or other readouts: stacked, whitened, placed.

Nothing is cropped here: a spoke's oversampling tells what lies outside the wanted field of view
apart from what lies in it, and is kept. The grid covers the wanted field of view; positions, which
raw scans give in cycles per *encoded* field of view, become cycles per field of view of the grid.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import ResourceError
from medrecon.geometry import NonCartesian
from medrecon.grid import Triple
from medrecon.raw.calibration import calibration_kspace
from medrecon.raw.facts import common_facts
from medrecon.raw.fill import coil_energy
from medrecon.raw.images import Image
from medrecon.raw.pattern import noise_level
from medrecon.raw.place import grid_of
from medrecon.raw.plausible import live_coils
from medrecon.raw.scan import MAX_BYTES, Encoding, RawScan
from medrecon.raw.shots import shots_of
from medrecon.raw.timing import identity_of_image, sample_times
from medrecon.raw.whitening import coils_of
from medrecon.study import Study

_COMPLEX_BYTES = 8
_EDGE = 0.51  # the grid tells positions apart up to half its size


def noncartesian_study(scan: RawScan, image: Image) -> Study:
    """Make the study of one image.

    Returns
    -------
    Study
        ``(z, coils, shots, samples)`` slice-wise, ``(coils, z, shots, samples)`` for a stack,
        ``(coils, shots, samples)`` for a 3D trajectory.

    Raises
    ------
    InconsistentError
        If readouts lack positions, or the shots of slices or partitions are not alike.
    ResourceError
        If the measurements would not fit into memory.
    """
    path, encoding = scan.path, image.encoding
    readouts = image.readouts
    live = live_coils(coil_energy(readouts), path)
    shots = shots_of(image, path)
    kept = kept_fov(encoding)
    scale = np.array(kept) / np.array(encoding.fov)
    positions = shots.trajectory * scale[3 - shots.trajectory.shape[-1] :]
    shape = _shape(encoding, kept, positions, len(image.slices))
    voxel = (
        kept[0] / shape[0] if encoding.is_3d else encoding.fov[0],
        kept[1] / shape[1],
        kept[2] / shape[2],
    )
    grid, order = grid_of(image, shape, voxel, path)
    planes = shape[0] if shots.is_stack else 1
    samples = _samples(planes, readouts[0].data.shape[0], shots.trajectory.shape, scan)
    measured = np.zeros(planes, dtype=bool)
    for number, partition in shots.planes:
        plane = partition if encoding.is_3d else order.index(number)
        samples[plane] = shots.mean((number, partition))
        measured[plane] = True
    coils = coils_of(scan, readouts, live)
    y = coils.apply(samples, 1)
    if encoding.is_3d:
        y = y.transpose(0, 1) if shots.is_stack else y[0]
    geometry = NonCartesian(
        trajectory=positions,
        partitions=measured if shots.is_stack and encoding.is_3d else None,
        times=sample_times(scan, image, positions.shape[1], readouts[0].center),
    )
    facts = common_facts(scan, image, grid, order, coils)
    return Study(
        measurements=y.contiguous(),
        geometry=geometry,
        grid=grid,
        noise_std=noise_level(scan, shots.averages),
        identity=identity_of_image(scan, image),
        source=path,
        reference=scan.reference,
        label=image.label,
        calibration=calibration_kspace(scan, image, order, grid, coils),
        facts=MappingProxyType(facts | _facts(geometry, shots.averages, kept)),
    )


def kept_fov(encoding: Encoding) -> Triple:
    """Field of view (z, y, x) of the grid, mm: the wanted one, never more than was encoded."""
    wanted = encoding.recon_fov or (encoding.fov[0], encoding.fov[1], encoding.readout_fov)
    _, y, x = (min(w, e) for w, e in zip(wanted, encoding.fov, strict=True))
    return (encoding.fov[0], y, x)


def _shape(
    encoding: Encoding, kept: Triple, positions: NDArray[np.float64], slices: int
) -> tuple[int, int, int]:
    """Voxels of the measured resolution; more where the trajectory reaches beyond the matrix."""
    sizes = [
        max(1, round(n * k / f))
        for n, k, f in zip(encoding.matrix, kept, encoding.fov, strict=True)
    ]
    reach = np.abs(positions).max(axis=(0, 1))
    for axis, r in zip(range(3 - len(reach), 3), reach, strict=True):
        sizes[axis] = max(sizes[axis], 2 * math.ceil(float(r) - _EDGE))
    z, y, x = sizes
    return (z if encoding.is_3d else slices, y, x)


def _samples(
    planes: int, coils: int, shape: tuple[int, ...], scan: RawScan
) -> NDArray[np.complex64]:
    needed = planes * coils * shape[0] * shape[1] * _COMPLEX_BYTES
    if needed > MAX_BYTES:
        raise ResourceError(
            f"{scan.path}: the measurements need {needed / 2**30:.1f} GiB of memory."
        )
    return np.zeros((planes, coils, *shape[:2]), dtype=np.complex64)


def _facts(geometry: NonCartesian, averages: int, kept: Triple) -> dict[str, Any]:
    return {
        "shots": geometry.shots,
        "samples_per_shot": geometry.samples_per_shot,
        "reach": [round(r, 3) for r in geometry.reach],
        "averages": averages,
        "kept_fov_mm": [round(d, 4) for d in kept],
        **(
            {}
            if geometry.partitions is None
            else {"partitions": f"{int(geometry.partitions.sum())} of {len(geometry.partitions)}"}
        ),
    }
