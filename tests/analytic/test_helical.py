"""Helical scans: the true attenuation at every pitch, either way along and around the axis."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medrecon.analytic.fdk import fdk
from medrecon.analytic.helical import helical
from medrecon.errors import InconsistentError
from medrecon.geometry.ct import ConeBeam
from medrecon.grid import Grid
from tests.contracts import distance
from tests.oracles import Ellipsoid, centres, line_integrals

SCANNER: dict[str, Any] = {
    "source_to_axis": 300.0,
    "source_to_detector": 500.0,
    "detector_radius": 500.0,
    "rows": 16,
    "columns": 80,
    "row_spacing": 3.0,
    "column_spacing": 2.7,
}
HEIGHT = 16 * 3.0 * 300 / 500  # of the detector at the axis, mm
BODY = Ellipsoid((6.0, -8.0, 2.0), (36.0, 24.0, 60.0), 0.02, angle=0.4)
CORE = Ellipsoid((6.0, -8.0, 2.0), (30.0, 18.0, 20.0), angle=0.4)
GRID = Grid.centred((12, 40, 44), (2.5, 2.0, 2.1), center=(4.0, -6.0, 3.0))


def helix(pitch: float, **changes: Any) -> ConeBeam:
    """A helix of a relative pitch that sees the slices between -20 and 25 mm."""
    turns = 1.6 + 45 / HEIGHT / abs(pitch)
    scanner = SCANNER | {"middle": 2.5, "start_angle": 1.0} | changes
    return ConeBeam.helical(pitch=pitch * HEIGHT, turns=turns, views_per_turn=96, **scanner)


def backwards(scan: ConeBeam) -> ConeBeam:
    """The gantry turns the other way."""
    return replace(scan, angles=tuple(-a for a in scan.angles))


def uneven(scan: ConeBeam) -> ConeBeam:
    """The table runs up to 2 mm ahead and behind."""
    z = np.array(scan.heights)
    return replace(scan, heights=tuple((z + 2.0 * np.sin(z / 6)).tolist()))


SCANS = {
    "pitch 0.5": helix(0.5),
    "pitch 1": helix(1.0),
    "pitch 1.5": helix(1.5),
    "pitch 1, downwards": helix(-1.0),
    "pitch 1, the other way round": backwards(helix(1.0)),
    "pitch 1, downwards, the other way round": backwards(helix(-1.0)),
    "flat detector": helix(1.0, detector_radius=math.inf),
    "flat detector, pitch 1.4": helix(1.4, detector_radius=math.inf),
    "detector about the axis": helix(1.0, detector_radius=350.0),
    "quarter of a column, rows offset": helix(1.0, column_offset=0.675, row_offset=5.0),
    "uneven feed": uneven(helix(1.0)),
    "flying focal spot": helix(1.0).flying([(0.7, 0.0, 0.0), (-0.7, 0.0, 0.8)]),
}


@pytest.mark.parametrize("name", SCANS)
def test_an_ellipsoid_has_its_value_inside(name: str) -> None:
    image = helical(line_integrals(BODY, SCANS[name], subcells=2), SCANS[name], GRID) / BODY.value
    roi = image[torch.from_numpy(CORE.at(centres(GRID))) > 0]
    assert abs(float(roi.mean()) - 1) < 2e-3
    assert float(roi.std()) < 1e-2


def test_the_same_scan_view_by_view_gives_the_same_volume() -> None:
    scan = SCANS["pitch 1"]
    y = line_integrals(BODY, scan)
    assert distance(helical(y, scan, GRID), helical(y, scan.vectors(), GRID)) < 1e-6


def test_slices_beyond_the_scan_are_zero() -> None:
    scan = SCANS["pitch 1"]
    beyond = GRID.shifted((0.0, 0.0, 200.0))
    assert float(helical(torch.ones(scan.views, 16, 80), scan, beyond).abs().max()) == 0


def test_noise_batches_and_precision_pass_through() -> None:
    scan = SCANS["pitch 1.5"]
    grid = Grid.centred((4, 10, 10), (4.0, 5.0, 5.0))
    y = torch.randn(2, scan.views, 16, 80, generator=torch.Generator().manual_seed(0))
    both = helical(y, scan, grid)
    assert both.shape == (2, 4, 10, 10)
    assert both.dtype == torch.float32
    assert both.isfinite().all()
    assert distance(both[1], helical(y[1].double(), scan, grid).float()) < 1e-5


def test_bad_scans_are_refused_in_a_sentence() -> None:
    grid = Grid.centred((2, 8, 8), (4.0, 5.0, 5.0))

    def refused(scan: ConeBeam, why: str) -> None:
        with pytest.raises(InconsistentError, match=why):
            helical(torch.zeros(scan.views, scan.rows, scan.columns), scan, grid)

    refused(SCANS["pitch 1"][:40], "needs half a turn and the fan")
    refused(helix(1.0, column_offset=40.0), "needs both alike")
    scan = SCANS["pitch 1"]
    angles = list(scan.angles)
    angles[5], angles[6] = angles[6], angles[5]
    refused(replace(scan, angles=tuple(angles)), "back and forth")
    with pytest.raises(InconsistentError, match="measurements of helical"):
        helical(torch.zeros(scan.views, 15, 80), scan, grid)
    with pytest.raises(InconsistentError, match="use helical"):
        fdk(torch.zeros(scan.views, 16, 80), scan, grid)
