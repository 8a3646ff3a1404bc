"""Phantoms and a brain as Siemens scanners wrote them; skipped where they are not at hand."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_dilation, binary_fill_holes
from torch import Tensor

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import crop_or_pad, kspace_to_image
from medrecon.io.twix import read_twix, read_twix_scan
from medrecon.raw.echoes import Echoes

DATA = Path(__file__).parents[3] / "shared" / "data" / "raw" / "mri"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"measured raw data not at {DATA}")


def magnitude(kspace: Tensor) -> Tensor:
    """Root of the sum of squares of ``(coils, y, x)``."""
    return kspace_to_image(kspace, (-2, -1)).abs().square().sum(0).sqrt()


def test_a_brain_scan_is_read_whole_and_upright() -> None:
    with pytest.warns(UserWarning, match="announces 64 lines"):
        (study,) = read_twix(DATA / "pulseq_brain_16ch_cartesian_128.dat")
    assert study.measurements.shape == (1, 16, 128, 128)
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.mask.all()
    assert study.grid is not None
    assert study.grid.spacing == (3.0, 2.0, 2.0)
    assert study.identity.attributes["PatientPosition"] == "HFS"
    image = magnitude(study.measurements[0])
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


def test_readout_oversampling_is_taken_off_and_the_slice_is_where_the_header_says() -> None:
    (study,) = read_twix(DATA / "gre.dat")
    assert study.measurements.shape == (1, 2, 160, 160)
    assert study.grid is not None
    assert study.grid.spacing == pytest.approx((4.0, 1.25, 1.25))
    middle = study.grid.affine @ [0, 80, 80, 1]
    assert np.allclose(middle[:3], (-2.5897, 53.92243, -53.99947), atol=1e-3)  # sPosition
    assert np.allclose(study.grid.directions[0], (0, 0.0383878, 0.999263), atol=1e-5)  # sNormal
    assert np.linalg.det(np.array(study.grid.directions)) == pytest.approx(1)  # S x P = R
    image = magnitude(study.measurements[0])
    phantom = image > 0.3 * image.max()
    width = phantom.any(0).nonzero().flatten()
    assert 180 < float(width[-1] - width[0]) * 1.25 < 200  # the phantom's diameter, mm


@pytest.fixture(scope="module")
def places() -> dict[str, Tensor]:
    """Where the phantom is in 80 x 80 pixels, by the gradient echo; where only its ghost can be."""
    (study,) = read_twix(DATA / "gre.dat")
    low = crop_or_pad(crop_or_pad(study.measurements[0], 80, -1), 80, -2)
    image = magnitude(low).numpy()
    body = binary_fill_holes(image > 0.3 * image.max())
    wide = binary_dilation(body, iterations=4)
    turned = np.roll(body, 40, 0)
    return {
        name: torch.from_numpy(region)
        for name, region in {
            "body": body,
            "ghost": turned & ~wide,
            "air": ~wide & ~binary_dilation(turned, iterations=4),
        }.items()
    }


def share(image: Tensor, places: dict[str, Tensor], region: str) -> float:
    return float(image[places[region]].mean() / image[places["body"]].mean())


def before_correction() -> Tensor:
    """Interpolated to the grid and flipped, that is all."""
    scan = read_twix_scan(DATA / "epi.dat")
    echoes = Echoes(scan)
    kspace = torch.zeros(2, 80, 160, dtype=torch.complex64)
    for readout in scan.readouts:
        kspace[:, readout.line] = echoes.placed(readout)
    return kspace_to_image(kspace, (-2, -1)).abs().square().sum(0).sqrt()[:, 40:120]


def test_the_ghost_of_the_echo_planar_phantom_goes(places: dict[str, Tensor]) -> None:
    (study,) = read_twix(DATA / "epi.dat")
    assert study.measurements.shape == (1, 2, 80, 80)
    after = magnitude(study.measurements[0])
    noise = share(after, places, "air")
    assert share(before_correction(), places, "ghost") > 4 * noise
    assert share(after, places, "ghost") < 1.6 * noise
    epi = study.facts["epi"]
    assert epi["ramp_sampling"]
    assert "navigators" in epi["phase_correction"]


def test_the_echo_planar_phantom_lies_on_the_gradient_echo(places: dict[str, Tensor]) -> None:
    (echo_planar,), (gradient_echo,) = (read_twix(DATA / name) for name in ("epi.dat", "gre.dat"))
    image = magnitude(echo_planar.measurements[0])
    body = places["body"]
    shown = torch.from_numpy(binary_fill_holes((image > 0.3 * image[body].mean()).numpy()))
    assert float((shown & body).sum() / (shown | body).sum()) > 0.95
    assert echo_planar.grid is not None
    assert gradient_echo.grid is not None
    middles = [
        g.affine @ [0, n, n, 1] for g, n in ((echo_planar.grid, 40), (gradient_echo.grid, 80))
    ]
    assert np.allclose(middles[0], middles[1])


def test_samples_and_protocol_are_those_that_twixtools_reads() -> None:
    twixtools = pytest.importorskip("twixtools")
    from medrecon.io.twix_file import read_measurements

    for name in ("gre.dat", "epi.dat"):
        (own,) = read_measurements(DATA / name)
        peer: Any = twixtools.read_twix(
            str(DATA / name), parse_pmu=False, parse_geometry=False, verbose=False
        )[-1]
        assert len(own.table) == len(peer["mdb"])
        for number, block in enumerate(peer["mdb"]):
            assert np.array_equal(own.samples(number), block.data)
            assert own.table["Counter"]["Lin"][number] == block.mdh.Counter.Lin
        assert own.header["MeasYaps"] == peer["hdr"]["MeasYaps"]


def test_reading_stays_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_twix(DATA / "pulseq_brain_16ch_cartesian_128.dat")
    out, err = capfd.readouterr()
    assert out == err == ""


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    content = (DATA / "gre.dat").read_bytes()
    path = tmp_path / "scan.dat"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableError, match="truncated"):
        read_twix(path)


def test_a_nan_is_located(tmp_path: Path) -> None:
    content = bytearray((DATA / "gre.dat").read_bytes())
    content[-200_000:-199_900] = b"\xff" * 100
    path = tmp_path / "scan.dat"
    path.write_bytes(content)
    with pytest.raises((UnreadableError, InconsistentError)):
        read_twix(path)
