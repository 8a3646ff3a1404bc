"""Feldkamp's reconstruction of a circular cone-beam scan."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from medrecon.analytic.ramp import Window, filter_rows
from medrecon.analytic.weights import completed, ray_weights
from medrecon.arrays import Space
from medrecon.geometry.ct import ConeBeam
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.kernels import interpolation
from medrecon.operators.kernels.compile import empty, launch, to_array

# Views filtered together: bounds the memory of the padded spectra.
VIEWS = 16


def fdk(
    measurements: Tensor, geometry: ConeBeam, grid: Grid, window: Window | str = "ramlak"
) -> Tensor:
    """Reconstruct a volume by the Feldkamp, Davis and Kress algorithm.

    ``mu(p) = sum_a d_a (R / depth(p))^2 (h * w y_a)(u(p), v(p))``, the ramp h along the rows of
    the detector scaled to the axis and w the ray's share of its line times the cosine of its
    angle to the central ray.  Exact in the plane of the source, approximate above and below;
    what the detector does not see counts as 0.  Short scans and offset detectors are weighted
    as for a fan.

    Parameters
    ----------
    measurements
        Line integrals ``(*batch, views, rows, columns)``, dimensionless.
    geometry
        The scanner.
    grid
        Axial grid of the volume.
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
    L. A. Feldkamp, L. C. Davis, J. W. Kress, J. Opt. Soc. Am. A 1 (1984) 612-619,
    doi:10.1364/JOSAA.1.000612.
    """
    rays.check_scan(grid, geometry)
    scan = Space((len(geometry.angles), geometry.rows, geometry.columns))
    scan.check(measurements, "measurements of fdk")
    batch = measurements.shape[:-3]
    scans = measurements.reshape(math.prod(batch), *scan.shape)
    result = measurements.new_empty((len(scans), *grid.shape))
    for y, out in zip(scans, result, strict=True):
        out.copy_(_reconstruct(y, geometry, grid, window))
    return result.reshape(*batch, *grid.shape)


def _reconstruct(y: Tensor, geometry: ConeBeam, grid: Grid, window: Window | str) -> Tensor:
    magnify = geometry.source_to_detector / geometry.source_to_axis
    u = rays.column_positions(geometry)
    v = rays.row_positions(geometry)
    distance = np.hypot(np.hypot(u[None, :], v[:, None]), geometry.source_to_detector)
    cosines = geometry.source_to_detector / distance / magnify**2
    w = torch.from_numpy(cosines).to(y.device, y.dtype)
    share = torch.from_numpy(ray_weights(geometry)).to(y.device, y.dtype)
    wider, sides = completed(geometry)
    spacing = geometry.column_spacing / magnify
    views, rows, _ = y.shape
    filtered = y.new_empty((views, wider.columns, rows))
    for start in range(0, views, VIEWS):
        some = slice(start, start + VIEWS)
        weighted = pad(y[some] * w * share[some, None, :], sides)
        filtered[some] = filter_rows(weighted, spacing, window).transpose(1, 2)
    source = to_array(filtered)
    depth, height, width = grid.shape
    target = empty((height, width, depth), source)
    tables = rays.view_matrices(grid, wider), rays.axial_edges(grid, geometry)
    launch(interpolation.cone, source, *tables, target)
    return torch.from_numpy(target).permute(2, 0, 1)
