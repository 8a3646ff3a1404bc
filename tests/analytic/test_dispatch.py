"""One entry for every geometry, and every geometry the right way up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from medrecon.analytic import analytic, method_for
from medrecon.analytic.fbp import fbp
from medrecon.analytic.fdk import fdk
from medrecon.analytic.helical import helical
from medrecon.errors import InconsistentError, UsageError
from medrecon.geometry.ct import (
    ConeBeam,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    equiangular,
)
from medrecon.grid import Grid
from tests.contracts import distance
from tests.oracles import Gaussian, line_integrals

TURN = equiangular(90)
BACK = tuple(-a for a in TURN)
HALF = equiangular(60, arc=math.pi, start=0.5)
COLUMNS: dict[str, Any] = {"columns": 64, "column_spacing": 3.4}
ROWS: dict[str, Any] = {"rows": 24, "row_spacing": 3.4}
SOURCE: dict[str, Any] = {"source_to_axis": 300.0, "source_to_detector": 510.0}
ARC: dict[str, Any] = {"detector_radius": 510.0}
PARALLEL: dict[str, Any] = {"columns": 64, "column_spacing": 2.0, "angles": HALF}
HELIX: dict[str, Any] = SOURCE | COLUMNS | ROWS | ARC | {"turns": 3.2, "views_per_turn": 60}
UP, DOWN = ConeBeam.helical(pitch=40.0, **HELIX), ConeBeam.helical(pitch=-40.0, **HELIX)

SCANS: dict[str, tuple[str, CTGeometry]] = {
    "parallel": ("fbp", ParallelBeam(**PARALLEL)),
    "parallel, backwards": ("fbp", ParallelBeam(**PARALLEL | {"angles": BACK})),
    "parallel with rows": ("fbp", ParallelBeam3D(**PARALLEL, rows=24, row_spacing=2.0)),
    "parallel vectors": ("fbp", ParallelBeam3D(**PARALLEL, rows=24, row_spacing=2.0).vectors()),
    "fan": ("fbp", FanBeam(angles=TURN, **SOURCE, **COLUMNS)),
    "fan, backwards": ("fbp", FanBeam(angles=BACK, **SOURCE, **COLUMNS)),
    "arc": ("fbp", FanBeam(angles=TURN, **SOURCE, **COLUMNS, **ARC)),
    "cone": ("fdk", ConeBeam(angles=TURN, **SOURCE, **COLUMNS, **ROWS)),
    "cone, backwards": ("fdk", ConeBeam(angles=BACK, **SOURCE, **COLUMNS, **ROWS)),
    "cylinder": ("fdk", ConeBeam(angles=TURN, **SOURCE, **COLUMNS, **ROWS, **ARC)),
    "gantry at 6 mm": (
        "fdk",
        ConeBeam(angles=TURN, heights=(6.0,) * 90, **SOURCE, **COLUMNS, **ROWS),
    ),
    "arm that sags with its angle": (
        "fdk",
        ConeBeam(
            angles=TURN, heights=tuple(0.05 * v for v in range(90)), **SOURCE, **COLUMNS, **ROWS
        ),
    ),
    "C-arm": (
        "fdk",
        ConeBeam(angles=TURN, **SOURCE, **COLUMNS, **ROWS).vectors().detector_turned(in_plane=0.05),
    ),
    "C-arm, detector upside down": (
        "fdk",
        ConeBeam(angles=BACK, **SOURCE, **COLUMNS, **ROWS).vectors().detector_turned(in_plane=3.1),
    ),
    "helix up": ("helical", UP),
    "helix down": ("helical", DOWN),
    "helix up, backwards": ("helical", replace(UP, angles=tuple(-a for a in UP.angles))),
    "helix down, backwards": ("helical", replace(DOWN, angles=tuple(-a for a in DOWN.angles))),
    "helix of vectors": ("helical", UP.vectors()),
}
GRID = Grid.centred((11, 33, 37), (4.0, 3.0, 2.7), center=(2.0, -3.0, 1.0))


def middle_of_mass(image: Tensor, grid: Grid) -> list[float]:
    """``(x, y, z)`` of the values above half of the largest, mm."""
    image = image.clamp(min=0) * (image > image.max() / 2)
    index = torch.stack(torch.meshgrid(*map(torch.arange, image.shape), indexing="ij"), -1)
    at = (index * image[..., None]).sum((0, 1, 2)) / image.sum()
    return [grid.origin[k] + float(at[2 - k]) * grid.spacing[2 - k] for k in range(3)]


@pytest.mark.parametrize("name", SCANS)
def test_a_blob_comes_out_where_it_is(name: str) -> None:
    """At the patient's left (+x), posterior (+y) and superior (+z), far from any symmetry."""
    method, scan = SCANS[name]
    assert method_for(scan) == method
    planar = isinstance(scan, ParallelBeam | FanBeam)
    grid = GRID.slab(5, 6) if planar else GRID
    place = (22.0, 11.0) if planar else (22.0, 11.0, 9.0)
    y = line_integrals(Gaussian(place, 6.0, 0.02), scan)
    image = analytic(y[None] if planar else y, scan, grid)
    assert middle_of_mass(image, grid)[: len(place)] == pytest.approx(place, abs=0.5)
    assert float(image.max()) == pytest.approx(0.02, rel=0.08)


@pytest.mark.parametrize("name", SCANS)
def test_the_entry_calls_the_method_it_names(name: str) -> None:
    method, scan = SCANS[name]
    planar = isinstance(scan, ParallelBeam | FanBeam)
    grid = Grid.centred((1 if planar else 2, 6, 6), (4.0, 4.0, 4.0))
    shape = (1, scan.views, 64) if planar else (scan.views, 24, 64)
    y = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    formulas: dict[str, Any] = {"fbp": fbp, "fdk": fdk, "helical": helical}
    assert distance(analytic(y, scan, grid, "hann"), formulas[method](y, scan, grid, "hann")) == 0
    assert distance(analytic(y, scan, grid), analytic(y, scan, grid, "hann")) > 0.1


@pytest.mark.parametrize("name", ["fan", "cylinder", "C-arm", "helix up"])
def test_bad_input_is_refused_in_a_sentence(name: str) -> None:
    _, scan = SCANS[name]
    planar = isinstance(scan, ParallelBeam | FanBeam)
    shape = (1, scan.views, 64) if planar else (scan.views, 24, 64)
    y, grid = torch.zeros(shape), GRID.slab(5, 6)
    with pytest.raises(UsageError, match="shepp-logan"):
        analytic(y, scan, grid, "hamming")
    with pytest.raises(InconsistentError, match="measurements of"):
        analytic(y[..., 1:], scan, grid)
    with pytest.raises(InconsistentError, match="axial grid"):
        analytic(y, scan, replace(grid, directions=((1, 0, 0), (0, 1, 0), (0, 0, 1))))
    with pytest.raises(InconsistentError, match="reaches the source"):
        analytic(y, scan, Grid.centred((1, 40, 40), (4.0, 15.0, 15.0)))
