"""NXtomo: frames are told apart by their key, units are believed only where they can be true."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import ConeBeam, ParallelBeam
from medrecon.io.nxtomo import read_nxtomo
from medrecon.io.read import read_study
from tests.io.test_dxchange import COLUMNS, ROWS, VIEWS, sinogram, swap

# dark, flat, the first half of the views, a frame to be left out, the second half, flat
KEYS = np.array([2, 2, 1, *[0] * (VIEWS // 2), 3, *[0] * (VIEWS - VIEWS // 2), 1])
DETECTOR = "entry/instrument/detector"
HEIGHTS = np.array([1.0, 0.5, 0.2])


def counts() -> np.ndarray:
    """Frames in the order of the keys; the flat field fades by a fifth during the scan."""
    lines = sinogram()[:, None] * HEIGHTS[:, None]
    fading = 1 - 0.2 * (np.arange(VIEWS) + 0.5) / VIEWS
    frames = np.empty((len(KEYS), ROWS, COLUMNS))
    frames[KEYS == 2] = 100
    frames[KEYS == 1] = 100 + 50_000 * np.array([1.0, 0.8])[:, None, None]
    frames[KEYS == 3] = 7
    frames[KEYS == 0] = 100 + 50_000 * fading[:, None, None] * np.exp(-lines)
    return frames


def angles_of_frames() -> np.ndarray:
    angles = np.zeros(len(KEYS))
    angles[KEYS == 0] = 180.0 * np.arange(VIEWS) / VIEWS
    return angles


def write(path: Path, edit: Callable[[Any], object] = lambda f: None) -> Path:
    with h5py.File(path, "w") as file:
        file["entry/definition"] = "NXtomo"
        file[f"{DETECTOR}/data"] = counts().astype(np.float32)
        file[f"{DETECTOR}/image_key"] = KEYS
        for axis in "xy":
            file[f"{DETECTOR}/{axis}_pixel_size"] = 5e-6
            file[f"{DETECTOR}/{axis}_pixel_size"].attrs["units"] = "m"
        file["entry/sample/rotation_angle"] = angles_of_frames()
        file["entry/sample/rotation_angle"].attrs["units"] = "degree"
        edit(file)
    return path


def test_projections_flats_and_darks_are_told_apart_and_the_fading_beam_followed(tmp_path: Path):
    study = read_nxtomo(write(tmp_path / "n.nx"), column_offset=0.001)
    expected = sinogram() * HEIGHTS[:, None, None]
    np.testing.assert_allclose(study.measurements, expected, atol=1e-4)
    fading = 1 - 0.2 * (np.arange(VIEWS) + 0.5) / VIEWS
    assert study.weights is not None
    quanta = 50_000 * fading[:, None] * np.exp(-expected)
    np.testing.assert_allclose(study.weights, quanta, rtol=1e-4)
    geometry = study.geometry
    assert isinstance(geometry, ParallelBeam)
    assert geometry.angles[45] == pytest.approx(math.pi / 2)
    assert geometry.column_spacing == pytest.approx(0.005)
    assert geometry.column_offset == 0.001


def test_it_is_recognised_and_its_axis_estimated(tmp_path: Path):
    with pytest.warns(UserWarning, match=r"column 55\.[234]"):
        study = read_study(write(tmp_path / "anything"))
    assert study.measurements.shape == (ROWS, VIEWS, COLUMNS)


def in_radians(file: Any) -> None:
    swap(file, "entry/sample/rotation_angle", np.deg2rad(angles_of_frames()))
    file["entry/sample/rotation_angle"].attrs["units"] = "rad"


def test_radians_are_taken_where_they_are_said(tmp_path: Path):
    degrees = read_nxtomo(write(tmp_path / "d.nx"), column_offset=0.0)
    radians = read_nxtomo(write(tmp_path / "r.nx", in_radians), column_offset=0.0)
    assert radians.geometry.angles == pytest.approx(degrees.geometry.angles)  # type: ignore[union-attr]


def distances(file: Any, source: float, detector: float) -> None:
    for name, value in (("source", source), ("detector", detector)):
        file[f"entry/instrument/{name}/distance"] = value
        file[f"entry/instrument/{name}/distance"].attrs["units"] = "mm"


def test_the_beam_is_a_cone_where_its_divergence_is_seen(tmp_path: Path):
    # 0.6 mm of detector: 200 mm away the rays of a cell part by 5 % of it, 1 mm away by 8 cells
    path = write(tmp_path / "far.nx", lambda f: distances(f, -200.0, 100.0))
    assert isinstance(read_nxtomo(path, column_offset=0.0).geometry, ParallelBeam)
    path = write(tmp_path / "near.nx", lambda f: distances(f, -2.0, 1.0))
    study = read_nxtomo(path, column_offset=0.02)
    assert study.geometry == ConeBeam(
        angles=tuple(np.deg2rad(180.0 * np.arange(VIEWS) / VIEWS).tolist()),
        source_to_axis=2.0,
        source_to_detector=3.0,
        rows=ROWS,
        columns=COLUMNS,
        row_spacing=0.005,
        column_spacing=0.005,
        column_offset=0.02,
    )
    assert study.measurements.shape == (VIEWS, ROWS, COLUMNS)


def without(keys: int) -> Callable[[Any], object]:
    return lambda f: swap(f, f"{DETECTOR}/image_key", np.where(keys == KEYS, 3, KEYS))


def degrees_that_are_radians(file: Any) -> None:
    angles = np.zeros(len(KEYS))
    angles[KEYS == 0] = np.pi * np.arange(VIEWS) / (VIEWS - 1)
    swap(file, "entry/sample/rotation_angle", angles)


def radians_that_are_degrees(file: Any) -> None:
    file["entry/sample/rotation_angle"].attrs["units"] = "rad"


CONTRADICTIONS = {
    "no key": (lambda f: f.__delitem__(f"{DETECTOR}/image_key"), "image_key is missing"),
    "no projection": (without(0), "marks no projection"),
    "no flat": (without(1), "marked as a flat"),
    "no dark": (without(2), "marked as a dark"),
    "fewer keys": (lambda f: swap(f, f"{DETECTOR}/image_key", KEYS[:-1]), "94 image keys"),
    "rad called degrees": (degrees_that_are_radians, "seems to be in rad"),
    "degrees called rad": (radians_that_are_degrees, "seem to be degrees"),
    "other unit": (
        lambda f: f["entry/sample/rotation_angle"].attrs.__setitem__("units", "step"),
        "neither in degrees nor",
    ),
    "no unit of length": (
        lambda f: f[f"{DETECTOR}/x_pixel_size"].attrs.__delitem__("units"),
        "x_pixel_size must be one length",
    ),
    "frames of 2D": (lambda f: swap(f, f"{DETECTOR}/data", np.ones((3, 4))), "must be real"),
    "darks for flats": (
        lambda f: swap(f, f"{DETECTOR}/image_key", np.choose(KEYS, [0, 2, 1, 3])),
        "not above darks",
    ),
    "two scans": (lambda f: f.copy("entry", "second"), "holds 2 scans"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_59_contradictions_are_inconsistent(tmp_path: Path, name: str):
    edit, words = CONTRADICTIONS[name]
    with pytest.raises(InconsistentError, match=words):
        read_nxtomo(write(tmp_path / "n.nx", edit), column_offset=0.0)


def test_flats_and_darks_may_be_given_as_numbers_instead(tmp_path: Path):
    def edit(file: Any) -> None:
        swap(file, f"{DETECTOR}/image_key", np.where(KEYS > 0, 3, KEYS))

    path = write(tmp_path / "n.nx", edit)
    study = read_nxtomo(path, flat=50_100, dark=100, column_offset=0.0)
    fading = 1 - 0.2 * (np.arange(VIEWS) + 0.5) / VIEWS
    expected = sinogram() * HEIGHTS[:, None, None] - np.log(fading)[:, None]
    np.testing.assert_allclose(study.measurements, expected, atol=1e-4)


def test_other_hdf5_is_unreadable(tmp_path: Path):
    path = write(tmp_path / "n.nx", lambda f: f.__delitem__("entry/sample"))
    with pytest.raises(UnreadableError, match="rotation_angle"):
        read_nxtomo(path)


def test_links_to_raw_files_are_refused(tmp_path: Path):
    def edit(file: Any) -> None:
        del file[f"{DETECTOR}/data"]
        file[f"{DETECTOR}/data"] = h5py.ExternalLink("raw.h5", "/data")

    with pytest.raises(UnreadableError, match="link to another file"):
        read_nxtomo(write(tmp_path / "n.nx", edit))


def test_files_of_the_formats_own_library_are_read(tmp_path: Path):
    with warnings.catch_warnings(action="ignore"):
        application = pytest.importorskip("nxtomo.application.nxtomo")
        units = pytest.importorskip("pint").get_application_registry()
        made = application.NXtomo()
        made.instrument.detector.image_key_control = KEYS
        made.instrument.detector.data = counts().astype(np.float32)
        made.instrument.detector.x_pixel_size = 5e-6 * units.meter
        made.instrument.detector.y_pixel_size = 5e-6 * units.meter
        made.instrument.detector.distance = 0.3 * units.meter
        made.sample.rotation_angle = angles_of_frames() * units.degree
        made.save(str(tmp_path / "n.nx"), "entry0000")
    study = read_nxtomo(tmp_path / "n.nx", column_offset=0.0)
    expected = sinogram() * HEIGHTS[:, None, None]
    np.testing.assert_allclose(study.measurements, expected, atol=1e-4)
    assert isinstance(study.geometry, ParallelBeam)
    assert study.geometry.column_spacing == pytest.approx(0.005)
