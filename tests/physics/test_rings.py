"""Cells with wrong gain make rings; they vanish, and clean scans stay as they are."""

import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from medrecon.analytic.fbp import fbp
from medrecon.errors import InconsistentError, UsageError
from medrecon.geometry import ConeBeam, CTGeometry, FanBeam, ParallelBeam
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.physics.rings import remove_rings, remove_stripes
from tests.physics.test_rotation_centre import FAN, PARALLEL, measured, noisy

GRID = Grid.centred((1, 128, 128), (1.0, 1.7, 1.7))
WATER = 0.02  # 1/mm
SCANS: list[Any] = [
    ParallelBeam(angles=equiangular(180, arc=math.pi), **PARALLEL),
    FanBeam(angles=equiangular(240), **FAN),
]


def addends(columns: int) -> Tensor:
    """1 % of spread in gain, one cell 30 % too strong, three neighbours 20 % too weak."""
    gain = 1 + 0.01 * torch.randn(columns, generator=torch.Generator().manual_seed(0))
    gain[60] = 1.3
    gain[90:93] = 0.8
    return -gain.log()


def hu(difference: Tensor, geometry: Any) -> float:
    """RMS in the image, HU."""
    return float(fbp(difference, geometry, GRID).square().mean().sqrt()) / WATER * 1000


@pytest.mark.parametrize("photons", [math.inf, 2e4])
@pytest.mark.parametrize("geometry", SCANS, ids=["parallel", "fan"])
def test_rings_of_gain_errors_vanish_and_the_object_stays(geometry: Any, photons: float):
    p = measured(geometry).float()
    clean = p if math.isinf(photons) else noisy(p, photons)
    rings = clean + addends(geometry.columns)
    before = hu(rings - clean, geometry)
    after = hu(remove_rings(rings, geometry) - clean, geometry)
    assert before > 50
    # What is left is the part of the errors that is smooth along the detector, as an object is.
    assert after < 0.4 * before
    sharp = torch.zeros_like(p)
    sharp[..., [60, 90, 91, 92]] = addends(geometry.columns)[[60, 90, 91, 92]]
    assert hu(remove_rings(clean + sharp, geometry) - clean, geometry) < 0.05 * before
    assert hu(remove_rings(clean, geometry) - clean, geometry) < 0.5


def test_a_centred_cylinder_the_worst_case_changes_little():
    geometry = SCANS[0]
    columns = torch.arange(geometry.columns) - (geometry.columns - 1) / 2
    half = 2 * WATER * (90.0**2 - (1.2 * columns) ** 2).clamp_min(0).sqrt()
    p = noisy(half.expand(1, 180, geometry.columns), 2e4)
    assert hu(remove_rings(p, geometry) - p, geometry) < 5


def test_rows_of_a_detector_are_corrected_each_for_itself():
    geometry = ConeBeam(angles=equiangular(60), rows=3, row_spacing=2.0, **FAN)
    p = noisy(measured(geometry).float(), 1e5)
    wrong = p.clone()
    wrong[:, 1, 40] += 0.3
    fixed = remove_rings(wrong, geometry)
    torch.testing.assert_close(fixed[:, 1, 40], p[:, 1, 40], atol=0.02, rtol=0)
    torch.testing.assert_close(fixed[:, 0], remove_rings(p, geometry)[:, 0])
    assert fixed.shape == p.shape


def test_the_library_takes_out_cells_that_stick():
    pytest.importorskip("algotom", reason="the extra 'rings' is not installed")
    geometry = SCANS[1]
    clean = noisy(measured(geometry).float(), 2e4)
    wrong = clean.clone()
    wrong[..., 120] = 2.0  # the same value whatever is behind
    column = slice(117, 124)
    fixed = remove_stripes(wrong, geometry, large=21, small=9)
    before, after = ((v - clean)[..., column].abs().mean() for v in (wrong, fixed))
    assert float(after) < 0.5 * float(before)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "algotom.prep.removal", None)
    with pytest.raises(UsageError, match=r"pip install 'medrecon\[rings\]'"):
        remove_stripes(torch.zeros(1, 180, 200), SCANS[0])


@pytest.mark.parametrize(
    ("geometry", "shape", "words"),
    [
        (SCANS[0], (1, 180, 199), "do not fit 180 views of 200"),
        (SCANS[0][:9], (1, 9, 200), "9 views; at least 10"),
        (
            ConeBeam(angles=equiangular(20), rows=3, row_spacing=1.0, **FAN),
            (3, 20, 300),
            "20 views",
        ),
    ],
)
def test_what_cannot_be_corrected_is_inconsistent(
    geometry: CTGeometry, shape: tuple[int, ...], words: str
):
    with pytest.raises(InconsistentError, match=words):
        remove_rings(torch.zeros(shape), geometry)


def test_an_even_width_is_a_usage_error():
    with pytest.raises(UsageError, match="odd"):
        remove_rings(torch.zeros(1, 180, 200), SCANS[0], width=8)
