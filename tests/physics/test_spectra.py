"""Spectra and attenuation against published values; the correction makes water water."""

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medrecon.analytic.fbp import fbp
from medrecon.errors import InconsistentError, UsageError
from medrecon.geometry import ParallelBeam
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.physics.attenuation import attenuation, mu_water
from medrecon.physics.beam_hardening import WaterCorrection
from medrecon.physics.counts import LineIntegrals, detect, line_integrals
from medrecon.physics.spectrum import Spectrum, tungsten_spectrum
from medrecon.units import per_mm_to_hu

# mass attenuation of liquid water, cm^2/g: Hubbell and Seltzer, NISTIR 5632, table 4
NIST_WATER = {20: 0.8096, 30: 0.3756, 40: 0.2683, 50: 0.2269, 60: 0.2059, 80: 0.1837, 100: 0.1707}
NIST_ALUMINIUM = {30: 1.128, 60: 0.2778, 100: 0.1704}  # table 3


def tables() -> None:
    pytest.importorskip("xraylib", reason="the extra 'spectra' is not installed")


def tube(kvp: float = 120.0) -> Spectrum:
    tables()
    pytest.importorskip("spekpy", reason="the extra 'spectra' is not installed")
    return tungsten_spectrum(kvp, filters={"Al": 6.0})


def detected() -> Spectrum:
    return tube().absorbed_in("CsI", 0.6, density=4.51).integrating()


def test_attenuation_is_that_of_the_published_tables():
    tables()
    for energy, expected in NIST_WATER.items():
        assert mu_water(energy) == pytest.approx(expected / 10, rel=1e-3)
    energies = np.array(list(NIST_ALUMINIUM))
    expected = np.array(list(NIST_ALUMINIUM.values())) * 2.699 / 10
    np.testing.assert_allclose(attenuation("Al", energies), expected, rtol=3e-3)
    named = attenuation("Water, Liquid", [[50.0]])
    assert named.shape == (1, 1)
    assert named.item() == pytest.approx(mu_water(50.0), rel=1e-3)


def test_materials_energies_and_densities_that_are_not_tabulated_are_named():
    tables()
    with pytest.raises(UsageError, match="'Unobtainium'"):
        attenuation("Unobtainium", 50.0)
    with pytest.raises(UsageError, match="density of 'CsI'"):
        attenuation("CsI", 50.0)
    with pytest.raises(InconsistentError, match="1 to 800 keV"):
        mu_water(60e3)


@pytest.mark.parametrize("module", ["xraylib", "spekpy"])
def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, module: str):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=r"pip install 'medrecon\[spectra\]'"):
        mu_water(60.0) if module == "xraylib" else tungsten_spectrum(120, filters={"Al": 6.0})


def test_a_tungsten_tube_ends_at_its_voltage_and_shows_its_lines():
    beam = tube()
    energies, shares = np.array(beam.energies), beam.shares
    assert 119 < energies[-1] < 120
    assert 55 < beam.mean_energy < 65
    line = shares[np.abs(energies - 59.3).argmin()]  # K-alpha 1 of tungsten, 59.3 keV
    assert line > 1.5 * shares[np.abs(energies - 55.5).argmin()]
    assert beam.through("Cu", 1.0).mean_energy > beam.mean_energy + 5
    with pytest.raises(UsageError, match="5 kV"):
        tungsten_spectrum(5, filters={"Al": 1.0})


def test_one_energy_gives_ordinary_line_integrals():
    mono = Spectrum(energies=(60.0,), signal=(7.0,))
    lengths = torch.linspace(0, 300, 7)
    torch.testing.assert_close(mono.line_integrals(lengths, [0.02]), 0.02 * lengths)
    with pytest.raises(InconsistentError, match="as many attenuation"):
        mono.line_integrals(lengths, [0.02, 0.03])


@pytest.mark.parametrize(
    ("energies", "signal"),
    [((), ()), ((1.0, 2.0), (1.0,)), ((2.0, 1.0), (1.0, 1.0)), ((1.0,), (-1.0,)), ((1.0,), (0.0,)),
     ((math.nan,), (1.0,)), ((-1.0, 2.0), (1.0, 1.0))],
)  # fmt: skip
def test_numbers_that_are_no_spectrum_are_inconsistent(energies: Any, signal: Any):
    with pytest.raises(InconsistentError):
        Spectrum(energies=energies, signal=signal)


def water_cylinder(radius: float) -> tuple[Tensor, ParallelBeam, Grid]:
    """Chords through a centred cylinder, averaged over each cell, mm."""
    geometry = ParallelBeam(angles=equiangular(240, arc=math.pi), columns=256, column_spacing=1.0)
    fine = (torch.arange(256 * 8, dtype=torch.float64) - (256 * 8 - 1) / 2) / 8
    chords = 2 * (radius**2 - fine**2).clamp_min(0).sqrt().view(256, 8).mean(1)
    return chords.expand(1, 240, 256), geometry, Grid.centred((1, 128, 128), (1.0, 2.0, 2.0))


def rings(image: Tensor, grid: Grid, radius: float) -> tuple[float, float]:
    """Mean of the middle, and near the rim."""
    away = (torch.arange(128, dtype=torch.float64) - 63.5) * grid.spacing[1]
    r = (away[:, None].square() + away[None].square()).sqrt()
    inner, outer = r < 0.2 * radius, (r > 0.75 * radius) & (r < 0.88 * radius)
    return float(image[0][inner].mean()), float(image[0][outer].mean())


@pytest.mark.parametrize("source", ["spectrum", "calibration"])
def test_the_correction_takes_the_cupping_out_of_water_and_its_hu_are_zero(source: str):
    beam, radius = detected(), 110.0
    mu = attenuation("H2O", beam.energies)
    if source == "spectrum":
        correct = WaterCorrection.from_spectrum(beam, thickness=250.0, mu_water=mu_water(70.0))
    else:
        slabs = torch.linspace(10, 250, 25, dtype=torch.float64)
        seen = beam.line_integrals(slabs, mu)
        correct = WaterCorrection.from_calibration(
            slabs.tolist(), seen.tolist(), mu_water=mu_water(70.0)
        )
    lengths, geometry, grid = water_cylinder(radius)
    p = beam.line_integrals(lengths, mu)
    before, after = (rings(fbp(values, geometry, grid), grid, radius) for values in (p, correct(p)))
    assert 1 - before[0] / before[1] > 0.02  # the oracle is not blind: 20 HU of cupping and more
    assert abs(1 - after[0] / after[1]) < 0.005
    for value in after:
        assert per_mm_to_hu(value, mu_water(70.0)) == pytest.approx(0, abs=5)


def test_thin_objects_stay_as_they_are_by_default():
    correct = WaterCorrection.from_spectrum(detected())
    assert correct.error < 1e-3
    thin = torch.tensor([1e-3, 1e-2], dtype=torch.float64)
    torch.testing.assert_close(correct(thin), thin, rtol=3e-3, atol=0)
    slabs = np.linspace(5, 300, 40)
    beam = detected()
    seen = beam.line_integrals(torch.from_numpy(slabs), attenuation("H2O", beam.energies))
    fitted = WaterCorrection.from_calibration(slabs.tolist(), seen.tolist(), degree=4)
    assert fitted.mu_water == pytest.approx(correct.mu_water, rel=0.01)


def test_beyond_its_limits_the_correction_goes_on_straight():
    correct = WaterCorrection(coefficients=(1.0, 0.1), mu_water=0.02, limit=4.0)
    p = torch.tensor([-1.0, 0.0, 1.0, 4.0, 5.0], dtype=torch.float64)
    expected = torch.tensor([-1.0, 0.0, 1.1, 5.6, 5.6 + 1.8], dtype=torch.float64)
    torch.testing.assert_close(correct(p), expected)


def test_corrected_weights_are_still_inverse_variances():
    correct = WaterCorrection(coefficients=(1.0, 0.05), mu_water=0.02, limit=6.0)
    p = torch.full((100, 10, 100), 3.0)
    counts = detect(p, 1e5, generator=torch.Generator().manual_seed(0))
    scan: LineIntegrals = correct.apply(line_integrals(counts, 1e5))
    squares = (scan.values - correct(p)).square() * scan.weights
    assert float(squares.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("thicknesses", "measured"),
    [([10, 20, 30], [0.2, 0.4, 0.6]), ([10, 20, 30, 40], [0.2, 0.4, 0.3, 0.6]),
     ([0, 10, 20, 30], [0.0, 0.2, 0.3, 0.4]), ([10, 20, 30, 40], [0.2, 0.4, 0.6])],
)  # fmt: skip
def test_calibrations_that_do_not_grow_or_are_too_short_are_refused(thicknesses, measured):
    with pytest.raises(InconsistentError, match="calibration of degree 3"):
        WaterCorrection.from_calibration(thicknesses, measured)


def test_a_polynomial_that_turns_back_is_refused():
    with pytest.raises(InconsistentError, match="does not grow"):
        WaterCorrection(coefficients=(1.0, -0.2), mu_water=0.02, limit=4.0)
