"""What was seen of an acquisition and done to it, in plain values for ``info`` and the record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.grid import Grid
from medrecon.raw.acceleration import acceleration_facts
from medrecon.raw.encoding import kept_width, voxel_size
from medrecon.raw.images import Image
from medrecon.raw.scan import RawScan
from medrecon.raw.whitening import Coils

_PLANES = ("sagittal", "coronal", "axial")  # normal along LPS x, y, z
_STRAIGHT_DEGREES = 0.5


def common_facts(
    scan: RawScan, image: Image, grid: Grid, order: Sequence[int], coils: Coils
) -> dict[str, Any]:
    """Facts of images of any trajectory."""
    encoding = image.encoding
    facts: dict[str, Any] = {
        **scan.facts,
        "trajectory": encoding.trajectory,
        "encoded_axes": 3 if encoding.is_3d else 2,
        "counters": dict(image.counters),
        "coils": {
            "measured": coils.total,
            "dead": sorted(set(range(coils.total)) - set(coils.live.tolist())),
        },
        "encoded": {"matrix": [*encoding.matrix], "fov_mm": _rounded(encoding.fov)},
        "slices": slice_facts(image, grid, order),
    }
    if encoding.recon_matrix is not None and encoding.recon_fov is not None:
        facts["recon"] = {
            "matrix": [*encoding.recon_matrix],
            "fov_mm": _rounded(encoding.recon_fov),
        }
    if scan.noise is not None:
        facts["noise_scan"] = {
            "readouts": scan.noise.readouts or None,
            "samples": int(scan.noise.data.shape[1]),
            "dwell": scan.noise.dwell or None,
            "imaging_dwell": scan.noise.imaging_dwell or None,
            "relative_bandwidth": scan.noise.relative_bandwidth,
        }
    if image.calibration:
        facts["calibration_readouts"] = len(image.calibration)
    left_out = {name: count for name, count in scan.ignored.items() if count}
    if scan.navigators:
        left_out["phase correction"] = len(scan.navigators)
    if left_out:
        facts["left_out"] = left_out
    return facts


def cartesian_facts(
    scan: RawScan,
    image: Image,
    counts: NDArray[np.integer],
    grid: Grid,
    order: Sequence[int],
    coils: Coils,
) -> Mapping[str, Any]:
    """Facts of a Cartesian image.

    Parameters
    ----------
    scan, image, grid, order, coils
        What it was made of.
    counts
        How often each kept sample was measured, ``(z, y, x)``.

    Warns
    -----
    UserWarning
        Where the header claims another acceleration than was measured.
    """
    encoding = image.encoding
    facts = common_facts(scan, image, grid, order, coils)
    width = kept_width(encoding)
    facts["oversampling_removed"] = round(encoding.matrix[2] / width, 4)
    facts["averages"] = average_facts(counts)
    facts["partial_fourier"] = partial_fourier_shares(counts > 0, is_3d=encoding.is_3d)
    facts["acceleration"] = acceleration_facts(counts > 0, encoding, scan.path)
    finer = _interpolation(image)
    if finer:
        facts["interpolation_not_done"] = finer
    return MappingProxyType(facts)


def average_facts(counts: NDArray[np.integer]) -> int | dict[str, int]:
    """How often samples were measured: one number, or the range where it differs."""
    measured = counts[counts > 0]
    fewest, most = int(measured.min()), int(measured.max())
    return most if fewest == most else {"from": fewest, "to": most}


def partial_fourier_shares(mask: NDArray[np.bool_], *, is_3d: bool) -> dict[str, float]:
    """Measured share of each axis of which one side was left out; the others are not named.

    Parameters
    ----------
    mask
        ``(z, y, x)``.
    is_3d
        Whether z is encoded.
    """
    shares = {}
    for axis, name in enumerate("zyx"):
        if name == "z" and not is_3d:
            continue
        n = mask.shape[axis]
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        below, above = n // 2 - int(found[0]), int(found[-1]) - n // 2
        step = int(np.diff(found).max()) if len(found) > 1 else 1
        # undersampling alone may leave out less than one step at either end
        if abs(below - above) > max(step, 1) and max(below, above) > 0:
            shares[name] = round((int(found[-1]) - int(found[0]) + 1) / n, 4)
    return shares


def slice_facts(image: Image, grid: Grid, order: Sequence[int]) -> dict[str, Any]:
    """Say number, distance, thickness and orientation of slices, and how they arrived."""
    facts: dict[str, Any] = {
        "count": grid.shape[0],
        "spacing_mm": round(grid.spacing[0], 4),
        "orientation": orientation_name(grid),
        "voxel_mm": _rounded(grid.spacing),
    }
    if not image.encoding.is_3d:
        thickness = voxel_size(image.encoding)[0]
        facts["thickness_mm"] = round(thickness, 4)
        if grid.shape[0] > 1:
            facts["gap_mm"] = round(grid.spacing[0] - thickness, 4)
            facts["arrival"] = arrival_name([order.index(s) for s in image.slices])
    return facts


def arrival_name(places: Sequence[int]) -> str:
    """``ascending``, ``descending`` or ``interleaved``: places along z in the order of arrival."""
    steps = np.diff(places)
    if (steps == 1).all():
        return "ascending"
    return "descending" if (steps == -1).all() else "interleaved"


def orientation_name(grid: Grid) -> str:
    """Name of the plane that the slices lie in, and how far they are tilted out of it.

    Examples
    --------
    >>> orientation_name(Grid.centred((4, 8, 8), (1.0, 1.0, 1.0)))
    'axial'
    """
    normal = np.abs(np.array(grid.directions[0]))
    main = int(np.argmax(normal))
    tilt = math.degrees(math.acos(min(1.0, float(normal[main]))))
    if tilt < _STRAIGHT_DEGREES:
        return _PLANES[main]
    return f"{_PLANES[main]}, oblique by {tilt:.1f} degrees"


def _interpolation(image: Image) -> str:
    """Say where the header wants more voxels than the measured resolution gives."""
    recon, fov = image.encoding.recon_matrix, image.encoding.recon_fov
    if recon is None or fov is None:
        return ""
    voxel = voxel_size(image.encoding)
    wanted = [d / n for d, n in zip(fov, recon, strict=True)]
    axes = (0, 1, 2) if image.encoding.is_3d else (1, 2)
    finer = [a for a in axes if wanted[a] < 0.99 * voxel[a]]
    if not finer:
        return ""
    return (
        f"the header asks for voxels of {_rounded(wanted)} mm (z, y, x); the measured resolution, "
        f"{_rounded(voxel)} mm, is kept"
    )


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
