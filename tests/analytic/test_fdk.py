"""FDK gives the true attenuation of a body whose line integrals are known exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medrecon.analytic.fbp import fbp
from medrecon.analytic.fdk import fdk
from medrecon.errors import InconsistentError
from medrecon.geometry.ct import ConeBeam, ConeVectors, FanBeam, equiangular
from medrecon.grid import Grid
from tests.contracts import distance
from tests.oracles import Ellipsoid, centres, line_integrals

CONE: dict[str, Any] = {
    "angles": equiangular(180),
    "source_to_axis": 300.0,
    "source_to_detector": 500.0,
    "rows": 60,
    "columns": 120,
    "row_spacing": 1.5,
    "column_spacing": 1.2,
}
CURVED: dict[str, Any] = CONE | {"detector_radius": 500.0}
FULL = CONE["angles"]
SHORT = equiangular(220, arc=math.radians(225), start=1.0)
SPOTS = [(1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (1.0, 2.0, 1.0), (-1.0, 0.0, 1.0)]

CONES: dict[str, ConeBeam] = {
    "full turn": ConeBeam(**CONE),
    "detector offset": ConeBeam(**CONE, row_offset=4.0, column_offset=6.0),
    "short scan": ConeBeam(**CONE | {"angles": SHORT}),
    "half fan": ConeBeam(**CONE | {"columns": 70}, column_offset=35.0),
    "curved": ConeBeam(**CURVED),
    "curved, offset": ConeBeam(**CURVED, row_offset=4.0, column_offset=6.0),
    "curved, short scan": ConeBeam(**CURVED | {"angles": SHORT}),
    "curved, half fan": ConeBeam(**CURVED | {"columns": 70}, column_offset=-35.0),
    "curved about the axis": ConeBeam(**CURVED | {"detector_radius": 300.0}),
    "gantry at another height": ConeBeam(**CURVED, heights=(12.0,) * 180, row_offset=-9.0),
    "uneven heights": ConeBeam(**CONE, heights=tuple(2 * math.sin(7 * a) for a in FULL)),
    "flying focal spot": ConeBeam(**CONE).flying(SPOTS),
    "curved, flying focal spot": ConeBeam(**CURVED).flying(SPOTS),
    "curved, flying focal spot, short scan": ConeBeam(**CURVED | {"angles": SHORT}).flying(SPOTS),
}
C_ARM = ConeBeam(**CONE | {"angles": SHORT}).vectors()
JITTER = tuple(map(tuple, np.random.default_rng(0).normal(0, 0.7, (220, 3)).tolist()))
POSES: dict[str, ConeVectors] = {
    "short scan": C_ARM,
    "jitter": C_ARM.translated(JITTER),
    "axis off the isocentre": C_ARM.translated((9.0, 6.0, -3.0)),
    "detector turned and shifted": C_ARM.detector_shifted(columns=3.0, rows=-4.0).detector_turned(
        in_plane=0.05, tilt=0.1, slant=-0.1
    ),
    "tilted gantry": C_ARM.rotated((1.0, 0.0, 0.0), 0.25),
    "upside down": C_ARM.detector_turned(in_plane=math.pi),
    "half fan": ConeBeam(**CONE | {"columns": 70}, column_offset=35.0)
    .vectors()
    .detector_turned(in_plane=0.02),
    "curved": ConeBeam(**CURVED).vectors(),
}
EGG = Ellipsoid((5.0, -6.0, 2.0), (18.0, 14.0, 15.0), 0.02, angle=0.4)


GRID = Grid.centred((12, 40, 40), (2.5, 1.5, 1.6), center=(4.0, -4.0, 2.0))
CORE = torch.from_numpy(Ellipsoid(EGG.center, (13.0, 9.0, 10.0), angle=0.4).at(centres(GRID))) > 0


@pytest.mark.parametrize("name", CONES)
def test_an_ellipsoid_has_its_value_inside(name: str) -> None:
    image = fdk(line_integrals(EGG, CONES[name], subcells=2), CONES[name], GRID) / EGG.value
    assert abs(float(image[CORE].mean()) - 1) < 5e-3
    assert float(image[CORE].std()) < 1e-2
    middle = image[4:7][CORE[4:7]]  # the slices next to the source's plane, without cone angle
    assert abs(float(middle.mean()) - 1) < 2e-3


@pytest.mark.parametrize("name", POSES)
def test_an_ellipsoid_has_its_value_inside_in_any_pose(name: str) -> None:
    image = fdk(line_integrals(EGG, POSES[name], subcells=2), POSES[name], GRID) / EGG.value
    assert abs(float(image[CORE].mean()) - 1) < 3e-3
    assert float(image[CORE].std()) < 1e-2


@pytest.mark.parametrize("radius", [math.inf, 350.0, 250.0])
def test_fdk_in_the_plane_of_the_source_is_fbp(radius: float) -> None:
    scan = FanBeam(
        angles=equiangular(120),
        source_to_axis=200.0,
        source_to_detector=350.0,
        columns=160,
        column_spacing=1.0,
        detector_radius=radius,
    )
    cone = ConeBeam(**vars(scan), rows=3, row_spacing=0.5)
    grid = Grid.centred((1, 40, 40), (1.0, 1.5, 1.5))
    y = line_integrals(Ellipsoid((10.0, -6.0), (22.0, 15.0), 0.02), scan)
    stacked = y[:, None, :].expand(-1, 3, -1)
    assert distance(fdk(stacked, cone, grid), fbp(y[None], scan, grid)) < 1e-6


@pytest.mark.parametrize("name", ["short scan", "half fan"])
def test_a_scanner_said_view_by_view_gives_the_same_volume(name: str) -> None:
    """By rows along z, and by the general kernel for detectors in any pose."""
    scan = CONES[name]
    y = line_integrals(EGG, scan)
    image, vectors = fdk(y, scan, GRID), scan.vectors()
    assert distance(fdk(y, vectors, GRID), image) < 1e-6
    assert distance(fdk(y, vectors.detector_turned(tilt=1e-7), GRID), image) < 1e-5


def test_voxels_beside_the_detector_are_zero() -> None:
    scan = ConeBeam(**CONE)
    above = Grid.centred((3, 8, 8), (2.0, 2.0, 2.0), center=(0.0, 0.0, 90.0))
    for same in (scan, scan.vectors().detector_turned(tilt=1e-7)):
        assert float(fdk(torch.ones(180, 60, 120), same, above).abs().max()) == 0


def test_batches_precision_and_noise_pass_through() -> None:
    grid = Grid.centred((4, 8, 8), (1.0, 1.0, 1.0))
    y = torch.randn(2, 180, 60, 120, generator=torch.Generator().manual_seed(0))
    for scan in (ConeBeam(**CONE), ConeBeam(**CURVED), ConeBeam(**CONE).flying(SPOTS)):
        both = fdk(y, scan, grid)
        assert both.shape == (2, 4, 8, 8)
        assert both.dtype == torch.float32
        assert both.isfinite().all()
        assert distance(both[1].double(), fdk(y[1].double(), scan, grid)) < 1e-5


def test_what_is_no_circle_is_refused_in_a_sentence() -> None:
    def refused(scan: ConeVectors | ConeBeam, why: str) -> None:
        with pytest.raises(InconsistentError, match=why):
            fdk(torch.zeros(scan.views, scan.rows, scan.columns), scan, GRID)

    arc = np.array(C_ARM.sources)
    pushed = arc * np.where(np.arange(220) % 2, 1.0, 1.3)[:, None]
    refused(replace(C_ARM, sources=tuple(map(tuple, pushed.tolist()))), "from a circle of radius")
    wobble = 40 * np.sin(np.arange(220) / 3)
    refused(ConeBeam(**CONE | {"angles": SHORT}, heights=tuple(wobble.tolist())), "above or below")
    refused(C_ARM.detector_turned(in_plane=0.6), "rows are turned by 34 degrees")
    refused(ConeBeam(**CURVED).vectors().detector_turned(tilt=0.1), "axis along z")
    refused(C_ARM[:2], "at least 3 views")
    with pytest.raises(InconsistentError, match="measurements of fdk"):
        fdk(torch.zeros(180, 59, 120), ConeBeam(**CONE), GRID)
