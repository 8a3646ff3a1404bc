from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medrecon.calibration.coils import rss
from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.io.twix import _pose, read_twix

DATA = Path(__file__).parents[3] / "shared" / "data" / "raw" / "mri"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"measured raw data not at {DATA}")


def magnitude(kspace: torch.Tensor) -> torch.Tensor:
    return rss(kspace_to_image(kspace, (-2, -1)), 1)[0]


@needs_data
def test_a_brain_scan_is_read_whole_and_upright() -> None:
    with pytest.warns(UserWarning, match="announces 64 lines"):
        study = read_twix(DATA / "pulseq_brain_16ch_cartesian_128.dat")
    assert study.measurements.shape == (1, 16, 128, 128)
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.mask.all()
    assert study.grid is not None
    assert study.grid.spacing == (3.0, 2.0, 2.0)
    assert study.identity.attributes["PatientPosition"] == "HFS"
    image = magnitude(study.measurements)
    head = image > 0.1 * image.max()
    rows, columns = head.any(1).nonzero().flatten(), head.any(0).nonzero().flatten()
    length, width = (float(i[-1] - i[0]) * 2 for i in (rows, columns))
    assert 170 < length < 220  # mm along y, the patient's posterior
    assert 130 < width < 180  # mm along x
    assert study.grid.directions[1] == pytest.approx((0, 1, 0), abs=1e-6)
    # foreheads are narrower than the backs of heads
    quarter = len(rows) // 5
    front = float(head[rows[:quarter]].sum(1).float().mean())
    back = float(head[rows[-quarter:]].sum(1).float().mean())
    assert front < back


@needs_data
def test_readout_oversampling_is_taken_off_and_the_slice_is_where_the_header_says() -> None:
    study = read_twix(DATA / "gre.dat")
    assert study.measurements.shape == (1, 2, 160, 160)
    assert study.grid is not None
    assert study.grid.spacing == pytest.approx((4.0, 1.25, 1.25))
    middle = study.grid.affine @ [0, 80, 80, 1]
    assert np.allclose(middle[:3], (-2.5897, 53.92243, -53.99947), atol=1e-3)  # sPosition
    assert np.allclose(study.grid.directions[0], (0, 0.0383878, 0.999263), atol=1e-5)  # sNormal
    assert np.linalg.det(np.array(study.grid.directions)) == pytest.approx(1)  # S x P = R
    image = magnitude(study.measurements)
    phantom = image > 0.3 * image.max()
    width = phantom.any(0).nonzero().flatten()
    assert 180 < float(width[-1] - width[0]) * 1.25 < 200  # the phantom's diameter, mm


@needs_data
def test_echo_planar_data_are_refused_in_one_sentence() -> None:
    with pytest.raises(InconsistentError, match="phase correction") as caught:
        read_twix(DATA / "epi.dat")
    assert "\n" not in str(caught.value)


def test_reading_stays_silent(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "scan.dat"
    path.write_bytes(b"\0" * 20_000)
    with pytest.raises(UnreadableError):
        read_twix(path)
    if DATA.is_dir():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read_twix(DATA / "pulseq_brain_16ch_cartesian_128.dat")
    out, err = capfd.readouterr()
    assert out == err == ""


@pytest.mark.parametrize("seed", range(3))
def test_files_that_are_no_twix_files_are_refused(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "scan.dat"
    path.write_bytes(np.random.default_rng(seed).bytes(30_000))
    with pytest.raises(UnreadableError):
        read_twix(path)
    path.write_bytes(b"short")
    with pytest.raises(UnreadableError, match="too few"):
        read_twix(path)
    with pytest.raises(UnreadableError, match="No such file"):
        read_twix(tmp_path / "absent.dat")


@needs_data
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    content = (DATA / "gre.dat").read_bytes()
    path = tmp_path / "scan.dat"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises((UnreadableError, InconsistentError)):
        read_twix(path)


def test_the_quaternion_holds_phase_read_and_slice_direction() -> None:
    place = SimpleNamespace(Sag=1.0, Cor=2.0, Tra=3.0)
    half = 0.5**0.5  # a quarter turn about the axis from feet to head
    pose = _pose(SimpleNamespace(Quaternion=[half, 0.0, 0.0, half], SlicePos=place))
    assert np.allclose(pose.position, (1, 2, 3))
    assert np.allclose(pose.slice_dir, (0, 0, 1))
    assert np.allclose(pose.phase_dir, (0, 1, 0))
    assert np.allclose(pose.read_dir, (-1, 0, 0))
    rng = np.random.default_rng(0)
    for quaternion in rng.standard_normal((5, 4)):
        unit = quaternion / np.linalg.norm(quaternion)
        pose = _pose(SimpleNamespace(Quaternion=unit, SlicePos=place))
        rotation = np.stack([pose.phase_dir, pose.read_dir, pose.slice_dir])
        assert np.allclose(rotation @ rotation.T, np.eye(3))
        assert np.linalg.det(rotation) == pytest.approx(1)
    nothing = _pose(SimpleNamespace(Quaternion=[0.0] * 4, SlicePos=place))
    assert not nothing.directions.any()
