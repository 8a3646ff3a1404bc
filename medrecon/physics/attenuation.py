"""How much matter attenuates x-rays: tables of a kept library, in 1/mm."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medrecon.errors import InconsistentError, UsageError

_PER_MM = 0.1  # 1/cm in 1/mm
_LOWEST, _HIGHEST = 1.0, 800.0  # keV, where the tables hold


def attenuation(
    material: str, energies_kev: ArrayLike, *, density: float | None = None
) -> NDArray[np.float64]:
    """Linear attenuation coefficients of a material, coherent scattering included.

    Parameters
    ----------
    material
        Chemical formula (``"Al"``, ``"CsI"``, ``"H2O"``) or a name in the NIST list of compounds
        (``"Water, Liquid"``, ``"Bone, Cortical (ICRP)"``).
    energies_kev
        Photon energies, keV.
    density
        g/cm^3; default: the table's, for elements and NIST compounds.

    Returns
    -------
    numpy.ndarray
        In the shape of the energies, 1/mm.

    Raises
    ------
    UsageError
        If the tables are not installed, the material is unknown, or its density is.
    InconsistentError
        If an energy lies outside 1 to 800 keV.

    References
    ----------
    T. Schoonjans et al., "The xraylib library for X-ray-matter interactions. Recent developments",
    Spectrochim. Acta B 66 (2011) 776, doi:10.1016/j.sab.2011.09.011.
    """
    tables = _tables()
    energies = np.asarray(energies_kev, np.float64)
    if not ((energies >= _LOWEST) & (energies <= _HIGHEST)).all():
        raise InconsistentError(
            f"Attenuation is tabulated from {_LOWEST:g} to {_HIGHEST:g} keV, got energies from "
            f"{energies.min():g} to {energies.max():g} keV."
        )
    try:
        per_mass = [tables.CS_Total_CP(material, float(e)) for e in energies.reshape(-1)]
    except ValueError as error:
        raise UsageError(
            f"{material!r} is neither a chemical formula nor a compound of the NIST list."
        ) from error
    density = _density(material) if density is None else density
    return np.asarray(per_mass, np.float64).reshape(energies.shape) * density * _PER_MM


def mu_water(energy_kev: float) -> float:
    """Attenuation of water of 1 g/cm^3 at one energy, 1/mm: what 0 HU stands for.

    Raises
    ------
    UsageError
        If the tables are not installed.
    InconsistentError
        If the energy lies outside 1 to 800 keV.
    """
    return float(attenuation("H2O", energy_kev, density=1.0))


def _density(material: str) -> float:
    tables = _tables()
    if material == "H2O":
        return 1.0
    try:
        return float(tables.GetCompoundDataNISTByName(material)["density"])
    except ValueError:
        pass
    try:
        return float(tables.ElementDensity(tables.SymbolToAtomicNumber(material)))
    except ValueError as error:
        raise UsageError(f"The density of {material!r} is not tabulated; give it.") from error


def _tables() -> ModuleType:
    try:
        import xraylib
    except ImportError as error:
        raise UsageError(
            "Attenuation tables need xraylib; install it with: pip install 'medrecon[spectra]'"
        ) from error
    module: ModuleType = xraylib
    return module
