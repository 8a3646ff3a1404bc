"""Raw scans as values, made without any file: readouts of known images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.raw.scan import Encoding, RawScan, Readout
from medrecon.raw.slices import SlicePose

PATH = Path("scan.h5")
AXIAL = np.eye(3)[::-1]
"""Rows: slice, phase, read direction."""


def pose(
    height: float = 0.0,
    directions: NDArray[Any] = AXIAL,
    middle: Sequence[float] = (0.0, 0.0, 0.0),
) -> SlicePose:
    slice_dir, phase_dir, read_dir = directions.astype(float)
    return SlicePose(np.array(middle) + height * slice_dir, slice_dir, phase_dir, read_dir)


def encoding(
    matrix: tuple[int, int, int], *, oversampling: int = 1, voxel: float = 1.0, **changes: Any
) -> Encoding:
    """Encoded matrix ``(z, y, x)``, ``x`` with oversampling, of cubic voxels."""
    z, y, x = matrix
    fov = (z * voxel, y * voxel, x * voxel)
    values: dict[str, Any] = {
        "matrix": matrix,
        "fov": fov,
        "readout_fov": fov[2] / oversampling,
        "center": (z // 2, y // 2),
        "is_3d": z > 1,
    }
    return Encoding(**(values | changes))


def kspace_of(shape: Sequence[int], seed: int = 0) -> NDArray[np.complex64]:
    """Random k-space whose centre stands out, encoded axes last."""
    rng = np.random.default_rng(seed)
    kspace = rng.standard_normal((*shape, 2)) @ [1, 1j]
    kspace[..., shape[-2] // 2, shape[-1] // 2] += 30
    found: NDArray[np.complex64] = kspace.astype(np.complex64)
    return found


def lines_of(
    kspace: NDArray[np.complex64],
    lines: Iterable[int] | None = None,
    columns: slice = slice(None),
    **counters: Any,
) -> list[Readout]:
    """Readouts of one slice ``(coils, y, x)``; only the given lines, only the given columns."""
    height, width = kspace.shape[-2:]
    first = columns.start or 0
    values: dict[str, Any] = {"partition": 0, "slice": 0, "pose": pose()}
    return [
        Readout(
            data=np.ascontiguousarray(kspace[:, line, columns]),
            line=line,
            center=width // 2 - first,
            **(values | counters),
        )
        for line in (range(height) if lines is None else lines)
    ]


def scan_of(readouts: Sequence[Readout], *encodings: Encoding, **changes: Any) -> RawScan:
    return RawScan(encodings=encodings, readouts=readouts, path=PATH, **changes)
