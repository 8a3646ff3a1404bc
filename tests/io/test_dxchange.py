"""DXchange: counts become line integrals, the axis is found, and wrong units are noticed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import ParallelBeam
from medrecon.io.dxchange import read_dxchange

TOOTH = Path(__file__).parents[2] / ".." / "shared" / "data" / "raw" / "ct" / "tooth_parallel.h5"
VIEWS, ROWS, COLUMNS = 90, 3, 120
AXIS = 55.3  # column of the rotation axis
# x, y, radius, attenuation of discs, in columns and 1/column: nothing symmetric
DISCS = [(0.0, 0.0, 40.0, 0.01), (12.0, -20.0, 6.0, 0.03), (-15.0, 9.0, 9.0, -0.008)]


def sinogram(arc: float = math.pi) -> np.ndarray:
    """Exact line integrals of discs, ``(views, columns)``."""
    angles = arc * np.arange(VIEWS) / VIEWS
    u = np.arange(COLUMNS) - AXIS
    total = np.zeros((VIEWS, COLUMNS))
    for x, y, radius, mu in DISCS:
        away = u[None] - (x * np.cos(angles) + y * np.sin(angles))[:, None]
        total += mu * 2 * np.sqrt(np.clip(radius**2 - away**2, 0, None))
    return total


def write(path: Path, edit: Callable[[Any], object] = lambda f: None) -> Path:
    flat = 1000.0 + 200 * np.sin(np.arange(COLUMNS))
    lines = sinogram()[:, None] * np.array([1.0, 0.5, 0.2])[:, None]
    with h5py.File(path, "w") as file:
        file["exchange/data"] = (100 + (flat - 100) * np.exp(-lines)).astype(np.float32)
        file["exchange/data_white"] = np.tile(flat, (4, ROWS, 1)).astype(np.float32)
        file["exchange/data_dark"] = np.full((2, ROWS, COLUMNS), 100, np.uint16)
        file["exchange/theta"] = 180.0 * np.arange(VIEWS) / VIEWS
        file["measurement/instrument/detector/pixel_size"] = 5.0
        file["measurement/instrument/detector/pixel_size"].attrs["units"] = "um"
        edit(file)
    return path


def swap(file: Any, name: str, values: Any) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = values
    file[name].attrs.update(attributes)


def test_counts_become_line_integrals_weights_and_radians(tmp_path: Path):
    study = read_dxchange(write(tmp_path / "d.h5"), column_offset=0.001)
    expected = sinogram() * np.array([1.0, 0.5, 0.2])[:, None, None]
    np.testing.assert_allclose(study.measurements, expected, atol=1e-4)
    assert study.weights is not None
    flat = 900 + 200 * np.sin(np.arange(COLUMNS))
    np.testing.assert_allclose(study.weights, flat * np.exp(-expected), rtol=1e-4)
    assert isinstance(study.geometry, ParallelBeam)
    assert study.geometry.angles[45] == pytest.approx(math.pi / 2)
    assert study.geometry.column_spacing == pytest.approx(0.005)
    assert study.geometry.column_offset == 0.001


def test_a_missing_offset_is_estimated_and_said(tmp_path: Path):
    with pytest.warns(UserWarning, match=r"column 55\.[2345]"):
        study = read_dxchange(write(tmp_path / "d.h5"))
    assert isinstance(study.geometry, ParallelBeam)
    expected = ((COLUMNS - 1) / 2 - AXIS) * 0.005
    assert study.geometry.column_offset == pytest.approx(expected, abs=0.2 * 0.005)


def test_a_missing_pixel_size_is_one_millimetre_and_said(tmp_path: Path):
    path = write(tmp_path / "d.h5", lambda f: f.__delitem__("measurement"))
    with pytest.warns(UserWarning, match="1 mm"):
        study = read_dxchange(path, column_offset=0.0)
    assert isinstance(study.geometry, ParallelBeam)
    assert study.geometry.column_spacing == 1.0


def test_samples_below_dark_get_no_weight_and_a_finite_value(tmp_path: Path):
    path = write(tmp_path / "d.h5", lambda f: f["exchange/data"].__setitem__((3, 1, 7), 90))
    with pytest.warns(UserWarning, match="1 samples"):
        study = read_dxchange(path, column_offset=0.0)
    assert study.weights is not None
    assert study.weights[1, 3, 7] == 0
    assert study.measurements[1, 3, 7] == pytest.approx(math.log(900 + 200 * math.sin(7)), rel=1e-4)


def degrees_called_radians(file: Any) -> None:
    swap(file, "exchange/theta", np.pi * np.arange(VIEWS) / (VIEWS - 1))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda f: f.__delitem__("exchange/data_white"), "data_white is missing"),
        (lambda f: swap(f, "exchange/data_white", np.zeros((4, ROWS, COLUMNS))), "not above darks"),
        (lambda f: swap(f, "exchange/data_white", np.ones((4, ROWS, 7))), "differ"),
        (
            lambda f: swap(f, "exchange/data", np.zeros((VIEWS, ROWS, COLUMNS))),
            "not above the dark",
        ),
        (lambda f: f["exchange/data"].__setitem__((0, 0, 0), np.nan), "NaN"),
        (lambda f: swap(f, "exchange/theta", np.arange(7.0)), "7 angles"),
        (lambda f: swap(f, "exchange/theta", [b"a"]), "theta"),
        (degrees_called_radians, "seems to be in rad"),
        (lambda f: swap(f, "measurement/instrument/detector/pixel_size", -1.0), "pixel_size"),
    ],
)
def test_59_60_contradictions_are_inconsistent(
    tmp_path: Path, edit: Callable[[Any], object], words: str
):
    with pytest.raises(InconsistentError, match=words):
        read_dxchange(write(tmp_path / "d.h5", edit), column_offset=0.0)


def test_other_hdf5_is_unreadable(tmp_path: Path):
    path = write(tmp_path / "d.h5", lambda f: f.__delitem__("exchange"))
    with pytest.raises(UnreadableError, match="exchange/data"):
        read_dxchange(path)


@pytest.mark.skipif(not TOOTH.is_file(), reason="the tooth of ../shared/data is not here")
def test_the_axis_of_the_measured_tooth_is_near_column_296():
    with pytest.warns(UserWarning, match=r"1 mm|column"):
        study = read_dxchange(TOOTH)
    assert study.measurements.shape == (2, 181, 640)
    assert isinstance(study.geometry, ParallelBeam)
    assert 319.5 - study.geometry.column_offset == pytest.approx(296, abs=0.5)
