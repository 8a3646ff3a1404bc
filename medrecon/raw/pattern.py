"""From how often each sample was measured to mask, weights and noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.geometry import Cartesian
from medrecon.raw.scan import RawScan


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """What was measured.

    Parameters
    ----------
    geometry
        The mask; of its own in every slice where slices differ.
    weights
        How often each sample was measured where that differs, broadcastable to the k-space.
    averages
        How often each sample was measured where it does not; 1 where ``weights`` says it.
    """

    geometry: Cartesian
    weights: Tensor | None
    averages: int


def pattern_of(counts: NDArray[np.integer], *, is_3d: bool) -> Pattern:
    """Make the mask, and weights where samples were averaged unequally.

    Parameters
    ----------
    counts
        How often each sample was measured, ``(z, y, x)``, slices in the order of the grid.
    is_3d
        Whether z is encoded.
    """
    alike = not is_3d and bool((counts == counts[0]).all())
    kept = counts[0] if alike else counts
    measured = kept > 0
    if not is_3d and not alike and bool((measured == measured[0]).all()):
        geometry = Cartesian(mask=measured[0])  # averaged differently, but measured alike
    else:
        geometry = Cartesian(mask=measured, encoded=3 if is_3d else 2)
    values = np.unique(kept[measured])
    if len(values) == 1:
        return Pattern(geometry=geometry, weights=None, averages=int(values[0]))
    most = kept.max(axis=-1, keepdims=True)
    weights = most if bool(((kept == most) | ~measured).all()) else kept
    if weights.ndim == 3 and not is_3d:
        weights = weights[:, None]
    return Pattern(
        geometry=geometry, weights=torch.from_numpy(weights.astype(np.float32)), averages=1
    )


def noise_level(scan: RawScan, averages: int) -> float | None:
    """Root of ``E|n|^2`` of a sample averaged so often; ``None`` where no noise is known."""
    level = 1.0 if scan.noise is not None else scan.noise_std
    return None if level is None else level / math.sqrt(averages)
