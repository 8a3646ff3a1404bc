"""Cartesian readouts into their places in k-space: by line, partition and echo, averaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, ResourceError
from medrecon.raw.scan import MAX_BYTES, Complex, Encoding, Readout

_COMPLEX_BYTES = 8
_COUNT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Filled:
    """Encoded k-space.

    Parameters
    ----------
    kspace
        ``(slice, coil, z, y, x)``, zero where not measured, mean where measured several times;
        ``z`` of size 1 where it is not encoded, one slice where it is.
    counts
        How often each sample was measured, ``(slice, z, y, x)``.
    """

    kspace: Complex
    counts: NDArray[np.int32]


def check_alike(readouts: Sequence[Readout], path: Path) -> None:
    """Refuse readouts of different numbers of coils or samples, or with bad samples.

    Raises
    ------
    InconsistentError
        Names the first odd readout.
    """
    shapes = Counter(readout.data.shape for readout in readouts)
    if len(shapes) > 1:
        (common, count), *_ = shapes.most_common()
        odd, at = next((r.data.shape, i) for i, r in enumerate(readouts) if r.data.shape != common)
        raise InconsistentError(
            f"{path}: imaging readout {at} has (coils, samples) = {odd}, {count} others have "
            f"{common}; the readouts of one image must be alike."
        )
    for number, readout in enumerate(readouts):
        if not np.isfinite(readout.data).all():
            raise InconsistentError(
                f"{path}: imaging readout {number} (slice {readout.slice}, partition "
                f"{readout.partition}, line {readout.line}) has NaN or infinite samples; repair "
                "the file or leave that readout out."
            )


def coil_energy(readouts: Sequence[Readout]) -> NDArray[np.float64]:
    """Sum of magnitudes that every coil received."""
    energy: NDArray[np.float64] = np.sum(
        [np.abs(readout.data).sum(axis=1, dtype=np.float64) for readout in readouts], axis=0
    )
    return energy


def encoded_bytes(encoding: Encoding, slices: int, coils: int) -> int:
    """Memory of the encoded k-space and its counts."""
    depth = encoding.matrix[0] if encoding.is_3d else 1
    voxels = slices * depth * encoding.matrix[1] * encoding.matrix[2]
    return voxels * (coils * _COMPLEX_BYTES + _COUNT_BYTES)


def fill_kspace(
    readouts: Sequence[Readout], slices: Sequence[int], encoding: Encoding, path: Path
) -> Filled:
    """Put every readout where its counters and its centre sample say.

    The sample ``center`` of a readout goes to column ``x // 2``: an asymmetric echo leaves columns
    unmeasured at its short side, and echoes of both signs fill each other's gaps.

    Parameters
    ----------
    readouts
        Running forward, and alike.
    slices
        Counters of the slices, in the order of the result.
    encoding
        Matrix and centre.
    path
        The file, named in messages.

    Raises
    ------
    InconsistentError
        If a readout lies outside the matrix.
    ResourceError
        If the k-space would not fit into memory.
    """
    depth = encoding.matrix[0] if encoding.is_3d else 1
    height, width = encoding.matrix[1:]
    coils = readouts[0].data.shape[0]
    needed = encoded_bytes(encoding, len(slices), coils)
    if needed > MAX_BYTES:
        raise ResourceError(f"{path}: the k-space needs {needed / 2**30:.1f} GiB of memory.")
    kspace: Complex = np.zeros((len(slices), coils, depth, height, width), dtype=np.complex64)
    counts = np.zeros((len(slices), depth, height, width), dtype=np.int32)
    place = {number: i for i, number in enumerate(slices)}
    for number, readout in enumerate(readouts):
        z, y = row_of(readout, encoding, number, path)
        columns = columns_of(readout, width, path)
        kspace[place[readout.slice], :, z, y, columns] += readout.data
        counts[place[readout.slice], z, y, columns] += 1
    if counts.max() > 1:
        for plane, measured in zip(kspace, counts, strict=True):
            plane /= np.maximum(measured, 1)
    return Filled(kspace=kspace, counts=counts)


def row_of(readout: Readout, encoding: Encoding, number: int, path: Path) -> tuple[int, int]:
    """Partition and line in centred k-space.

    Raises
    ------
    InconsistentError
        If that lies outside the encoded matrix.
    """
    depth = encoding.matrix[0] if encoding.is_3d else 1
    height = encoding.matrix[1]
    z = depth // 2 + readout.partition - encoding.center[0] if encoding.is_3d else 0
    y = height // 2 + readout.line - encoding.center[1]
    if not (0 <= z < depth and 0 <= y < height):
        raise InconsistentError(
            f"{path}: imaging readout {number} has the counters (partition, line) = "
            f"({readout.partition}, {readout.line}), outside the encoded matrix (z, y, x) = "
            f"{encoding.matrix} with its centre at {encoding.center}."
        )
    return z, y


def columns_of(readout: Readout, width: int, path: Path) -> slice:
    """Columns of the samples, so that the centre sample falls on the centre of k-space.

    Raises
    ------
    InconsistentError
        If they do not fit into the encoded width.
    """
    samples = readout.data.shape[1]
    start = width // 2 - readout.center
    if start < 0 or start + samples > width:
        raise InconsistentError(
            f"{path}: readouts of {samples} samples with the centre at sample {readout.center} "
            f"do not fit the encoded readout of {width} samples."
        )
    return slice(start, start + samples)
