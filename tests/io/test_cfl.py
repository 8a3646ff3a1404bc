"""BART's files: written out by hand here, and read and written by the real program where it is."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError, MedreconError, UnreadableError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.grid import Grid
from medrecon.io.cfl import read_cfl
from medrecon.io.cfl_write import companions, write_cfl
from medrecon.io.read import read_studies, read_study
from medrecon.study import Study

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not installed")
GRID = Grid(
    shape=(2, 6, 5),
    spacing=(3.5, 1.25, 0.5),
    origin=(-10.0, 4.0, 77.5),
    directions=((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0)),
)
PLACE = (
    "spacing_mm: [3.5, 1.25, 0.5]\norigin_mm: [-10, 4, 77.5]\n"
    "directions: [[0, 1, 0], [0, 0, 1], [1, 0, 0]]\n"
)


def noise(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    values: np.ndarray = (rng.standard_normal((*shape, 2)) @ [1, 1j]).astype(np.complex64)
    return values


def write(base: Path, array: np.ndarray) -> Path:
    """First index fastest, dimensions in words: all there is to the format."""
    array.astype("<c8").flatten(order="F").tofile(f"{base}.cfl")
    Path(f"{base}.hdr").write_text(f"# Dimensions\n{' '.join(map(str, array.shape))}\n")
    return Path(f"{base}.cfl")


def read_array(base: Path) -> np.ndarray:
    shape = Path(f"{base}.hdr").read_text().splitlines()[1].split()
    flat = np.fromfile(f"{base}.cfl", "<c8")
    return flat.reshape([int(n) for n in shape], order="F")


def bart(folder: Path, command: str) -> None:
    subprocess.run(["bart", *command.split()], cwd=folder, check=True, capture_output=True)


# --- reading ------------------------------------------------------------------------------------


def test_slices_are_dimension_13(tmp_path: Path) -> None:
    ours = noise(2, 3, 6, 5)
    ours[1, :, 4] = 0  # another pattern in the second slice
    array = ours.transpose(3, 2, 1, 0).reshape(5, 6, 1, 3, *[1] * 9, 2)
    path = write(tmp_path / "scan", array)
    (tmp_path / "scan.yaml").write_text(PLACE + "noise_std: 0.5")
    for given in (path, path.with_suffix(".hdr")):
        study = read_study(given)
        assert torch.equal(study.measurements, torch.from_numpy(ours))
        assert isinstance(study.geometry, Cartesian)
        assert np.array_equal(study.geometry.mask, (ours != 0).any(axis=1))
        assert study.grid == GRID
        assert study.noise_std == 0.5


def test_partitions_are_dimension_2(tmp_path: Path) -> None:
    ours = noise(3, 2, 6, 5)
    path = write(tmp_path / "scan", ours.transpose(3, 2, 1, 0))
    (tmp_path / "scan.yaml").write_text(PLACE)
    (study,) = read_cfl(path)
    assert torch.equal(study.measurements, torch.from_numpy(ours))
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.is_3d


def test_contrasts_and_repetitions_are_images(tmp_path: Path) -> None:
    array = noise(5, 6, 1, 3, 1, 2, 1, 1, 1, 1, 4)
    array[2, 3] *= 50  # the centre, lest it be called a spike
    path = write(tmp_path / "scan", array)
    with pytest.warns(UserWarning, match="voxels of 1 mm, an axial stack, the middle"):
        studies = read_studies(path)
    assert len(studies) == 8
    assert studies[5].label == "contrast-2_repetition-2"
    expected = array[:, :, 0, :, 0, 1, 0, 0, 0, 0, 1].transpose(2, 1, 0)
    assert torch.equal(studies[5].measurements[0], torch.from_numpy(expected.copy()))


def test_one_image_of_several_has_to_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "scan", noise(5, 6, 1, 3, 1, 2))
    (tmp_path / "scan.yaml").write_text(PLACE)
    with pytest.raises(InconsistentError, match=r"2 images, choose .*contrast-1, contrast-2"):
        read_study(path)
    with pytest.raises(InconsistentError, match="no image 'contrast-3'"):
        read_study(path, label="contrast-3")
    assert read_study(path, label="contrast-2").label == "contrast-2"


def test_maps_stand_beside_the_scan(tmp_path: Path) -> None:
    ours = noise(2, 3, 6, 5)
    maps = noise(2, 2, 3, 6, 5)  # sets, z, coils, y, x
    path = write(tmp_path / "scan", ours.transpose(3, 2, 1, 0).reshape(5, 6, 1, 3, *[1] * 9, 2))
    sens = maps.transpose(4, 3, 2, 0, 1).reshape(5, 6, 1, 3, 2, *[1] * 8, 2)
    write(tmp_path / "scan_sens", sens)
    (tmp_path / "scan.yaml").write_text(PLACE)
    study = read_study(path)
    assert study.maps is not None
    assert torch.equal(study.maps, torch.from_numpy(maps))


# --- round trips --------------------------------------------------------------------------------


def geometries() -> dict[str, tuple[MRGeometry, tuple[int, ...]]]:
    rng = np.random.default_rng(0)
    plane = rng.uniform(-2, 2, (4, 7, 2)).astype(np.float32).astype(float)
    ball = rng.uniform(-2, 2, (4, 7, 3)).astype(np.float32).astype(float)
    pattern = rng.random((6, 5)) < 0.6
    return {
        "slices": (Cartesian(mask=pattern), (2, 3, 6, 5)),
        "slices with patterns": (
            Cartesian(mask=rng.random((2, 6, 5)) < 0.6, encoded=2),
            (2, 3, 6, 5),
        ),
        "3D": (Cartesian(mask=rng.random((2, 6, 5)) < 0.6), (3, 2, 6, 5)),
        "slices along a trajectory": (NonCartesian(trajectory=plane), (2, 3, 4, 7)),
        "3D trajectory": (NonCartesian(trajectory=ball), (3, 4, 7)),
    }


@pytest.mark.parametrize("case", geometries())
def test_what_is_written_is_read_again(tmp_path: Path, case: str) -> None:
    geometry, shape = geometries()[case]
    y = torch.from_numpy(noise(*shape))
    maps_shape = (2, 3, 2, 6, 5) if geometry.is_3d else (2, 2, 3, 6, 5)
    if isinstance(geometry, Cartesian):
        y = y * torch.from_numpy(geometry.samples)
    study = Study(
        measurements=y,
        geometry=geometry,
        grid=GRID,
        noise_std=0.125,
        maps=torch.from_numpy(noise(*maps_shape)),
    )
    written = write_cfl(tmp_path / "scan.cfl", study)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    again = read_study(tmp_path / "scan.hdr")
    assert torch.equal(again.measurements, y)
    assert again.grid == GRID
    assert again.noise_std == 0.125
    assert again.maps is not None
    assert study.maps is not None
    assert torch.equal(again.maps, study.maps)
    assert type(again.geometry) is type(geometry)
    if isinstance(geometry, Cartesian) and isinstance(again.geometry, Cartesian):
        assert np.array_equal(again.geometry.mask, geometry.mask)
        assert again.geometry.encoded == geometry.encoded
    if isinstance(geometry, NonCartesian) and isinstance(again.geometry, NonCartesian):
        assert np.array_equal(again.geometry.trajectory, geometry.trajectory)


def test_a_stack_becomes_a_trajectory_with_the_same_samples(tmp_path: Path) -> None:
    plane = np.random.default_rng(0).uniform(-2, 2, (4, 7, 2))
    partitions = np.array([True, False, True, True])
    y = torch.from_numpy(noise(3, 4, 4, 7)) * torch.from_numpy(partitions)[:, None, None]
    stack = NonCartesian(trajectory=plane, partitions=partitions)
    grid = replace(GRID, shape=(4, 6, 5))
    write_cfl(tmp_path / "scan.cfl", Study(measurements=y, geometry=stack, grid=grid))
    again = read_study(tmp_path / "scan.cfl")
    assert isinstance(again.geometry, NonCartesian)
    k = again.geometry.trajectory
    assert k.shape == (3 * 4, 7, 3)
    assert k[:, 0, 0].tolist() == [-2] * 4 + [0] * 4 + [1] * 4
    assert np.allclose(k[4:8, :, 1:], plane, atol=1e-6)
    assert torch.equal(again.measurements[:, 4:8], y[:, 2])


def test_files_of_an_earlier_scan_do_not_stay_beside_a_new_one(tmp_path: Path) -> None:
    radial, shape = geometries()["slices along a trajectory"]
    y = torch.from_numpy(noise(*shape))
    write_cfl(tmp_path / "scan.cfl", Study(measurements=y, geometry=radial, grid=GRID))
    pattern, shape = geometries()["slices"]
    y = torch.from_numpy(noise(*shape))
    written = write_cfl(tmp_path / "scan.cfl", Study(measurements=y, geometry=pattern, grid=GRID))
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert set(written) < set(companions(tmp_path / "scan.cfl"))


# --- the program itself -------------------------------------------------------------------------


@needs_bart
@pytest.mark.parametrize("shape", [(1, 3, 8, 6), (1, 3, 9, 7)])
def test_bart_sees_the_image_that_we_see(tmp_path: Path, shape: tuple[int, ...]) -> None:
    y = torch.from_numpy(noise(*shape))
    mask = np.ones(shape[-2:], dtype=bool)
    grid = replace(GRID, shape=(1, shape[-2], shape[-1]))
    study = Study(measurements=y, geometry=Cartesian(mask=mask), grid=grid)
    write_cfl(tmp_path / "scan.cfl", study)
    bart(tmp_path, "fft -i -u 3 scan image")
    image = read_array(tmp_path / "image")[:, :, 0, :].squeeze().transpose(2, 1, 0)
    assert np.allclose(image, kspace_to_image(y, (-2, -1))[0].numpy(), atol=1e-5)


@needs_bart
def test_a_scan_of_bart_is_read(tmp_path: Path) -> None:
    bart(tmp_path, "phantom -x 12 -s 3 images")
    bart(tmp_path, "fft -u 3 images scan")
    images = read_array(tmp_path / "images")[:, :, 0, :].squeeze().transpose(2, 1, 0)
    with pytest.warns(UserWarning, match="assumed"):
        (study,) = read_cfl(tmp_path / "scan.cfl")
    found = kspace_to_image(study.measurements, (-2, -1))[0].numpy()
    assert np.allclose(found, images, atol=1e-5 * abs(images).max())


def direct(image: np.ndarray, trajectory: np.ndarray) -> np.ndarray:
    """The definition: ``N^(-1/2) sum_j x_j exp(-2 pi i sum_a k_a (j_a - n_a // 2) / n_a)``."""
    axes = [(np.arange(n) - n // 2) / n for n in image.shape]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, image.ndim)
    phases = trajectory.reshape(-1, image.ndim) @ places.T
    samples = np.exp(-2j * np.pi * phases) @ image.reshape(-1) / math.sqrt(image.size)
    found: np.ndarray = samples.reshape(trajectory.shape[:-1])
    return found


@needs_bart
@pytest.mark.parametrize("shape", [(12, 10), (8, 12, 10)])
def test_bart_samples_where_we_say(tmp_path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(5)
    k = rng.uniform(-3, 3, (4, 7, len(shape)))
    k[..., 0] /= 2  # the axes must not be exchangeable
    y = torch.zeros((1, 1, 4, 7) if len(shape) == 2 else (1, 4, 7), dtype=torch.complex64) + 1
    grid = replace(GRID, shape=(1 if len(shape) == 2 else shape[0], shape[-2], shape[-1]))
    study = Study(measurements=y, geometry=NonCartesian(trajectory=k), grid=grid)
    write_cfl(tmp_path / "scan.cfl", study)
    image = noise(*shape)
    write(tmp_path / "image", image.T)
    bart(tmp_path, "nufft scan_traj image scan")
    (again,) = read_cfl(tmp_path / "scan.cfl")
    expected = direct(image, k)
    found = again.measurements.numpy().reshape(expected.shape)
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)


@needs_bart
def test_a_radial_scan_of_bart_is_read_with_the_matrix_that_its_trajectory_needs(
    tmp_path: Path,
) -> None:
    bart(tmp_path, "traj -r -x 16 -y 5 scan_traj")
    bart(tmp_path, "phantom -k -s 3 -t scan_traj scan")
    with pytest.warns(UserWarning, match="matrix is not said"), pytest.warns(match="assumed"):
        (study,) = read_cfl(tmp_path / "scan.cfl")
    assert study.measurements.shape == (1, 3, 5, 16)
    assert study.grid is not None
    assert study.grid.shape == (1, 16, 16)


@needs_bart
def test_bart_reconstructs_with_our_maps(tmp_path: Path) -> None:
    bart(tmp_path, "phantom -x 16 -s 4 images")
    bart(tmp_path, "fft -u 3 images full")
    bart(tmp_path, "ecalib -m 1 -r 12 full full_sens")
    with pytest.warns(UserWarning, match="assumed"):
        (study,) = read_cfl(tmp_path / "full.cfl")
    write_cfl(tmp_path / "ours.cfl", study)
    bart(tmp_path, "pics -i 3 full full_sens expected")
    bart(tmp_path, "pics -i 3 ours ours_sens found")
    expected, found = (read_array(tmp_path / name) for name in ("expected", "found"))
    assert np.allclose(found, expected, atol=1e-6 * abs(expected).max())


# --- what is refused ----------------------------------------------------------------------------


def _shorter(base: Path) -> None:
    values = Path(f"{base}.cfl")
    values.write_bytes(values.read_bytes()[:-8])


def _header(text: str):
    return lambda base: Path(f"{base}.hdr").write_text(text)


def _beside(text: str):
    return lambda base: Path(f"{base}.yaml").write_text(text)


def _trajectory(*shape: int):
    return lambda base: write(Path(f"{base}_traj"), np.ones(shape))


def _not_finite(base: Path) -> None:
    array = noise(5, 6, 1, 3)
    array[2, 1, 0, 1] = math.nan
    write(base, array)


BAD = {
    "values cut off": (_shorter, UnreadableError, "712 bytes, but scan.hdr says 720"),
    "no header": (lambda base: Path(f"{base}.hdr").unlink(), UnreadableError, "two files"),
    "no values": (lambda base: Path(f"{base}.cfl").unlink(), UnreadableError, "scan.cfl"),
    "a header of something else": (_header("ENVI\nsamples"), UnreadableError, "no dimensions"),
    "a header without numbers": (_header("# Dimensions\n"), UnreadableError, "no dimensions"),
    "negative dimensions": (_header("# Dimensions\n5 -6"), UnreadableError, "no dimensions"),
    "too many dimensions": (_header("# Dimensions\n" + "1 " * 17), UnreadableError, "dimensions"),
    "an empty dimension": (_header("# Dimensions\n5 0 1 3"), InconsistentError, "is 0"),
    "an absurd dimension": (_header("# Dimensions\n99999999999 9999"), UnreadableError, "says"),
    "coefficients": (
        lambda base: write(base, noise(5, 6, 1, 3, 1, 1, 4)),
        InconsistentError,
        "COEFF",
    ),
    "slices and partitions": (
        lambda base: write(base, noise(5, 6, 2, 3, *[1] * 9, 2)),
        InconsistentError,
        "2 partitions .* 2 slices",
    ),
    "a trajectory of other shots": (_trajectory(3, 6, 2), InconsistentError, "trajectory"),
    "maps of another scan": (
        lambda base: write(Path(f"{base}_sens"), noise(5, 6, 1, 4)),
        InconsistentError,
        "coil maps",
    ),
    "values that are not finite": (_not_finite, InconsistentError, r"\(0, 1, 1, 2\)"),
    "a matrix of another scan": (_beside("matrix: [1, 1, 1]"), InconsistentError, "matrix"),
    "another array's files": (_beside("maps_file: x.npy"), InconsistentError, "NAME_sens"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    change, kind, message = BAD[case]
    path = write(tmp_path / "scan", noise(5, 6, 1, 3))
    change(tmp_path / "scan")
    given = path if path.exists() else path.with_suffix(".hdr")
    with pytest.raises(MedreconError, match=message) as caught:
        read_studies(given)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
