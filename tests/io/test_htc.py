"""Challenge files: geometry is read from the file, and turns the right way round."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from scipy.optimize import least_squares

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import FanBeam
from medrecon.io.htc import read_htc

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data" / "raw" / "ct"
PARAMETERS = {
    "distanceSourceOrigin": 410.66,
    "distanceSourceDetector": 553.74,
    "distanceUnit": "mm",
    "pixelSizePost": 0.2,
    "numDetectorsPost": 9,
    "angles": np.array([75.0, 75.5, 76.0]),
}


def write(path: Path, sinogram: Any = None, **changes: Any) -> Path:
    sinogram = np.arange(27.0).reshape(3, 9) / 27 if sinogram is None else sinogram
    parameters = {k: v for k, v in (PARAMETERS | changes).items() if v is not None}
    scan = {"type": "2D", "sinogram": sinogram, "parameters": parameters}
    scipy.io.savemat(path, {"CtDataLimited": scan}, do_compression=True)
    return path


def test_geometry_and_values_come_from_the_file(tmp_path: Path):
    study = read_htc(write(tmp_path / "d.mat"))
    assert study.geometry == FanBeam(
        angles=tuple(np.deg2rad([75.0, 75.5, 76.0]).tolist()),
        source_to_axis=410.66,
        source_to_detector=553.74,
        columns=9,
        column_spacing=0.2,
    )
    np.testing.assert_allclose(study.measurements[0], np.arange(27.0).reshape(3, 9) / 27, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"angles": None}, UnreadableError, "angles"),
        ({"pixelSizePost": "wide"}, UnreadableError, "plain numbers"),
        ({"distanceUnit": "cm"}, InconsistentError, "mm"),
        ({"numDetectorsPost": 8}, InconsistentError, "shape"),
        ({"angles": np.array([1.0, 2.0])}, InconsistentError, "shape"),
        ({"distanceSourceOrigin": 600.0}, InconsistentError, "beyond"),
        ({"sinogram": np.full((3, 9), 3e4)}, InconsistentError, "counts"),
        ({"sinogram": np.full((3, 9), np.nan)}, InconsistentError, "NaN"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, changes: dict[str, Any], kind: Any, words: str):
    with pytest.raises(kind, match=words):
        read_htc(write(tmp_path / "d.mat", **changes))


def test_other_and_truncated_files_are_unreadable(tmp_path: Path):
    path = write(tmp_path / "d.mat")
    content = path.read_bytes()
    for part in (b"", b"text" * 99, content[:60], content[:200], content[:-40]):
        path.write_bytes(part)
        with pytest.raises(UnreadableError):
            read_htc(path)
    scipy.io.savemat(path, {"truth": np.eye(3)})
    with pytest.raises(UnreadableError, match="no CtDataFull"):
        read_htc(path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the challenge data of ../shared/data are not here")
@pytest.mark.parametrize("name", ["ta_60deg", "tb_90deg"])
def test_the_round_outline_of_the_measured_disc_fits_only_in_this_sense_of_turning(name: str):
    study = read_htc(SHARED / f"htc2022_{name}.mat")
    geometry = study.geometry
    assert isinstance(geometry, FanBeam)
    values = study.measurements[0].numpy()
    angles = np.array(geometry.angles)

    def edges(view: np.ndarray) -> float:
        first = int(np.argmax(view > 0.25))
        part = (0.25 - view[first - 1]) / (view[first] - view[first - 1])
        return float((first - 1 + part - (geometry.columns - 1) / 2) * geometry.column_spacing)

    seen = np.array([[edges(view), -edges(view[::-1])] for view in values]).T

    def misfit(sense: int) -> tuple[float, float]:
        a = sense * angles

        def difference(disc: np.ndarray) -> np.ndarray:
            x, y, radius = disc
            across = x * np.cos(a) + y * np.sin(a)
            depth = geometry.source_to_axis - x * np.sin(a) + y * np.cos(a)
            middle = np.arctan2(across, depth)
            half = np.arcsin(radius / np.hypot(across, depth))
            shadow = geometry.source_to_detector * np.tan([middle - half, middle + half])
            return np.ravel(shadow - seen)

        found = least_squares(difference, [0.0, 0.0, 35.0])
        return float(np.sqrt(np.mean(found.fun**2))), float(found.x[2])

    error, radius = misfit(1)
    assert error < 0.05  # mm, a quarter of a cell
    assert radius == pytest.approx(34.71, abs=0.02)
    assert misfit(-1)[0] > 2 * error
