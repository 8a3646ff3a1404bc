"""From single readouts, as raw files hold them, to one centred Cartesian k-space.

MRD and twix readers translate their readouts into :class:`Readout` and :class:`Encoding`; the
sorting, averaging, whitening and cropping is the same and happens here, once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.calibration.prewhitening import (
    apply_to_coils,
    bandwidth_scale,
    noise_covariance,
    whitening_matrix,
)
from medrecon.errors import InconsistentError, ResourceError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import crop_or_pad, image_to_kspace, kspace_to_image
from medrecon.raw.plausible import Complex, live_coils, warn_of_spikes
from medrecon.raw.scan import MAX_BYTES, MAX_MATRIX, Encoding, NoiseScan, RawScan, Readout
from medrecon.raw.slices import slab_grid, stack_grid
from medrecon.study import Study


def check_encoding(encoding: Encoding, path: Path) -> None:
    """Refuse an encoded space that is empty, absurdly large or not finite.

    Raises
    ------
    InconsistentError
        Names what is wrong.
    """
    if not all(1 <= n <= MAX_MATRIX for n in encoding.matrix):
        raise InconsistentError(
            f"{path}: the encoded matrix (z, y, x) is {encoding.matrix}; every size must lie "
            f"between 1 and {MAX_MATRIX}."
        )
    lengths = (*encoding.fov, encoding.readout_fov)
    if not all(math.isfinite(d) and 0 < d < 10_000 for d in lengths):
        raise InconsistentError(
            f"{path}: the encoded field of view (z, y, x) is {encoding.fov} mm and "
            f"{encoding.readout_fov} mm along the reconstructed readout; both must be positive."
        )


def assemble(scan: RawScan) -> Study:
    """Sort, average, whiten and crop the readouts of a scan.

    Returns
    -------
    Study
        k-space ``(z, coils, y, x)`` or ``(coils, z, y, x)``; its noise has unit variance per
        sample where a noise scan was made (less, where readouts were averaged). Where samples
        were averaged unequally, ``weights`` counts them.

    Raises
    ------
    InconsistentError
        If readouts do not fit each other or the header.
    ResourceError
        If the k-space would not fit into memory.
    """
    path, encoding = scan.path, scan.encodings[0]
    check_encoding(encoding, path)
    if not scan.readouts:
        raise InconsistentError(f"{path} holds no imaging data (only noise or other scans).")
    _check_alike(scan.readouts, path)
    slices = sorted({readout.slice for readout in scan.readouts})
    if encoding.is_3d and len(slices) > 1:
        raise InconsistentError(f"{path} holds {len(slices)} 3D slabs; only one can be read.")
    kspace, counts, columns = _fill(scan, slices)
    coils = live_coils(np.abs(kspace).sum(axis=(0, 2, 3, 4)), path)
    kspace = kspace[:, coils]
    y = torch.from_numpy(kspace)
    if scan.noise is not None:
        y = apply_to_coils(_whitening(scan.noise, coils, kspace.shape[1], path), y, 1)
    y, columns = _take_oversampling_off(y, encoding, columns)
    return _study(scan, slices, y, counts, columns)


def _check_alike(readouts: Sequence[Readout], path: Path) -> None:
    shapes = Counter(readout.data.shape for readout in readouts)
    if len(shapes) > 1:
        (common, count), *_ = shapes.most_common()
        odd, at = next((r.data.shape, i) for i, r in enumerate(readouts) if r.data.shape != common)
        raise InconsistentError(
            f"{path}: imaging readout {at} has (coils, samples) = {odd}, {count} others have "
            f"{common}; the readouts of one image must be alike."
        )


def _fill(scan: RawScan, slices: list[int]) -> tuple[Complex, NDArray[np.intp], slice]:
    """Average all readouts into ``(slice, coil, z, y, x)``; count them; find the measured columns.

    Slice-wise data have ``z`` of size 1 here, 3D data one slice.
    """
    encoding, path = scan.encodings[0], scan.path
    depth = encoding.matrix[0] if encoding.is_3d else 1
    height, width = encoding.matrix[1:]
    coils, samples = scan.readouts[0].data.shape
    needed = len(slices) * coils * depth * height * width * 8
    if needed > MAX_BYTES:
        raise ResourceError(f"{path}: the k-space needs {needed / 2**30:.1f} GiB of memory.")
    start = _first_column(scan.readouts, samples, width, path)
    kspace: Complex = np.zeros((len(slices), coils, depth, height, width), dtype=np.complex64)
    counts = np.zeros((len(slices), depth, height), dtype=np.intp)
    place = {number: i for i, number in enumerate(slices)}
    columns = slice(start, start + samples)
    for number, readout in enumerate(scan.readouts):
        z = depth // 2 + readout.partition - encoding.center[0] if encoding.is_3d else 0
        y = height // 2 + readout.line - encoding.center[1]
        if not (0 <= z < depth and 0 <= y < height):
            raise InconsistentError(
                f"{path}: imaging readout {number} has the counters (partition, line) = "
                f"({readout.partition}, {readout.line}), outside the encoded matrix (z, y, x) = "
                f"{encoding.matrix} with its centre at {encoding.center}."
            )
        if not np.isfinite(readout.data).all():
            raise InconsistentError(
                f"{path}: imaging readout {number} (slice {readout.slice}, partition "
                f"{readout.partition}, line {readout.line}) has NaN or infinite samples; repair "
                "the file or leave that readout out."
            )
        kspace[place[readout.slice], :, z, y, columns] += readout.data
        counts[place[readout.slice], z, y] += 1
    kspace /= np.maximum(counts, 1)[:, None, :, :, None]
    return kspace, counts, columns


def _first_column(readouts: Sequence[Readout], samples: int, width: int, path: Path) -> int:
    """Column of the first sample, so that the centre sample falls on the centre of k-space."""
    centers = {readout.center for readout in readouts}
    if len(centers) > 1:
        raise InconsistentError(
            f"{path}: the readouts have different centre samples {sorted(centers)[:4]}; "
            "asymmetric echoes of both signs cannot be combined."
        )
    start = width // 2 - centers.pop()
    if start < 0 or start + samples > width:
        raise InconsistentError(
            f"{path}: readouts of {samples} samples with the centre at sample "
            f"{width // 2 - start} do not fit the encoded readout of {width} samples."
        )
    return start


def _whitening(noise: NoiseScan, coils: NDArray[np.intp], total: int, path: Path) -> Tensor:
    if len(noise.data) <= int(coils.max()):
        raise InconsistentError(
            f"{path}: the noise scan has {len(noise.data)} coils, the images have {total}."
        )
    scale = bandwidth_scale(noise.dwell, noise.imaging_dwell, noise.relative_bandwidth)
    covariance = noise_covariance(torch.from_numpy(noise.data[coils]))
    return whitening_matrix(covariance, scale)


def _take_oversampling_off(
    kspace: Tensor, encoding: Encoding, columns: slice
) -> tuple[Tensor, slice]:
    """Crop the field of view along the readout, in the image; the noise per sample stays."""
    width = encoding.matrix[2]
    kept = kept_width(encoding)
    if kept == width:
        return kspace, columns
    y = image_to_kspace(crop_or_pad(kspace_to_image(kspace, (-1,)), kept, -1), (-1,))
    # an incomplete (asymmetric) echo stays incomplete: the same share of k-space is measured
    start = max(0, math.ceil(kept // 2 + (columns.start - width // 2) * kept / width))
    stop = min(kept, math.ceil(kept // 2 + (columns.stop - width // 2) * kept / width))
    return y, slice(start, stop)


def kept_width(encoding: Encoding) -> int:
    """Columns that are left once the readout's oversampling is taken off."""
    width = encoding.matrix[2]
    return min(width, round(width * encoding.readout_fov / encoding.fov[2]))


def _study(
    scan: RawScan, slices: list[int], kspace: Tensor, counts: NDArray[np.intp], columns: slice
) -> Study:
    encoding, path = scan.encodings[0], scan.path
    width = kspace.shape[-1]
    pixel = (encoding.fov[1] / encoding.matrix[1], encoding.fov[2] / encoding.matrix[2])
    poses = {readout.slice: readout.pose for readout in reversed(scan.readouts)}
    if encoding.is_3d:
        shape = (encoding.matrix[0], encoding.matrix[1], width)
        spacing = (encoding.fov[0] / encoding.matrix[0], *pixel)
        grid = slab_grid(poses[slices[0]], shape, spacing, path)
        lines, kspace = counts[0], kspace[0]
    else:
        grid, order = stack_grid(
            [poses[s] for s in slices], (encoding.matrix[1], width), pixel, encoding.fov[0], path
        )
        kspace = kspace[order, :, 0]
        lines = _common_lines(counts[order, 0], path)
    mask = np.zeros((*lines.shape, width), dtype=bool)
    mask[..., columns] = lines[..., None] > 0
    kspace = kspace * torch.from_numpy(mask)
    warn_of_spikes(kspace.numpy(), path)
    noise_std, weights = _noise(scan, lines)
    return Study(
        measurements=kspace.contiguous(),
        geometry=Cartesian(mask=mask),
        grid=grid,
        weights=weights,
        noise_std=noise_std,
        identity=scan.identity,
        source=path,
        reference=scan.reference,
    )


def _common_lines(counts: NDArray[np.intp], path: Path) -> NDArray[np.intp]:
    odd = np.flatnonzero((counts != counts[0]).any(axis=1))
    if len(odd):
        raise InconsistentError(
            f"{path}: slice {int(odd[0])} was sampled in {int((counts[odd[0]] > 0).sum())} lines, "
            f"slice 0 in {int((counts[0] > 0).sum())}, or not as often; all slices must be sampled "
            "alike (was the scan stopped early?)."
        )
    first: NDArray[np.intp] = counts[0]
    return first


def _noise(scan: RawScan, lines: NDArray[np.intp]) -> tuple[float | None, Tensor | None]:
    """Noise level of the averaged samples, and their weights where the averages differ."""
    averages = np.unique(lines[lines > 0])
    level = 1.0 if scan.noise is not None else scan.noise_std
    if len(averages) == 1:
        return None if level is None else level / math.sqrt(int(averages[0])), None
    return level, torch.from_numpy(lines[..., None].astype(np.float32))
