"""The intensity that counts as 1, and the weights of a direct reconstruction."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medrecon.calibration.density import pipe_menon, radial_density
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry

_WIDTH = 4.0  # samples over which the density of a Cartesian pattern is averaged


def density_weights(geometry: MRGeometry, shape: tuple[int, int, int]) -> Tensor:
    """Share of k-space that every sample stands for; broadcasts to the measurements.

    Cartesian: the inverse of the pattern's density around the sample, 1 where all neighbours are
    measured.  Along a trajectory: areas, exact for spokes, else by Pipe and Menon's iteration.

    Parameters
    ----------
    geometry
        The sampling.
    shape
        Voxels of the image, ``(z, y, x)``.
    """
    if isinstance(geometry, Cartesian):
        return torch.from_numpy(_cartesian(geometry)).float()
    encoded = shape[-geometry.trajectory.shape[-1] :]
    try:
        weights = radial_density(geometry, encoded)
    except InconsistentError:  # no spokes
        weights = pipe_menon(geometry, encoded)
    return torch.from_numpy(weights).float()


def _cartesian(geometry: Cartesian) -> np.ndarray:
    mask = geometry.samples
    axes = range(mask.ndim - geometry.encoded, mask.ndim)
    varying = [a for a in axes if not (mask == mask.take([0], axis=a)).all()]
    widths = [_WIDTH if a in varying else 0.0 for a in range(mask.ndim)]
    density = ndimage.gaussian_filter(mask.astype(np.float64), widths, mode="nearest")
    return np.where(mask, 1 / np.maximum(density, 1e-3), 0.0)


def quantile(values: Tensor, q: float) -> float:
    """Quantile of a large tensor (``torch.quantile`` refuses more than 16 million elements)."""
    flat = values.flatten()
    k = max(1, min(flat.numel(), round(q * flat.numel())))
    return float(flat.kthvalue(k).values)
