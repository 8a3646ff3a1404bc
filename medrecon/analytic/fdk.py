"""Feldkamp's reconstruction of a cone-beam scan on a circle."""

from __future__ import annotations

from torch import Tensor

from medrecon.analytic.backprojection import reconstruct_volume
from medrecon.analytic.orbit import climb
from medrecon.analytic.ramp import Window
from medrecon.errors import InconsistentError
from medrecon.geometry.ct import ConeBeam, ConeVectors
from medrecon.grid import Grid


def fdk(
    measurements: Tensor,
    geometry: ConeBeam | ConeVectors,
    grid: Grid,
    window: Window | str = "ramlak",
) -> Tensor:
    """Reconstruct a volume by the Feldkamp, Davis and Kress algorithm.

    ``mu(p) = sum_a d_a (R / depth(p))^2 (h * w y_a)(u(p), v(p))``, the ramp h along the rows of
    the detector scaled to the axis and w the ray's share of its line times the cosine of its
    angle to the central ray.  Exact in the plane of the source, approximate above and below;
    what the detector does not see counts as 0.  Curved detectors, short scans and offset detectors
    are weighted as for a fan.

    Voxels look up every view where its own source and detector say (shifted focal spots, C-arms).
    For ``ConeVectors`` the weights follow from the angles and radii of the sources about a fitted
    circle, as if each went along a circle of its own, and the filter runs along the detector in
    the direction of the circle's plane: how fast sources leave the circle is neglected.  Refused
    are sources off the circle by more than 5 % of its radius and rows turned out of its plane by
    more than 20 degrees.

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
        If measurements, geometry and grid do not fit each other, the scan is a helix, or its
        sources do not lie near a circle.
    UsageError
        If the window is unknown.

    References
    ----------
    L. A. Feldkamp, L. C. Davis, J. W. Kress, J. Opt. Soc. Am. A 1 (1984) 612-619,
    doi:10.1364/JOSAA.1.000612.
    """
    travel = climb(geometry)
    if travel:
        raise InconsistentError(
            f"fdk is for circles, but the gantry climbs by {travel:.1f} mm during the scan; use "
            "helical."
        )
    return reconstruct_volume(measurements, geometry, grid, window, "fdk")
