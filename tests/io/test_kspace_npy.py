from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.geometry.trajectory import to_library
from medrecon.io.kspace_npy import read_kspace_npy
from medrecon.io.sidecar import Sidecar
from medrecon.study import Study
from medrecon.yaml_loader import load_yaml

DATA = Path(__file__).parents[3] / "shared" / "data" / "raw" / "mri"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"measured raw data not at {DATA}")


def read(path: Path) -> Study:
    (study,) = read_kspace_npy(path)
    return study


def scan(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    array = (rng.standard_normal((*shape, 2)) @ [1, 1j]).astype(np.complex64)
    array[..., ::2, :] = 0
    array[..., shape[-2] // 2, shape[-1] // 2] = 99
    return array


@pytest.mark.parametrize("shape", [(3, 8, 6), (2, 3, 9, 7)])
def test_samples_that_are_zero_in_all_coils_were_not_measured(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    array = scan(*shape)
    array[..., 0, 1, 1] = 0  # zero in one coil only: measured
    path = tmp_path / "kspace.npy"
    np.save(path, array)
    with pytest.warns(UserWarning, match="no geometry"):
        study = read(path)
    assert torch.equal(study.measurements, torch.from_numpy(array.reshape(-1, *shape[-3:])))
    assert isinstance(study.geometry, Cartesian)
    assert np.array_equal(study.geometry.mask, (array.reshape(-1, *shape[-2:]) != 0).any(0))
    assert study.grid is not None
    assert study.grid.spacing == (1, 1, 1)


def refused(tmp_path: Path, array: np.ndarray) -> str:
    path = tmp_path / "kspace.npy"
    np.save(path, array)
    with pytest.raises(InconsistentError) as caught:
        read_kspace_npy(path)
    return str(caught.value)


def test_arrays_that_are_no_k_space_are_refused(tmp_path: Path) -> None:
    assert "complex" in refused(tmp_path, scan(3, 8, 6).real)
    assert "axes" in refused(tmp_path, scan(8, 6))
    assert "all k-space samples are zero" in refused(tmp_path, 0 * scan(3, 8, 6))
    bad = scan(3, 8, 6)
    bad[1, 3, 4] = math.nan
    assert "(0, 1, 3, 4)" in refused(tmp_path, bad)
    empty = scan(2, 3, 8, 6)
    empty[1] = 0
    assert "slice 1 is empty" in refused(tmp_path, empty)


def test_slices_may_be_sampled_differently(tmp_path: Path) -> None:
    array = scan(2, 3, 8, 6)
    array[1, :, 1] = 0
    np.save(tmp_path / "kspace.npy", array)
    with pytest.warns(UserWarning, match="no geometry"):
        geometry = read(tmp_path / "kspace.npy").geometry
    assert isinstance(geometry, Cartesian)
    assert geometry.is_per_slice
    assert np.array_equal(geometry.mask, (array != 0).any(axis=1))


GEOMETRY = """
spacing_mm: [3.5, 1.25, 0.5]
origin_mm: [-10, 4, 77.5]
directions: [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
noise_std: 0.25
"""


def test_a_text_file_beside_the_array_says_where_it_is(tmp_path: Path) -> None:
    array = scan(2, 3, 8, 6)
    np.save(tmp_path / "kspace.npy", array.transpose(1, 3, 2, 0))
    (tmp_path / "kspace.yaml").write_text("axes: [coil, x, y, z]" + GEOMETRY)
    study = read(tmp_path / "kspace.npy")
    assert torch.equal(study.measurements, torch.from_numpy(array))
    assert study.noise_std == 0.25
    grid = study.grid
    assert grid is not None
    assert grid.shape == (2, 8, 6)
    # one step along z, y, x of the index
    expected = np.array([[0, 0, 0.5, -10], [3.5, 0, 0, 4], [0, 1.25, 0, 77.5], [0, 0, 0, 1]])
    assert np.allclose(grid.affine, expected)


def test_json_says_the_same_as_yaml(tmp_path: Path) -> None:
    array = scan(4, 3, 8, 6)
    np.save(tmp_path / "kspace.npy", array)
    (tmp_path / "kspace.json").write_text(
        '{\n\t"axes": ["repetition", "coil", "y", "x"], "fov_mm": [5, 16, 9],\n'
        '\t"center_mm": [1, 2, 3], "directions": [[0, 0, 1], [0, 1, 0], [1, 0, 0]]}'
    )
    studies = read_kspace_npy(tmp_path / "kspace.npy")
    assert [study.label for study in studies] == [f"repetition-{i}" for i in (1, 2, 3, 4)]
    assert torch.equal(studies[2].measurements[0], torch.from_numpy(array[2]))
    grid = studies[0].grid
    assert grid is not None
    assert grid.spacing == (5, 2, 1.5)
    assert grid.center == pytest.approx((1, 2, 3))


def test_three_encoded_axes_are_asked_for(tmp_path: Path) -> None:
    array = scan(3, 4, 8, 6)
    np.save(tmp_path / "kspace.npy", array)
    (tmp_path / "kspace.yaml").write_text("encoding: 3d" + GEOMETRY)
    study = read(tmp_path / "kspace.npy")
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.is_3d
    assert torch.equal(study.measurements, torch.from_numpy(array))
    assert study.grid is not None
    assert study.grid.shape == (4, 8, 6)


LIBRARIES = ["medrecon", "bart", "sigpy", "mrpro", "mri_nufft", "finufft", "torchkbnufft"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_trajectories_follow_the_convention_of_the_library_named(
    tmp_path: Path, library: str
) -> None:
    rng = np.random.default_rng(1)
    array = (rng.standard_normal((2, 3, 5, 7, 2)) @ [1, 1j]).astype(np.complex64)
    positions = rng.uniform(-4, 4, (5, 7, 2))
    stored = positions if library == "medrecon" else to_library(positions, library, (8, 12))  # type: ignore[arg-type]
    maps = (rng.standard_normal((2, 3, 8, 12, 2)) @ [1, 1j]).astype(np.complex64)
    np.save(tmp_path / "kspace.npy", array)
    np.save(tmp_path / "where.npy", stored)
    np.save(tmp_path / "coils.npy", maps)
    (tmp_path / "kspace.yaml").write_text(
        "axes: [z, coil, shot, sample]\nmatrix: [2, 8, 12]\nmaps_file: coils.npy\n"
        f"trajectory_file: where.npy\ntrajectory_library: {library}" + GEOMETRY
    )
    study = read(tmp_path / "kspace.npy")
    assert isinstance(study.geometry, NonCartesian)
    assert np.allclose(study.geometry.trajectory, positions, atol=1e-12)
    assert torch.equal(study.measurements, torch.from_numpy(array))
    assert study.maps is not None
    assert torch.equal(study.maps, torch.from_numpy(maps))
    assert study.grid is not None
    assert study.grid.shape == (2, 8, 12)


def test_partitions_of_a_stack_that_are_zero_were_not_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    array = (rng.standard_normal((3, 4, 5, 7, 2)) @ [1, 1j]).astype(np.complex64)
    array[:, 1] = 0
    np.save(tmp_path / "kspace.npy", array)
    np.save(tmp_path / "where.npy", rng.uniform(-4, 4, (5, 7, 2)))
    text = (
        "axes: [coil, z, shot, sample]\nmatrix: [4, 8, 12]\nencoding: 3d\n"
        "trajectory_file: where.npy\ntrajectory_library: medrecon"
    )
    (tmp_path / "kspace.yaml").write_text(text + GEOMETRY)
    geometry = read(tmp_path / "kspace.npy").geometry
    assert isinstance(geometry, NonCartesian)
    assert geometry.partitions is not None
    assert geometry.partitions.tolist() == [True, False, True, True]


BESIDE = {
    "spacing: [1, 1, 1]": "unknown key, did you mean spacing_mm?",
    "spacing_mm: [1, 1]": "number is missing",
    "spacing_mm: [1, 1, -1]": "greater than 0",
    "spacing_mm: ['1', 1, 1]": "expected a number",
    "spacing_mm: [1, 1, 1]\nfov_mm: [1, 1, 1]": "fov_mm: contradicts",
    "directions: [[0, 0, 1], [0, 1, 0], [1, 1, 0]]": "orthonormal",
    "axes: [coil, y, y]": "may be named once",
    "axes: [coil, y, x]": "axes",
    "axes: [z, coil, shot, x]": "has the axes",
    "matrix: [2, 8, 7]": "matrix",
    "matrix: 8": "expected a list",
    "noise_std: .nan": "noise_std",
    "encoding: 4d": "'2d' or '3d'",
    "maps_file: ../secret.npy": "in the same folder",
    "maps_file: /etc/passwd": "in the same folder",
    "trajectory_file: t.npy": "goes together",
    "- 1": "block of keys",
}


@pytest.mark.parametrize("text", BESIDE)
def test_a_wrong_text_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "kspace.yaml").write_text(text)
    message = refused(tmp_path, scan(2, 3, 8, 6))
    assert BESIDE[text] in message
    assert "\n" not in message


def test_text_files_that_are_no_strict_yaml_or_json_are_unreadable(tmp_path: Path) -> None:
    np.save(tmp_path / "kspace.npy", scan(2, 3, 8, 6))
    bad = {
        "kspace.yaml": ["a: &x 1\nb: *x", "fov_mm: [1", "a: 1\na: 2"],
        "kspace.json": ["{", '{"a": 1, "a": 2}', "[" * 100_000],
    }
    for name, texts in bad.items():
        for text in texts:
            (tmp_path / name).write_text(text)
            with pytest.raises(UnreadableError, match=name):
                read(tmp_path / "kspace.npy")
        (tmp_path / name).unlink()
    (tmp_path / "kspace.json").write_text("{}")
    (tmp_path / "kspace.yaml").write_text("noise_std: 1")
    with pytest.raises(InconsistentError, match="only one"):
        read(tmp_path / "kspace.npy")


def test_pickles_archives_and_damaged_files_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "kspace.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableError, match="pickled"):
        read_kspace_npy(path)
    np.save(path, scan(3, 8, 6))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnreadableError):
        read_kspace_npy(path)
    for content in (b"", b"no array"):
        path.write_bytes(content)
        with pytest.raises(UnreadableError):
            read_kspace_npy(path)
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    with pytest.raises(UnreadableError, match="archive"):
        read_kspace_npy(path)
    with pytest.raises(UnreadableError, match="No such file"):
        read_kspace_npy(tmp_path / "absent.npy")


@needs_data
def test_the_tutorial_brain_is_read() -> None:
    with pytest.warns(UserWarning, match="no geometry"):
        study = read(DATA / "sigpy_brain_8ch_poisson.npy")
    assert study.measurements.shape == (1, 8, 230, 180)
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.mask.mean() == pytest.approx(0.124, abs=0.001)
    assert study.geometry.mask[103:127, 78:102].all()


def test_the_texts_in_the_documentation_are_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "file-formats.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```yaml\n(axes:.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for text in blocks:
        Sidecar.model_validate(load_yaml(text.encode(), "the page").value)
