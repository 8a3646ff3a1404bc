"""fastMRI files: the published convention written out again, with NumPy and ismrmrd's header."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from ismrmrd import xsd

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.io.fastmri import read_fastmri
from medrecon.io.read import read_study
from medrecon.problem.retrospective import retrospective
from medrecon.protocol import CartesianScan
from medrecon.protocol_files import load_protocol
from medrecon.study import Study

ROWS, COLUMNS, CROP = 48, 30, 24  # the readout is sampled twice as densely as the crop needs
PAD_LEFT, PAD_RIGHT = 3, 28
FOV_ROWS, FOV_COLUMNS, THICKNESS = 96.0, 75.0, 4.5
NO_PLACE = "do not say where"


def centred(image: np.ndarray, transform: Any) -> np.ndarray:
    axes = (-2, -1)
    shifted = transform(np.fft.ifftshift(image, axes=axes), axes=axes, norm="ortho")
    moved: np.ndarray = np.fft.fftshift(shifted, axes=axes)
    return moved


def published_target(kspace: np.ndarray) -> np.ndarray:
    """As the dataset's makers compute it: inverse FFT, central crop, root sum of squares."""
    image = centred(kspace, np.fft.ifft2)
    top, left = (image.shape[-2] - CROP) // 2, (image.shape[-1] - CROP) // 2
    image = image[..., top : top + CROP, left : left + CROP]
    magnitude: np.ndarray = np.sqrt((abs(image) ** 2).sum(axis=1)).astype(np.float32)
    return magnitude


def samples(slices: int = 2, coils: int = 3) -> np.ndarray:
    """K-space ``(slices, coils, rows, columns)`` with zeros outside the encoding limits."""
    rng = np.random.default_rng(3)
    images = rng.standard_normal((slices, coils, ROWS, COLUMNS, 2)) @ [1, 1j]
    images[:, :, 10:30, 8:20] += 6
    kspace = centred(images, np.fft.fft2).astype(np.complex64)
    kspace[..., :PAD_LEFT] = 0
    kspace[..., PAD_RIGHT:] = 0
    return kspace


def header() -> str:
    def space(x: int, y: int, fov_x: float, fov_y: float) -> Any:
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=x, y=y, z=1),
            fieldOfView_mm=xsd.fieldOfViewMm(x=fov_x, y=fov_y, z=THICKNESS),
        )

    center = COLUMNS // 2 - PAD_LEFT
    lines = xsd.limitType(minimum=0, maximum=PAD_RIGHT - PAD_LEFT - 1, center=center)
    encoding = xsd.encodingType(
        encodedSpace=space(ROWS, COLUMNS, FOV_ROWS, FOV_COLUMNS),
        reconSpace=space(CROP, CROP, FOV_ROWS / 2, FOV_COLUMNS * CROP / COLUMNS),
        encodingLimits=xsd.encodingLimitsType(kspace_encoding_step_1=lines),
        trajectory=xsd.trajectoryType.CARTESIAN,
    )
    text: str = xsd.ToXML(
        xsd.ismrmrdHeader(
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=1),
            encoding=[encoding],
        )
    )
    return text


def write(path: Path, kspace: np.ndarray | None = None, **members: Any) -> Path:
    kspace = samples() if kspace is None else kspace
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file["ismrmrd_header"] = header()
        file.attrs.update({"acquisition": "AXT2", "patient_id": "CANARY", "max": 1.5, "norm": 9.0})
        for name, value in members.items():
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value
    return path


def read(path: Path, warning: str = NO_PLACE) -> Study:
    with pytest.warns(UserWarning, match=warning):
        return read_study(path)


def as_published(reference: torch.Tensor) -> np.ndarray:
    """Rows are x here, columns y; the middle of both."""
    top = (COLUMNS - CROP) // 2
    return reference.numpy()[:, top : top + CROP].swapaxes(-1, -2)


def test_our_root_sum_of_squares_is_the_published_target(tmp_path: Path) -> None:
    target = published_target(samples())
    study = read(write(tmp_path / "file.h5", reconstruction_rss=target))
    assert study.measurements.shape == (2, 3, COLUMNS, CROP)
    images = kspace_to_image(study.measurements, (-2, -1))
    rss = images.abs().square().sum(1).sqrt()
    assert np.allclose(as_published(rss), target, rtol=1e-4, atol=1e-4)
    assert study.reference is not None
    assert torch.allclose(study.reference, rss, atol=1e-4)


def test_columns_outside_the_encoding_limits_were_not_measured(tmp_path: Path) -> None:
    geometry = read(write(tmp_path / "file.h5")).geometry
    assert isinstance(geometry, Cartesian)
    lines = np.zeros(COLUMNS, dtype=bool)
    lines[PAD_LEFT:PAD_RIGHT] = True
    assert np.array_equal(geometry.mask, np.broadcast_to(lines[:, None], (COLUMNS, CROP)))


def test_a_complete_file_is_undersampled_as_a_protocol_says(tmp_path: Path) -> None:
    study = read(write(tmp_path / "file.h5"))
    settings = ["acquisition.acceleration=3", "acquisition.calibration_lines=6"]
    protocol = load_protocol("mr_cartesian_r4", settings)
    assert isinstance(protocol.acquisition, CartesianScan)
    thinned = retrospective(study, protocol.acquisition, seed=0)
    assert isinstance(thinned.geometry, Cartesian)
    assert isinstance(study.geometry, Cartesian)
    assert thinned.geometry.mask.sum() <= study.geometry.mask.size / 3
    assert not (thinned.geometry.mask & ~study.geometry.mask).any()
    assert thinned.reference is study.reference


def test_voxels_have_the_size_of_the_header(tmp_path: Path) -> None:
    grid = read(write(tmp_path / "file.h5")).grid
    assert grid is not None
    assert grid.shape == (2, COLUMNS, CROP)
    assert grid.spacing == pytest.approx((THICKNESS, FOV_COLUMNS / COLUMNS, FOV_ROWS / ROWS))


def test_a_test_file_has_a_mask_and_no_reference(tmp_path: Path) -> None:
    lines = np.arange(COLUMNS) % 4 == 0
    lines[13:17] = True
    path = write(tmp_path / "file.h5", samples() * lines, mask=lines.astype(np.float32))
    study = read(path)
    assert study.reference is None
    assert isinstance(study.geometry, Cartesian)
    lines[:PAD_LEFT] = False
    lines[PAD_RIGHT:] = False
    assert np.array_equal(study.geometry.mask[:, 0], lines)
    assert study.facts["target"] == "none"


def test_the_mask_is_followed_where_more_was_stored(tmp_path: Path) -> None:
    lines = np.arange(COLUMNS) % 2 == 1
    with pytest.warns(UserWarning, match=NO_PLACE):
        study = read(write(tmp_path / "file.h5", mask=lines), "mask is followed")
    assert not study.measurements[:, :, ~torch.from_numpy(lines)].any()


def test_single_coil_files_have_one_coil_and_their_own_target(tmp_path: Path) -> None:
    kspace = samples(coils=1)[:, 0]
    esc = published_target(kspace[:, None])
    path = write(tmp_path / "f.h5", kspace, reconstruction_esc=esc, reconstruction_rss=9 * esc)
    study = read(path)
    assert study.measurements.shape == (2, 1, COLUMNS, CROP)
    assert study.reference is not None
    assert np.allclose(as_published(study.reference), esc, rtol=1e-4, atol=1e-4)


def test_a_target_of_other_data_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "file.h5", reconstruction_rss=1.1 * published_target(samples()))
    with pytest.warns(UserWarning, match=NO_PLACE):
        read(path, r"differs by 9\.1 %")


def test_samples_outside_the_limits_are_told(tmp_path: Path) -> None:
    kspace = samples()
    kspace[..., 1] = 0.5
    with pytest.warns(UserWarning, match=NO_PLACE):
        study = read(write(tmp_path / "file.h5", kspace), "outside the encoding limits")
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.mask[1].all()


def test_files_like_fastmri_without_header_have_voxels_of_a_millimetre(tmp_path: Path) -> None:
    path = write(tmp_path / "file.h5", ismrmrd_header=None)
    study = read(path, "no ismrmrd_header")
    assert study.measurements.shape == (2, 3, COLUMNS, ROWS)  # nothing says what was oversampled
    assert study.grid is not None
    assert study.grid.spacing == (1, 1, 1)


def test_the_patient_is_no_fact(tmp_path: Path) -> None:
    study = read(write(tmp_path / "file.h5"))
    assert dict(study.facts)["acquisition"] == "AXT2"
    assert "CANARY" not in str(study)


def _nan() -> np.ndarray:
    kspace = samples()
    kspace[1, 2, 5, 7] = math.nan
    return kspace


BAD = {
    "real k-space": ({"kspace": samples().real}, "complex"),
    "k-space of two axes": ({"kspace": samples()[0, 0]}, "rows, columns"),
    "k-space of no slice": ({"kspace": samples()[:0]}, "rows, columns"),
    "a mask of another length": ({"mask": np.ones(COLUMNS - 1)}, "mask"),
    "an empty mask": ({"mask": np.zeros(COLUMNS)}, "mask"),
    "a mask of words": ({"mask": np.array([b"x"] * COLUMNS)}, "mask"),
    "samples that are not numbers": ({"kspace": _nan()}, r"\(1, 2, 5, 7\)"),
    "a target of another scan": ({"reconstruction_rss": np.ones((3, 4, 4), "f4")}, "does not fit"),
}


@pytest.mark.parametrize("case", BAD)
def test_inconsistent_files_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    members, message = BAD[case]
    with pytest.raises(InconsistentError, match=message) as caught:
        read_fastmri(write(tmp_path / "file.h5", **{"kspace": samples(), **members}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["<nonsense", header().replace("encoding>", "x>")])
def test_a_damaged_header_is_unreadable(tmp_path: Path, text: str) -> None:
    with pytest.raises(UnreadableError, match="header"):
        read_fastmri(write(tmp_path / "file.h5", ismrmrd_header=text))
