"""What is written as MRD is read again exactly, and the standard's own package takes it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from ismrmrd import xsd

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.grid import Grid
from medrecon.io.ismrmrd import read_ismrmrd, write_ismrmrd
from medrecon.study import Identity, Study
from tests.io.mrd_files import OBLIQUE

COILS, Z, Y, X = 3, 4, 8, 6
GRID = Grid(
    shape=(Z, Y, X),
    spacing=(3.3, 1.1, 1.2),
    origin=(-10.0, 20.0, 5.0),
    directions=tuple(map(tuple, OBLIQUE.tolist())),  # type: ignore[arg-type]
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Complex samples of which the strongest are in the middle."""
    values = torch.randn(
        shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed)
    )
    values[..., shape[-2] // 2, shape[-1] // 2] += 20
    return values


def cartesian(mask: np.ndarray, encoded: int = 0, **changes: Any) -> Study:
    geometry = Cartesian(mask=mask, encoded=encoded)
    shape = (COILS, Z, Y, X) if geometry.is_3d else (Z, COILS, Y, X)
    kspace = random(*shape) * torch.from_numpy(geometry.samples)
    return Study(measurements=kspace, geometry=geometry, grid=GRID, **changes)


def spokes(axes: int, shots: int = 7, samples: int = 10) -> np.ndarray:
    rng = np.random.default_rng(2)
    ends = rng.standard_normal((shots, 1, axes))
    ends /= np.linalg.norm(ends, axis=-1, keepdims=True)
    radius = (np.arange(samples) - samples // 2) / samples
    shape = np.array((Z, Y, X)[3 - axes :])
    found: np.ndarray = radius[:, None] * ends * shape
    return found


def lines(seed: int = 1, shape: tuple[int, ...] = (Y,)) -> np.ndarray:
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask[..., Y // 2] = True
    whole: np.ndarray = np.broadcast_to(mask[..., None], (*shape, X)).copy()
    return whole


def noncartesian(kind: str, **changes: Any) -> Study:
    flat = spokes(3 if kind == "3d" else 2)
    partitions = np.array([True, True, True, False]) if kind == "stack" else None
    geometry = NonCartesian(trajectory=flat, partitions=partitions)
    shape = {"2d": (Z, COILS), "stack": (COILS, Z), "3d": (COILS,)}[kind]
    samples = random(*shape, *flat.shape[:2])
    if partitions is not None:
        samples[:, ~partitions] = 0
    return Study(measurements=samples, geometry=geometry, grid=GRID, **changes)


STUDIES = {
    "2d": lambda: cartesian(lines()),
    "2d per slice": lambda: cartesian(lines(shape=(Z, Y)), encoded=2),
    "2d of single samples": lambda: cartesian(lines() & (np.arange(X) % 2 == 1)),
    "2d per slice of single samples": lambda: cartesian(
        lines(shape=(Z, Y)) & (np.arange(X) % 2 == 1), encoded=2
    ),
    "3d": lambda: cartesian(lines(shape=(Z, Y))),
    "radial 2d": lambda: noncartesian("2d"),
    "stack of stars": lambda: noncartesian("stack"),
    "radial 3d": lambda: noncartesian("3d"),
}


def require_same(found: Study, expected: Study) -> None:
    assert torch.equal(found.measurements, expected.measurements)
    assert isinstance(found.geometry, MRGeometry)
    if isinstance(expected.geometry, Cartesian):
        assert isinstance(found.geometry, Cartesian)
        assert np.array_equal(found.geometry.mask, expected.geometry.mask)
        assert found.geometry.encoded == expected.geometry.encoded
    elif isinstance(expected.geometry, NonCartesian):
        assert isinstance(found.geometry, NonCartesian)
        assert np.array_equal(found.geometry.trajectory, expected.geometry.trajectory)
        for name in ("partitions", "times"):
            ours, theirs = getattr(found.geometry, name), getattr(expected.geometry, name)
            assert (ours is None) == (theirs is None)
            assert ours is None or np.array_equal(ours, theirs)
    assert found.grid is not None
    assert expected.grid is not None
    assert found.grid.shape == expected.grid.shape
    assert np.allclose(found.grid.affine, expected.grid.affine, atol=1e-4)
    assert found.noise_std == expected.noise_std
    for name in ("weights", "maps", "calibration", "reference"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        assert ours is None or torch.equal(ours, theirs), name


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    study = STUDIES[name]()
    write_ismrmrd(tmp_path / "scan.h5", study)
    (again,) = read_ismrmrd(tmp_path / "scan.h5")
    require_same(again, study)
    assert again.label == ""


@pytest.mark.parametrize("name", ["2d", "3d", "radial 2d", "stack of stars"])
def test_maps_calibration_truth_and_noise_come_back_too(tmp_path: Path, name: str) -> None:
    study = STUDIES[name]()
    assert isinstance(study.geometry, MRGeometry)
    is_3d = study.geometry.is_3d
    shape = (COILS, Z, Y, X) if is_3d else (Z, COILS, Y, X)
    calibration = random(*shape, seed=4)
    calibration[..., : Y // 2 - 1, :] = 0
    calibration[..., Y // 2 + 2 :, :] = 0
    study = replace(
        study,
        maps=random(2, *shape, seed=3),
        calibration=calibration,
        reference=torch.rand(Z, Y, X),
        noise_std=0.123456789,
        weights=torch.rand(*study.measurements.shape[-2:]),
    )
    write_ismrmrd(tmp_path / "scan.h5", study)
    (again,) = read_ismrmrd(tmp_path / "scan.h5")
    require_same(again, study)


def test_times_of_a_trajectory_come_back(tmp_path: Path) -> None:
    study = noncartesian("2d", facts={"trajectory": "spiral"})
    assert isinstance(study.geometry, NonCartesian)
    times = 1e-3 + 4e-6 * np.arange(10, dtype=np.float64)
    study = replace(
        study, geometry=replace(study.geometry, times=np.asarray(times, dtype=np.float64))
    )
    write_ismrmrd(tmp_path / "scan.h5", study)
    (again,) = read_ismrmrd(tmp_path / "scan.h5")
    require_same(again, study)
    assert again.facts["trajectory"] == "spiral"
    assert again.facts["trajectory_unit"]["name"] == "cycles/fov"


def test_times_along_cartesian_readouts_come_back(tmp_path: Path) -> None:
    study = cartesian(lines())
    assert isinstance(study.geometry, Cartesian)
    times = np.asarray(2e-3 + 5e-6 * np.arange(X), dtype=np.float64)
    study = replace(study, geometry=replace(study.geometry, times=times))
    write_ismrmrd(tmp_path / "scan.h5", study)
    (again,) = read_ismrmrd(tmp_path / "scan.h5")
    require_same(again, study)
    assert isinstance(again.geometry, Cartesian)
    assert again.geometry.times is not None
    assert np.array_equal(again.geometry.times, times)


def test_contrasts_and_repetitions_share_a_file(tmp_path: Path) -> None:
    studies = []
    for i, (c, r) in enumerate(itertools.product((1, 2), (1, 2, 3))):
        study = cartesian(
            lines(seed=i),
            label=f"contrast-{c}_repetition-{r}",
            reference=torch.full((Z, Y, X), float(i)),
            noise_std=float(i + 1),
            identity=Identity(attributes={"EchoTime": f"{2.5 * c}", "RepetitionTime": "400.0"}),
        )
        studies.append(replace(study, measurements=study.measurements * (i + 1)))
    write_ismrmrd(tmp_path / "scan.h5", studies[::-1])
    again = read_ismrmrd(tmp_path / "scan.h5")
    assert [study.label for study in again] == [study.label for study in studies]
    for found, expected in zip(again, studies, strict=True):
        require_same(found, expected)
        assert dict(found.identity.attributes) == dict(expected.identity.attributes)


def test_slabs_stacks_and_encodings_share_a_file(tmp_path: Path) -> None:
    slab = cartesian(lines(shape=(Z, Y)), label="encoding-1_slab-1")
    above = replace(slab, label="encoding-1_slab-2", grid=GRID.shifted((0.0, 0.0, 40.0)))
    turned = replace(GRID, directions=tuple(GRID.directions[i] for i in (1, 0, 2)))  # type: ignore[arg-type]
    flat = cartesian(lines(), label="encoding-2_stack-1")
    other = replace(flat, label="encoding-2_stack-2", grid=turned)
    radial = noncartesian("2d", label="encoding-3_stack-1")
    studies = [slab, above, flat, other, radial]
    write_ismrmrd(tmp_path / "scan.h5", studies)
    again = read_ismrmrd(tmp_path / "scan.h5")
    assert [study.label for study in again] == [
        "encoding-1_slab-1", "encoding-1_slab-2", "encoding-2_stack-1", "encoding-2_stack-2",
        "encoding-3_stack-1",
    ]  # fmt: skip
    for found, expected in zip(again, studies, strict=True):
        require_same(found, expected)


def test_studies_without_labels_become_repetitions(tmp_path: Path) -> None:
    study = cartesian(lines())
    write_ismrmrd(tmp_path / "scan.h5", [study, study])
    again = read_ismrmrd(tmp_path / "scan.h5")
    assert [found.label for found in again] == ["repetition-1", "repetition-2"]


BAD: dict[str, tuple[Any, str]] = {
    "no study": (lambda: [], "Only MR studies"),
    "no grid": (lambda: [replace(cartesian(lines()), grid=None)], "Only MR studies"),
    "labels that are alike": (lambda: [cartesian(lines(), label="set-1")] * 2, "'set-1' does not"),
    "labels of others": (
        lambda: [cartesian(lines(), label=name) for name in ("T1", "T2")],
        "'T1' does not tell",
    ),
    "other matrices in one encoding": (
        lambda: [
            cartesian(lines(), label="set-1"),
            noncartesian("2d", label="set-2"),
        ],
        "encoding-2",
    ),
    "slabs out of order": (
        lambda: [
            cartesian(lines(shape=(Z, Y)), label="slab-2"),
            replace(
                cartesian(lines(shape=(Z, Y)), label="slab-1"),
                grid=GRID.shifted((0.0, 0.0, 40.0)),
            ),
        ],
        "in their order",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_told_apart_is_refused(tmp_path: Path, case: str) -> None:
    make, message = BAD[case]
    with pytest.raises(InconsistentError, match=message):
        write_ismrmrd(tmp_path / "scan.h5", make())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["2d per slice", "3d", "radial 2d", "stack of stars", "radial 3d"])
def test_the_standards_own_package_finds_the_same(tmp_path: Path, name: str) -> None:
    study, path = STUDIES[name](), tmp_path / "scan.h5"
    write_ismrmrd(path, study)
    dataset = ismrmrd.Dataset(str(path), mode="r")
    header = xsd.CreateFromDocument(dataset.read_xml_header())
    assert header.encoding[0].encodedSpace.matrixSize.y == Y
    count = dataset.number_of_acquisitions()
    rows = [dataset.read_acquisition(i) for i in range(count)]
    dataset.close()
    samples = study.measurements.numpy()
    geometry = study.geometry
    if isinstance(geometry, Cartesian):
        per_slice = np.broadcast_to(geometry.mask.any(axis=-1), (Z, Y))
        assert count == int(per_slice.sum())
        planes = samples.swapaxes(0, 1) if geometry.is_3d else samples
    else:
        assert isinstance(geometry, NonCartesian)
        planes = samples[None] if name == "radial 3d" else samples
        planes = samples.swapaxes(0, 1) if geometry.is_stack else planes
    for row in rows:
        idx = row.idx
        z = idx.kspace_encode_step_2 if name in ("3d", "stack of stars") else idx.slice
        assert np.array_equal(row.data, planes[z, :, idx.kspace_encode_step_1])
        if isinstance(geometry, NonCartesian):
            k = geometry.trajectory[idx.kspace_encode_step_1, :, ::-1]
            assert np.allclose(row.traj, k, atol=1e-6)
    assert rows[-1].is_flag_set(ismrmrd.ACQ_LAST_IN_MEASUREMENT)


@pytest.mark.parametrize("name", ["reference", "mask", "maps", "weights", "trajectory", "times"])
def test_datasets_of_ours_that_do_not_fit_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "scan.h5"
    write_ismrmrd(
        path, noncartesian("2d") if name in ("trajectory", "times") else cartesian(lines())
    )
    with h5py.File(path, "a") as file:
        file["dataset"].pop(name, None)
        file["dataset"][name] = np.ones((2, 5, 3))
    with pytest.raises(InconsistentError, match=f"'{name}' of shape .2, 5, 3. does not fit"):
        read_ismrmrd(path)


def test_patient_study_and_scanner_come_back(tmp_path: Path) -> None:
    attributes = {
        "PatientName": "Test^Phantom",
        "PatientBirthDate": "19700102",
        "PatientSex": "O",
        "PatientWeight": "70.5",
        "PatientPosition": "FFS",
        "StudyDate": "20260131",
        "StudyTime": "235958",
        "AccessionNumber": "17",
        "BodyPartExamined": "BRAIN",
        "Manufacturer": "Maker",
        "MagneticFieldStrength": "2.89",
    }
    identity = Identity(attributes=attributes, frame_of_reference_uid="1.2.3")
    write_ismrmrd(tmp_path / "scan.h5", replace(cartesian(lines()), identity=identity))
    (again,) = read_ismrmrd(tmp_path / "scan.h5")
    assert dict(again.identity.attributes) == attributes
    assert again.identity.frame_of_reference_uid == "1.2.3"


def test_what_the_standard_cannot_hold_of_a_patient_is_left_out(tmp_path: Path) -> None:
    attributes = {"PatientSex": "unknown", "StudyDate": "1970", "PatientWeight": "heavy"}
    study = replace(cartesian(lines()), identity=Identity(attributes=attributes))
    write_ismrmrd(tmp_path / "scan.h5", study)
    assert not read_ismrmrd(tmp_path / "scan.h5")[0].identity.attributes
