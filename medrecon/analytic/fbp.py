"""Filtered back-projection of slice stacks: parallel beam and fan beam with a flat detector."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecon.analytic.ramp import Window, filter_rows
from medrecon.analytic.weights import completed, ray_weights
from medrecon.arrays import Space
from medrecon.geometry.ct import FanBeam, ParallelBeam
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.kernels import interpolation
from medrecon.operators.slices import map_slices


def fbp(
    measurements: Tensor,
    geometry: ParallelBeam | FanBeam,
    grid: Grid,
    window: Window | str = "ramlak",
) -> Tensor:
    """Reconstruct every slice by filtered back-projection.

    ``mu(p) = sum_a d_a (R / depth(p))^2 (h * w y_a)(u(p))`` with the ramp h on the detector scaled
    to the axis and w the ray's share of its line times ``cos(fan angle)``; for a parallel beam
    ``R / depth = cos = 1``.  Full turns, half turns, short scans and offset detectors are
    weighted as they are; a smaller arc gives an incomplete image, not an error.

    Parameters
    ----------
    measurements
        Line integrals ``(*batch, z, views, columns)``, dimensionless.
    geometry
        The scanner.
    grid
        Axial grid of the volume, one slice per sinogram.
    window
        ``"ramlak"``, ``"shepp-logan"``, ``"cosine"`` or ``"hann"``.

    Returns
    -------
    Tensor
        Attenuation ``(*batch, z, y, x)``, 1/mm, with the device and precision of the input.

    Raises
    ------
    InconsistentError
        If measurements, geometry and grid do not fit each other.
    UsageError
        If the window is unknown.

    References
    ----------
    A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging (1988), sec. 3.3-3.4,
    doi:10.1137/1.9780898719277.

    Examples
    --------
    >>> from medrecon.geometry.ct import equiangular
    >>> from medrecon.operators.parallel import ParallelProjector
    >>> scanner = ParallelBeam(angles=equiangular(90), columns=64, column_spacing=1.0)
    >>> grid = Grid.centred((1, 32, 32), (1, 1, 1))
    >>> y = ParallelProjector(grid, scanner)(torch.ones(grid.shape))
    >>> round(float(fbp(y, scanner, grid)[0, 12:20, 12:20].mean()), 2)
    1.0
    """
    rays.check_scan(grid, geometry)
    views = len(geometry.angles)
    Space((grid.shape[0], views, geometry.columns)).check(measurements, "measurements of fbp")
    weights, spacing = ray_weights(geometry), geometry.column_spacing
    if isinstance(geometry, FanBeam):
        u = rays.column_positions(geometry)
        magnify = geometry.source_to_detector / geometry.source_to_axis
        weights = weights * np.cos(np.arctan2(u, geometry.source_to_detector)) / magnify**2
        spacing = spacing / magnify
    w = torch.from_numpy(weights).to(measurements.device, measurements.dtype)
    wider, sides = completed(geometry)
    return map_slices(
        interpolation.slices,
        measurements,
        grid.shape[1:],
        rays.view_matrices(grid, wider),
        prepare=lambda y: filter_rows(pad(y * w, sides), spacing, window),
    )
