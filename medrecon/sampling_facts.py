"""How k-space was sampled, measured from the samples themselves; plain values for JSON.

What a header claims (acceleration, calibration lines, partial Fourier) is not asked: converters
write it wrong, and what was measured is what can be reconstructed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.calibration.region import calibration_region
from medrecon.geometry import MRGeometry, NonCartesian
from medrecon.raw.facts import partial_fourier_shares

Mask = NDArray[np.bool_]

_STRAIGHT = 1e-3  # cycles per field of view between a spoke and its straight line
_THROUGH_CENTRE = 1.0  # cycles per field of view
_FEWEST_CALIBRATION = 2  # lines side by side that are more than chance


def sampling_facts(geometry: MRGeometry) -> dict[str, Any]:
    """Describe a Cartesian pattern or a trajectory.

    Returns
    -------
    dict
        Cartesian: ``matrix``; ``acceleration``, all samples over measured ones; ``pattern`` in
        words; ``calibration_lines``, the fully sampled middle along each undersampled axis;
        ``partial_fourier``, the share that was measured of each axis that lacks one side.
        Otherwise: shots, samples, the trajectory's form, and how densely it samples.
    """
    if isinstance(geometry, NonCartesian):
        return _along(geometry)
    mask = geometry.mask
    always: Mask = np.asarray(mask.all(axis=0)) if geometry.is_per_slice else mask
    ever: Mask = np.asarray(mask.any(axis=0)) if geometry.is_per_slice else mask
    facts: dict[str, Any] = {
        "kind": "cartesian",
        "encoding": "3D" if geometry.is_3d else "2D",
        "matrix": list(mask.shape),
        "acceleration": round(geometry.acceleration, 3),
        "pattern": _pattern(ever),
    }
    if geometry.is_per_slice:
        shares = mask.reshape(len(mask), -1).mean(axis=1)
        facts["pattern"] = "of its own in every slice; together: " + facts["pattern"]
        facts["acceleration_of_slices"] = [
            round(float(1 / shares.max()), 3),
            round(float(1 / shares.min()), 3),
        ]
    if not always.all():
        facts["calibration_lines"] = _calibration(always)
        deep = ever if ever.ndim == 3 else ever[None]
        partial = partial_fourier_shares(deep, is_3d=geometry.is_3d)
        if partial:
            facts["partial_fourier"] = partial
    return facts


def _names(mask: Mask) -> str:
    return "zyx"[3 - mask.ndim :]


def _pattern(mask: Mask) -> str:
    """Say in words which samples were measured."""
    if mask.all():
        return "fully sampled"
    axes = [a for a in range(mask.ndim) if not _constant(mask, a)]
    if len(axes) > 1:
        return f"irregular in {' and '.join(_names(mask)[a] for a in axes)}" + (
            ", whole readouts" if mask.ndim - 1 not in axes else ""
        )
    (axis,) = axes
    lines = np.asarray(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
    name = "columns" if axis == mask.ndim - 1 else "lines"
    return f"{int(lines.sum())} of {len(lines)} {name} along {_names(mask)[axis]}, {_spread(lines)}"


def _constant(mask: Mask, axis: int) -> bool:
    """Whether all positions along an axis were measured alike."""
    return bool((mask == mask.take([0], axis=axis)).all())


def _spread(lines: Mask) -> str:
    """Say how the measured lines of one axis lie."""
    found = np.flatnonzero(lines)
    gaps = np.diff(found)
    if len(found) < 2 or (gaps == 1).all():
        return "side by side"
    wide = gaps[gaps > 1]
    step = int(np.bincount(wide).argmax())
    # where the middle is joined to the grid a gap may be shorter than the step
    if (wide == step).sum() >= len(wide) - 2 and step > 1:
        dense = (gaps == 1).any()
        return f"every {_ordinal(step)}" + (" and the middle" if dense else "")
    return "irregular"


def _calibration(mask: Mask) -> dict[str, int]:
    """Width of the fully sampled middle along the axes that were undersampled."""
    box = calibration_region(mask)
    widths = {}
    for axis, side in enumerate(box):
        width = side.stop - side.start
        if not _constant(mask, axis):
            widths[_names(mask)[axis]] = width if width >= _FEWEST_CALIBRATION else 0
    return widths


def _along(geometry: NonCartesian) -> dict[str, Any]:
    k = geometry.trajectory
    facts: dict[str, Any] = {
        "kind": "non_cartesian",
        "encoding": "3D" if geometry.is_3d else "2D",
        "trajectory": _form(k),
        "shots": geometry.shots,
        "samples_per_shot": geometry.samples_per_shot,
        "reach_cycles_per_fov": [round(r, 3) for r in geometry.reach],
    }
    if geometry.partitions is not None:
        steps = geometry.partitions
        facts["partitions"] = f"{int(steps.sum())} of {len(steps)}"
    if facts["trajectory"].startswith("radial"):
        diameter = 2 * max(geometry.reach)
        needed = math.pi / 2 * diameter if k.shape[-1] == 2 else math.pi / 2 * diameter**2
        facts["acceleration"] = round(needed / geometry.shots, 3)
        if k.shape[-1] == 2 and geometry.shots > 1:
            facts["angle_step_deg"] = _angle_step(k)
    return facts


def _form(k: NDArray[np.float64]) -> str:
    """``radial`` where every shot is a straight line through the centre."""
    if k.shape[1] < 3:
        return "points"
    ends = k[:, -1] - k[:, 0]
    lengths = np.linalg.norm(ends, axis=-1)
    if (lengths < _THROUGH_CENTRE).any():
        return "curved"
    along = ends / lengths[:, None]
    first = k - k[:, :1]
    off = first - (first * along[:, None]).sum(-1, keepdims=True) * along[:, None]
    if float(np.linalg.norm(off, axis=-1).max()) > _STRAIGHT * max(1.0, float(lengths.max())):
        return "curved"
    nearest = np.linalg.norm(k, axis=-1).min(axis=1)
    if float(nearest.max()) > _THROUGH_CENTRE:
        return "straight lines"
    half = float(np.linalg.norm(k[:, 0], axis=-1).max()) < _THROUGH_CENTRE
    return "radial, from the centre" if half else "radial"


def _angle_step(k: NDArray[np.float64]) -> float:
    """Typical angle from one spoke to the next, degrees."""
    ends = k[:, -1] - k[:, 0]
    angles = np.degrees(np.arctan2(ends[:, 0], ends[:, 1]))
    steps = np.abs((np.diff(angles) + 180) % 360 - 180)
    return round(float(np.median(steps)), 4)


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"
