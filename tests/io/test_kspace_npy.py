from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian
from medrecon.io.kspace_npy import read_kspace_npy

DATA = Path(__file__).parents[3] / "shared" / "data" / "raw" / "mri"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"measured raw data not at {DATA}")


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
        study = read_kspace_npy(path)
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
    assert "(1, 3, 4)" in refused(tmp_path, bad)
    uneven = scan(2, 3, 8, 6)
    uneven[1, :, 1] = 0
    assert "differently" in refused(tmp_path, uneven)


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
        study = read_kspace_npy(DATA / "sigpy_brain_8ch_poisson.npy")
    assert study.measurements.shape == (1, 8, 230, 180)
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.mask.mean() == pytest.approx(0.124, abs=0.001)
    assert study.geometry.mask[103:127, 78:102].all()
