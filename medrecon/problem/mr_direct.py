"""MR reconstructions without iteration: by filling k-space, by the adjoint, by gridding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.baselines import grappa
from medrecon.calibration.coils import adaptive_combine, coil_combine, rss
from medrecon.geometry import Cartesian, MRGeometry
from medrecon.geometry.kspace import kspace_to_image
from medrecon.operators.base import LinearOperator
from medrecon.preprocessing.partial_fourier import homodyne, pocs, zero_fill

_FILL = {"zero_fill": zero_fill, "homodyne": homodyne, "pocs": pocs}
_Formula = Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Measured:
    """One MR scan, ready for closed formulas.

    Parameters
    ----------
    kspace
        Measurements, whitened, on the device of the reconstruction.
    operator
        The scan's operator with its coil maps.
    maps
        The coil maps, several sets in a leading axis.
    weights
        Density compensation, broadcasts to ``kspace``.
    calibration
        k-space of a separate calibration scan, or ``None``.
    partial_fourier
        What is done where one side of k-space is missing.
    """

    kspace: Tensor
    operator: LinearOperator
    maps: Tensor
    weights: Tensor
    calibration: Tensor | None = None
    partial_fourier: str = "zero_fill"

    def adjoint(self) -> Tensor:
        """``A^H y``: zero-filled and combined with the coil maps."""
        return self.operator.adjoint(self.kspace)

    def compensated(self) -> Tensor:
        """``A^H (w y)``, gridding: every sample counts for the k-space around it."""
        return self.operator.adjoint(self.weights * self.kspace)


def direct_methods(scan: Measured, geometry: MRGeometry) -> dict[str, _Formula]:
    """Name the closed formulas as protocols do; images are in the unit of the data."""
    if not isinstance(geometry, Cartesian):
        return {"adjoint": scan.adjoint, "gridding": scan.compensated}
    axis = geometry.coil_axis

    def root_sum_of_squares() -> Tensor:
        return rss(_images(scan, geometry, scan.kspace, geometry.samples), axis)

    def adaptive() -> Tensor:
        return adaptive_combine(_images(scan, geometry, scan.kspace, geometry.samples), axis)

    def filled_by_grappa() -> Tensor:
        filled = grappa(scan.kspace, geometry, scan.calibration)
        images = _images(scan, geometry, filled, _between(geometry))
        if scan.maps.ndim > images.ndim:  # several sets: no single map to combine with
            return rss(images, axis)
        return coil_combine(images, scan.maps, axis)

    return {
        "zero_filled": root_sum_of_squares,
        "rss": root_sum_of_squares,
        "adaptive": adaptive,
        "adjoint": scan.adjoint,
        "grappa": filled_by_grappa,
    }


def _images(
    scan: Measured, geometry: Cartesian, kspace: Tensor, known: NDArray[np.bool_]
) -> Tensor:
    """Coil images, with a missing side of k-space filled."""
    axes = range(-geometry.encoded, 0)
    filled = _FILL[scan.partial_fourier](kspace, torch.from_numpy(known.copy()), axes)
    return kspace_to_image(filled, axes)


def _between(geometry: Cartesian) -> NDArray[np.bool_]:
    """Find the samples between the outermost measured ones, which GRAPPA fills."""
    mask = geometry.samples
    filled = np.ones_like(mask)
    for axis in range(mask.ndim - geometry.encoded, mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        index = np.flatnonzero(mask.any(axis=others))
        line = np.zeros(mask.shape[axis], dtype=bool)
        line[index[0] : index[-1] + 1] = True
        filled &= line.reshape([-1 if a == axis else 1 for a in range(mask.ndim)])
    return filled
