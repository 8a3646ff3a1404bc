"""Filtered back-projection of parallel rays, and of fans with a flat or an arc detector."""

from __future__ import annotations

from torch import Tensor

from medrecon.analytic.backprojection import reconstruct_slices, reconstruct_volume
from medrecon.analytic.ramp import Window
from medrecon.geometry.ct import FanBeam, ParallelBeam, ParallelBeam3D, ParallelVectors
from medrecon.grid import Grid


def fbp(
    measurements: Tensor,
    geometry: ParallelBeam | FanBeam | ParallelBeam3D | ParallelVectors,
    grid: Grid,
    window: Window | str = "ramlak",
) -> Tensor:
    """Reconstruct by filtered back-projection, exact but for sampling.

    ``mu(p) = sum_a d_a (R / depth(p))^2 (h * w y_a)(u(p))`` with the ramp h on the detector scaled
    to the axis and w the ray's share of its line times ``cos(fan angle)``; for a parallel beam
    ``R / depth = cos = 1``.  On an arc the columns are angles g, ``depth`` is the distance from
    the source and h has ``sin g`` instead of g.  Full turns, half turns, short scans and offset
    detectors are weighted as they are; a smaller arc gives an incomplete image, not an error.

    Parameters
    ----------
    measurements
        Line integrals, dimensionless: ``(*batch, z, views, columns)`` slice by slice, or
        ``(*batch, views, rows, columns)`` of a detector with rows.
    geometry
        The scanner.  ``ParallelVectors`` may leave the plane of rotation a little (jitter).
    grid
        Axial grid of the volume; one slice per sinogram where there are no rows.
    window
        ``"ramlak"``, ``"shepp-logan"``, ``"cosine"`` or ``"hann"``.

    Returns
    -------
    Tensor
        Attenuation ``(*batch, z, y, x)``, 1/mm, with the device and precision of the input; 0 in
        slices that the rows do not reach.

    Raises
    ------
    InconsistentError
        If measurements, geometry and grid do not fit each other, or the views have no common
        plane of rotation.
    UsageError
        If the window is unknown.

    References
    ----------
    A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging (1988), sec. 3.3-3.4,
    doi:10.1137/1.9780898719277.

    Examples
    --------
    >>> import torch
    >>> from medrecon.geometry.ct import equiangular
    >>> from medrecon.operators.parallel import ParallelProjector
    >>> scanner = ParallelBeam(angles=equiangular(90), columns=64, column_spacing=1.0)
    >>> grid = Grid.centred((1, 32, 32), (1, 1, 1))
    >>> y = ParallelProjector(grid, scanner)(torch.ones(grid.shape))
    >>> round(float(fbp(y, scanner, grid)[0, 12:20, 12:20].mean()), 2)
    1.0
    """
    if isinstance(geometry, ParallelBeam | FanBeam):
        return reconstruct_slices(measurements, geometry, grid, window)
    return reconstruct_volume(measurements, geometry, grid, window, "fbp")
