"""One entry to the closed formulas: the one that fits the geometry."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from medrecon.analytic.fbp import fbp
from medrecon.analytic.fdk import fdk
from medrecon.analytic.helical import helical
from medrecon.analytic.orbit import climb
from medrecon.analytic.ramp import Window
from medrecon.geometry.ct import ConeBeam, ConeVectors, CTGeometry
from medrecon.grid import Grid

Method = Literal["fbp", "fdk", "helical"]


def method_for(geometry: CTGeometry) -> Method:
    """Name the formula that :func:`analytic` uses.

    Raises
    ------
    InconsistentError
        If the views of vectors lie near no circle.
    """
    if not isinstance(geometry, ConeBeam | ConeVectors):
        return "fbp"
    return "helical" if climb(geometry) else "fdk"


def analytic(
    measurements: Tensor, geometry: CTGeometry, grid: Grid, window: Window | str = "ramlak"
) -> Tensor:
    """Reconstruct by filtered back-projection, Feldkamp's method or that for a helix.

    Parameters
    ----------
    measurements
        Line integrals, dimensionless: ``(*batch, z, views, columns)`` of slices, otherwise
        ``(*batch, views, rows, columns)``.
    geometry
        Any scanner whose views lie near a circle or on a helix.
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
        If measurements, geometry and grid do not fit each other, or the views lie on no such path.
    UsageError
        If the window is unknown.
    """
    if not isinstance(geometry, ConeBeam | ConeVectors):
        return fbp(measurements, geometry, grid, window)
    formula = helical if climb(geometry) else fdk
    return formula(measurements, geometry, grid, window)
