"""Water beam hardening: what a tube's spectrum does to line integrals, undone for water.

Behind thick water the beam is harder and attenuated less per mm than behind thin, so a uniform body
comes out too thin in its middle (cupping).  For water alone the measured line integral is a growing
function of the thickness; its inverse times one attenuation makes every body of water right.
Bone and metal harden differently and keep their streaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.physics.attenuation import attenuation
from medrecon.physics.counts import LineIntegrals
from medrecon.physics.spectrum import Spectrum

Array = NDArray[np.float64]

_SAMPLES = 400


@dataclass(frozen=True, kw_only=True)
class WaterCorrection:
    """Polynomial from polychromatic to monochromatic line integrals of water.

    ``m(p) = p (c_0 + c_1 p + ...)`` up to ``limit``, and on along its tangent beyond and below 0.

    Parameters
    ----------
    coefficients
        ``c_0, c_1, ...``
    mu_water
        Attenuation of water afterwards, 1/mm: the ``mu_water_per_mm`` of the protocol.
    limit
        Largest line integral that was fitted.
    error
        Largest deviation of the fit, relative.

    References
    ----------
    G. T. Herman, "Correction for beam hardening in computed tomography", Phys. Med. Biol. 24
    (1979) 81, doi:10.1088/0031-9155/24/1/008.

    R. A. Brooks, G. Di Chiro, "Beam hardening in x-ray reconstructive tomography", Phys. Med.
    Biol. 21 (1976) 390, doi:10.1088/0031-9155/21/3/004.
    """

    coefficients: tuple[float, ...]
    mu_water: float
    limit: float
    error: float = 0.0

    def __post_init__(self) -> None:
        if not (self.mu_water > 0 and self.limit > 0 and len(self.coefficients) > 0):
            raise InconsistentError(
                "A water correction needs coefficients, a positive attenuation of water and a "
                f"positive limit, got {self}."
            )
        slopes = self._slope(torch.linspace(0, self.limit, _SAMPLES, dtype=torch.float64))
        if not bool((slopes > 0).all()):
            raise InconsistentError(
                "The beam-hardening polynomial does not grow everywhere up to a line integral of "
                f"{self.limit:.3g}; use a lower degree or a better calibration."
            )

    @classmethod
    def from_spectrum(
        cls,
        spectrum: Spectrum,
        *,
        thickness: float = 400.0,
        mu_water: float | None = None,
        degree: int = 5,
    ) -> Self:
        """Compute the correction from what the detector signals of the unattenuated beam.

        Parameters
        ----------
        spectrum
            After all filters, and with the detector's response.
        thickness
            Most water that a ray crosses, mm.
        mu_water
            Attenuation of water that shall come out, 1/mm, e.g.
            :func:`medrecon.physics.attenuation.mu_water` of 70 keV; default: that of the first
            millimetres, so that thin objects stay as they are.
        degree
            Of the polynomial in p.
        """
        mu = attenuation("H2O", spectrum.energies)
        lengths = np.linspace(0, thickness, _SAMPLES + 1)[1:]
        measured = spectrum.line_integrals(torch.from_numpy(lengths), mu).numpy()
        return cls._fitted(lengths, measured, mu_water or float(spectrum.shares @ mu), degree)

    @classmethod
    def from_calibration(
        cls,
        thicknesses: Sequence[float],
        measured: Sequence[float],
        *,
        mu_water: float | None = None,
        degree: int = 3,
    ) -> Self:
        """Fit the correction to line integrals measured behind known thicknesses of water.

        Parameters
        ----------
        thicknesses
            mm, at least ``degree + 1``; the correction holds up to the largest.
        measured
            Line integral behind each.
        mu_water
            Attenuation of water that shall come out, 1/mm; default: that of a vanishing thickness,
            extrapolated.
        degree
            Of the polynomial in p.

        Raises
        ------
        InconsistentError
            If there are too few points, or they do not grow with each other.
        """
        pairs = sorted(zip(thicknesses, measured, strict=False))
        lengths, values = np.array(pairs, np.float64).reshape(-1, 2).T
        enough = len(thicknesses) == len(measured) >= degree + 1
        if not enough or lengths[0] <= 0 or values[0] <= 0 or (np.diff(values) <= 0).any():
            raise InconsistentError(
                f"A water calibration of degree {degree} needs at least {degree + 1} positive "
                "thicknesses (mm) with line integrals that grow with them, got "
                f"{len(thicknesses)} and {len(measured)}."
            )
        if mu_water is None:
            mu_water = float(np.polynomial.Polynomial.fit(lengths, values / lengths, degree - 1)(0))
        return cls._fitted(lengths, values, mu_water, degree)

    @classmethod
    def _fitted(cls, lengths: Array, measured: Array, mu_water: float, degree: int) -> Self:
        """Fit ``mu L / p`` by a polynomial in p: small errors relative to p, and none at 0."""
        wanted = mu_water * lengths
        fit = np.polynomial.Polynomial.fit(measured, wanted / measured, degree - 1)
        deviation = fit(measured) * measured / wanted - 1
        return cls(
            coefficients=tuple(fit.convert().coef.tolist()),
            mu_water=mu_water,
            limit=float(measured.max()),
            error=float(np.abs(deviation).max()),
        )

    def __call__(self, line_integrals: Tensor) -> Tensor:
        """Correct line integrals of any shape."""
        inside = line_integrals.clamp(0, self.limit)
        return inside * self._series(inside) + (line_integrals - inside) * self._slope(inside)

    def apply(self, scan: LineIntegrals) -> LineIntegrals:
        """Correct values, and weights by the square of the slope: noise grows with the signal."""
        slope = self._slope(scan.values.clamp(0, self.limit))
        return replace(scan, values=self(scan.values), weights=scan.weights / slope.square())

    def _series(self, p: Tensor) -> Tensor:
        total = torch.zeros_like(p)
        for c in reversed(self.coefficients):
            total = total * p + c
        return total

    def _slope(self, p: Tensor) -> Tensor:
        total = torch.zeros_like(p)
        for k in range(len(self.coefficients) - 1, -1, -1):
            total = total * p + (k + 1) * self.coefficients[k]
        return total
