"""X-ray spectra as frozen values: what a tube sends, what filters pass, what a detector signals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from medrecon.errors import InconsistentError, UsageError
from medrecon.physics.attenuation import attenuation

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Signal per photon energy of an unattenuated beam, on any scale.

    Parameters
    ----------
    energies
        Middles of the energy bins, keV, growing.
    signal
        For each bin: the fluence of a beam, or with :meth:`integrating` and :meth:`absorbed_in`
        what a detector makes of it.

    Examples
    --------
    >>> beam = Spectrum(energies=(40.0, 80.0), signal=(3.0, 1.0))
    >>> beam.mean_energy
    50.0
    >>> beam.integrating().mean_energy
    56.0
    """

    energies: tuple[float, ...]
    signal: tuple[float, ...]

    def __post_init__(self) -> None:
        energies, signal = np.array(self.energies), np.array(self.signal)
        fits = energies.shape == signal.shape and energies.ndim == 1 and energies.size > 0
        if not fits or not (np.isfinite(energies).all() and np.isfinite(signal).all()):
            raise InconsistentError(
                "A spectrum needs as many finite energies (keV) as signals, got "
                f"{energies.size} and {signal.size}."
            )
        if energies[0] <= 0 or (np.diff(energies) <= 0).any():
            raise InconsistentError("Energies of a spectrum are positive and growing, in keV.")
        if (signal < 0).any() or not (signal > 0).any():
            raise InconsistentError("A spectrum's signal is nowhere negative and somewhere not 0.")

    @property
    def shares(self) -> Array:
        """The signal, scaled to the sum 1."""
        signal = np.array(self.signal)
        return np.asarray(signal / signal.sum())

    @property
    def mean_energy(self) -> float:
        """Mean energy of the signal, keV."""
        return float(self.shares @ np.array(self.energies))

    def through(self, material: str, thickness: float, *, density: float | None = None) -> Spectrum:
        """Behind a filter of ``thickness`` mm; see :func:`attenuation` for names and densities."""
        mu = attenuation(material, self.energies, density=density)
        return self._times(np.exp(-mu * thickness))

    def absorbed_in(
        self, material: str, thickness: float, *, density: float | None = None
    ) -> Spectrum:
        """Signal of a detector that stops photons in ``thickness`` mm (e.g. CsI, 4.51 g/cm^3)."""
        mu = attenuation(material, self.energies, density=density)
        return self._times(-np.expm1(-mu * thickness))

    def integrating(self) -> Spectrum:
        """Signal of a detector that adds up energy instead of counting quanta."""
        return self._times(np.array(self.energies))

    def line_integrals(self, lengths: Tensor, mu: ArrayLike) -> Tensor:
        """Polychromatic line integrals ``-ln sum_E s(E) exp(-mu(E) L)`` of one material.

        Parameters
        ----------
        lengths
            Path lengths L, mm, any shape.
        mu
            Attenuation at every energy, 1/mm (:func:`attenuation`).
        """
        coefficients = np.asarray(mu, np.float64)
        if coefficients.shape != (len(self.energies),):
            raise InconsistentError(
                f"A spectrum of {len(self.energies)} energies needs as many attenuation "
                f"coefficients, got an array of shape {coefficients.shape}."
            )
        total = torch.zeros_like(lengths)
        for share, each in zip(self.shares, coefficients, strict=True):
            total += float(share) * torch.exp(-float(each) * lengths)
        return -torch.log(total)

    def _times(self, factors: Array) -> Spectrum:
        return replace(self, signal=tuple((np.array(self.signal) * factors).tolist()))


def tungsten_spectrum(
    kvp: float, *, filters: Mapping[str, float], anode_angle: float = 12.0, step: float = 1.0
) -> Spectrum:
    """Fluence of a tungsten tube, computed by SpekPy.

    Parameters
    ----------
    kvp
        Tube voltage, kV.
    filters
        Materials of all filtration and their thickness in mm, e.g. ``{"Al": 6.0}`` (a CT tube with
        its flat filter, without the bowtie).
    anode_angle
        Degrees.
    step
        Width of an energy bin, keV.

    Raises
    ------
    UsageError
        If SpekPy is not installed or cannot compute such a tube.

    References
    ----------
    G. Poludniowski, A. Omar, R. Bujila, P. Andreo, "Technical Note: SpekPy v2.0 - a software
    toolkit for modeling x-ray tube spectra", Med. Phys. 48 (2021) 3630, doi:10.1002/mp.14945.
    """
    try:
        import spekpy
    except ImportError as error:
        raise UsageError(
            "Tube spectra need SpekPy; install it with: pip install 'medrecon[spectra]'"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tube = spekpy.Spek(kvp=kvp, th=anode_angle, dk=step)
            for material, thickness in filters.items():
                tube.filter(material, thickness)
            energies, fluence = tube.get_spectrum(edges=False)
    except Exception as error:  # SpekPy raises Exception itself
        raise UsageError(
            f"SpekPy cannot compute a tungsten tube of {kvp:g} kV at {anode_angle:g} degrees with "
            f"filters {dict(filters)}: {error}"
        ) from error
    kept = fluence > 1e-12 * fluence.max()
    if not math.isfinite(float(fluence.sum())) or not kept.any():
        raise UsageError(f"Nothing of {kvp:g} kV comes through the filters {dict(filters)}.")
    return Spectrum(energies=tuple(energies[kept].tolist()), signal=tuple(fluence[kept].tolist()))
