"""Rows 69 to 74 of the bad inputs: numbers that are not what they are said to be are refused."""

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError
from medrecon.geometry import ConeBeam, FanBeam, ParallelBeam
from medrecon.geometry.ct import ParallelBeam3D, equiangular
from medrecon.io.plausible import check_angles, check_ct_study
from medrecon.study import Study
from tests.physics.test_rotation_centre import FAN, SCANS, measured

FILE = Path("scan.h5")
TURN = 2 * math.pi


def study(values: torch.Tensor, geometry: Any = SCANS["fan, full turn"], **more: Any) -> Study:
    return Study(measurements=values, geometry=geometry, grid=None, **more)


@pytest.mark.parametrize("name", list(SCANS))
def test_good_scans_pass_without_a_word(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scan = study(measured(SCANS[name]).float(), SCANS[name])
        assert check_ct_study(scan, FILE) is scan


HELIX = ConeBeam.helical(pitch=38.4, turns=12, views_per_turn=64, rows=32, row_spacing=2.0, **FAN)


@pytest.mark.parametrize(
    "angles",
    [
        equiangular(180, arc=math.pi),
        equiangular(180, arc=math.pi)[::-1],
        equiangular(8),
        equiangular(360, start=-9.0),
        equiangular(60 * 1000, arc=60 * TURN),  # a dynamic scan
        [v * math.pi * (3 - 5**0.5) for v in range(500)],  # golden angles, not wrapped
        [v * math.pi * (5**0.5 - 1) / 2 for v in range(500)],
        [0.3],
        np.deg2rad(np.arange(-20, 20.5, 0.5)),
    ],
)
def test_angles_of_every_order_and_number_of_turns_pass(angles: Any):
    check_angles(angles, FILE)


def test_a_helix_of_many_turns_passes_and_degrees_along_it_do_not():
    check_ct_study(study(torch.zeros(HELIX.views, 32, 300), HELIX), FILE)
    in_degrees = replace(HELIX, angles=tuple(math.degrees(a) for a in HELIX.angles))
    with pytest.raises(InconsistentError, match=r"686\.7 turns; the angles seem to be deg"):
        check_ct_study(study(torch.zeros(HELIX.views, 32, 300), in_degrees), FILE)


@pytest.mark.parametrize(
    "degrees",
    [
        np.arange(360.0),
        np.arange(0, 180, 0.25),
        np.arange(180.0)[::-1],
        np.arange(-10, 10.5, 0.5),
        np.arange(0, 360, 30.0),
    ],
)
def test_71_degrees_taken_for_radians_are_noticed(degrees: Any):
    with pytest.raises(InconsistentError, match="they seem to be degrees"):
        check_angles(degrees, FILE)


@pytest.mark.parametrize("arc", [math.pi, TURN])
def test_71_radians_taken_for_degrees_are_noticed(arc: float):
    with pytest.raises(InconsistentError, match="rad already"):
        check_angles(np.deg2rad(equiangular(400, arc=arc)), FILE)


P = measured(SCANS["fan, full turn"]).float()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (3e4 * torch.exp(-P), "seem to be counts"),
        (100 * torch.exp(-0.3 * P) - 20, "seem to be counts"),
        (50_000 * (P - 1), "seem to be HU"),
        (torch.where(P > 0.5, 40.0, -1000.0), "seem to be HU"),
    ],
)
def test_69_counts_and_hu_are_not_line_integrals(values: torch.Tensor, words: str):
    with pytest.raises(InconsistentError, match=words):
        check_ct_study(study(values), FILE)


def test_69_transmissions_are_pointed_out():
    with pytest.warns(UserWarning, match="may be transmissions"):
        check_ct_study(study(torch.exp(-P)), FILE)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"column_offset": 241.0}, r"shifted by 241.00 mm, more than half its width \(240.00 mm\)"),
        ({"row_offset": -70.0}, r"shifted by -70.00 mm along z, more than its height \(64.00 mm\)"),
    ],
)
def test_72_detectors_beyond_themselves_are_inconsistent(change: dict[str, Any], words: str):
    scan = ConeBeam(angles=equiangular(20), rows=32, row_spacing=2.0, **FAN)
    with pytest.raises(InconsistentError, match=words):
        check_ct_study(study(torch.zeros(20, 32, 300), replace(scan, **change)), FILE)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(HELIX, heights=tuple(10 * h for h in HELIX.heights)),
        replace(HELIX, angles=tuple(np.deg2rad(HELIX.angles).tolist())),
    ],
)
def test_72_a_table_that_outruns_the_detector_is_inconsistent(wrong: ConeBeam):
    with pytest.raises(InconsistentError, match=r"mm per turn, .* \(35.6 mm\).* never seen"):
        check_ct_study(study(torch.zeros(HELIX.views, 32, 300), wrong), FILE)


def test_a_helix_of_few_views_per_turn_passes():
    sparse = ConeBeam.helical(pitch=20, turns=6, views_per_turn=12, rows=32, row_spacing=2.0, **FAN)
    check_ct_study(study(torch.zeros(72, 32, 300), sparse), FILE)


@pytest.mark.parametrize(
    ("geometry", "shape"),
    [
        (ParallelBeam(angles=(0.0, 1.0), columns=4, column_spacing=1.0), (1, 3, 4)),
        (FanBeam(angles=equiangular(9), **FAN), (9, 300)),
        (HELIX, (HELIX.views, 31, 300)),
        (
            ParallelBeam3D(
                angles=(0.0,), rows=2, columns=3, row_spacing=1.0, column_spacing=1.0
            ).vectors(),
            (1, 3, 2),
        ),
    ],
)
def test_74_geometry_and_data_of_different_shape_are_inconsistent(
    geometry: Any, shape: tuple[int, ...]
):
    with pytest.raises(InconsistentError, match="but the geometry says"):
        check_ct_study(study(torch.zeros(shape), geometry), FILE)


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (torch.full((1, 1, 1), -1.0), "zero or positive"),
        (torch.zeros(1, 1, 300), "some positive"),
        (torch.ones(1, 200, 299), "do not fit"),
        (torch.full((1, 1, 300), math.nan), "300 weights are NaN"),
    ],
)
def test_weights_that_are_no_inverse_variances_are_inconsistent(weights, words: str):
    with pytest.raises(InconsistentError, match=words):
        check_ct_study(study(P, weights=weights), FILE)
