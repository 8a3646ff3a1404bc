"""What a protocol does to measured line integrals before they are reconstructed."""

from __future__ import annotations

from dataclasses import replace

import torch

from medrecon.geometry import MRGeometry
from medrecon.physics.beam_hardening import WaterCorrection
from medrecon.physics.counts import LineIntegrals
from medrecon.physics.rings import remove_rings, remove_stripes
from medrecon.protocol import BeamHardening, Protocol, Rings
from medrecon.study import Study


def corrected(study: Study, protocol: Protocol) -> tuple[Study, tuple[str, ...]]:
    """Correct beam hardening, then rings, as the protocol says.

    A simulated scan has neither and stays as it is.

    Returns
    -------
    study : Study
        With corrected measurements and weights.
    done : tuple of str
        Names of the corrections, for the report.
    """
    done: list[str] = []
    if study.identity.simulated or isinstance(study.geometry, MRGeometry):
        return study, ()
    if protocol.beam_hardening is not None:
        study = _hardened(study, protocol.beam_hardening, protocol.mu_water_per_mm)
        done.append("beam_hardening")
    if protocol.rings is not None:
        study = _ringless(study, protocol.rings)
        done.append(f"rings ({protocol.rings.method})")
    return study, tuple(done)


def _hardened(study: Study, settings: BeamHardening, water: float) -> Study:
    correction = WaterCorrection(
        coefficients=settings.coefficients, mu_water=water, limit=settings.limit
    )
    values = study.measurements
    weights = torch.ones_like(values) if study.weights is None else study.weights
    scan = correction.apply(LineIntegrals(values=values, weights=weights.expand(values.shape)))
    known = None if study.weights is None else scan.weights
    return replace(study, measurements=scan.values, weights=known, mu_water=None)


def _ringless(study: Study, settings: Rings) -> Study:
    if isinstance(study.geometry, MRGeometry):
        return study
    if settings.method == "stripes":
        values = remove_stripes(study.measurements, study.geometry)
    else:
        values = remove_rings(study.measurements, study.geometry, width=settings.width)
    return replace(study, measurements=values)
