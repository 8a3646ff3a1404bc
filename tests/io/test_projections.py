"""Our own measurement file: everything comes back, and wrong files are named."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError, OutputError, UnreadableError
from medrecon.geometry import (
    Cartesian,
    ConeBeam,
    CTGeometry,
    FanBeam,
    ParallelBeam,
    ParallelBeam3D,
    SliceGeometry,
)
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.io.projections import read_projections, write_projections
from medrecon.study import Identity, Study

PARALLEL = ParallelBeam(angles=equiangular(5), columns=7, column_spacing=0.7, column_offset=-0.3)
FAN = FanBeam(
    angles=(0.1, 0.5, -2.0, 3.0, 4.0),
    source_to_axis=410.66,
    source_to_detector=553.74,
    columns=7,
    column_spacing=0.2,
)
CONE = ConeBeam(
    angles=equiangular(5, start=1.0),
    source_to_axis=500.0,
    source_to_detector=900.0,
    rows=3,
    columns=7,
    row_spacing=1.1,
    column_spacing=1.3,
    row_offset=0.4,
    column_offset=2.0,
)
ARC = replace(FAN, detector_radius=553.74)
HELIX = replace(
    CONE,
    detector_radius=900.0,
    heights=(-2.0, -1.0, 0.0, 1.0, 2.0),
    focal_shifts=((0.5, 0.0, 0.7), (-0.5, 0.1, -0.7)) * 2 + ((0.5, 0.0, 0.7),),
)
ROWS = ParallelBeam3D(
    angles=equiangular(5), rows=3, columns=7, row_spacing=0.9, column_spacing=0.7, row_offset=0.2
)
VECTORS = HELIX.vectors().detector_turned(tilt=0.1)
SLANTED = ROWS.vectors().rotated((1.0, 0.0, 0.0), 0.3)
OLD: list[CTGeometry] = [PARALLEL, FAN, CONE]
NEW: list[CTGeometry] = [ARC, HELIX, ROWS, VECTORS, SLANTED]
GRID = Grid.centred((3, 4, 5), (2.5, 0.7, 0.8), (1.0, -2.0, 3.0))
IDENTITY = Identity(
    attributes={"PatientName": "Doe^Jane", "StudyDate": "20260101"},
    frame_of_reference_uid="1.2.3",
    simulated=True,
)


def ct_study(geometry: CTGeometry, **changes: Any) -> Study:
    shape = (3, 5, 7) if isinstance(geometry, SliceGeometry) else (5, 3, 7)
    generator = torch.Generator().manual_seed(0)
    fields: dict[str, Any] = {
        "measurements": 3 * torch.rand(shape, generator=generator),
        "geometry": geometry,
        "grid": GRID,
        "weights": 100 * torch.rand(shape, generator=generator),
        "noise_std": 1.0,
        "identity": IDENTITY,
        "reference": 100 * torch.randn((3, 4, 5), generator=generator),
    }
    return Study(**(fields | changes))


def assert_same(a: Study, b: Study) -> None:
    assert torch.equal(a.measurements, b.measurements)
    assert a.measurements.dtype == b.measurements.dtype
    assert a.grid == b.grid
    assert a.noise_std == b.noise_std
    assert a.mu_water == b.mu_water
    assert dict(a.identity.attributes) == dict(b.identity.attributes)
    assert a.identity.frame_of_reference_uid == b.identity.frame_of_reference_uid
    assert a.identity.simulated == b.identity.simulated
    for x, y in ((a.weights, b.weights), (a.reference, b.reference)):
        assert (x is None) == (y is None)
        assert x is None or (y is not None and torch.equal(x, y))


@pytest.mark.parametrize("geometry", OLD + NEW, ids=lambda g: type(g).__name__)
@pytest.mark.parametrize("bare", [False, True])
def test_ct_studies_come_back_whole(tmp_path: Path, geometry: CTGeometry, bare: bool):
    nothing = {"grid": None, "weights": None, "noise_std": None, "reference": None}
    study = ct_study(geometry, **(nothing | {"identity": Identity()} if bare else {}))
    write_projections(tmp_path / "s.h5", study)
    back = read_projections(tmp_path / "s.h5")
    assert back.geometry == geometry
    assert_same(back, study)
    assert back.source == tmp_path / "s.h5"


def test_a_file_asks_for_no_newer_reader_than_it_needs(tmp_path: Path):
    for version, geometries in ((1, OLD), (2, NEW)):
        for geometry in geometries:
            write_projections(tmp_path / "s.h5", ct_study(geometry))
            with h5py.File(tmp_path / "s.h5") as file:
                assert file.attrs["version"] == version


def test_the_water_value_of_the_scanner_comes_back(tmp_path: Path):
    study = ct_study(HELIX, mu_water=0.0192)
    write_projections(tmp_path / "s.h5", study)
    assert read_projections(tmp_path / "s.h5").mu_water == 0.0192
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file.attrs["mu_water_per_mm"] = -1.0
    with pytest.raises(InconsistentError, match="mu_water_per_mm must be positive"):
        read_projections(tmp_path / "s.h5")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("heights_mm", np.zeros(4), "heights has 4 entries for 5 views"),
        ("heights_mm", np.full(5, np.nan), "heights must be finite"),
        ("heights_mm", np.zeros((5, 1)), "one list of numbers"),
        ("focal_shifts_mm", np.zeros((5, 2)), "3 numbers per view"),
        ("focal_shifts_mm", np.zeros((2, 3)), "focal_shifts has 2 entries for 5 views"),
    ],
)
def test_a_path_of_the_source_that_fits_no_view_is_inconsistent(
    tmp_path: Path, name: str, values: Any, words: str
):
    path = spoiled(tmp_path, lambda f: swap(f["geometry"], name, values), HELIX)
    with pytest.raises(InconsistentError, match=words):
        read_projections(path)


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7)])
def test_mr_studies_come_back_whole(tmp_path: Path, shape: tuple[int, ...]):
    mask = np.random.default_rng(0).random(shape) > 0.5
    kspace = torch.randn((2, 3, 5, 7), dtype=torch.complex64)
    grid = Grid.centred((3 if len(shape) == 3 else 2, 5, 7), (1.0, 1.0, 1.0))
    study = Study(measurements=kspace, geometry=Cartesian(mask=mask), grid=grid, noise_std=0.1)
    write_projections(tmp_path / "s.h5", study)
    back = read_projections(tmp_path / "s.h5")
    assert isinstance(back.geometry, Cartesian)
    np.testing.assert_array_equal(back.geometry.mask, mask)
    assert_same(back, study)


def test_photons_give_the_expected_quanta_as_weights(tmp_path: Path):
    study = ct_study(FAN, weights=None)
    write_projections(tmp_path / "s.h5", study, photons=1e5)
    weights = read_projections(tmp_path / "s.h5").weights
    assert weights is not None
    torch.testing.assert_close(weights, 1e5 * torch.exp(-study.measurements))


def test_same_study_same_bytes(tmp_path: Path):
    for name in ("a.h5", "b.h5"):
        write_projections(tmp_path / name, ct_study(CONE))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_nothing_is_left_where_the_folder_is_missing(tmp_path: Path):
    with pytest.raises(OutputError):
        write_projections(tmp_path / "absent" / "s.h5", ct_study(CONE))


def spoiled(tmp_path: Path, change: Any, geometry: CTGeometry = FAN) -> Path:
    path = tmp_path / "s.h5"
    write_projections(path, ct_study(geometry))
    with h5py.File(path, "a") as file:
        change(file)
    return path


def swap(file: Any, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.attrs.__delitem__("format"), "no medrecon-study"),
        (lambda f: f.attrs.__setitem__("version", 3), "newer medrecon"),
        (lambda f: f.__delitem__("geometry"), "'geometry' is missing"),
        (lambda f: f.__delitem__("measurements"), "no dataset 'measurements'"),
        (lambda f: f["geometry"].attrs.__setitem__("kind", "helix"), "helix"),
        (lambda f: f["geometry"].attrs.__delitem__("columns"), "'columns' is missing"),
        (lambda f: f["geometry"].attrs.__setitem__("columns", "many"), "must be numbers"),
        (lambda f: f["geometry"].attrs.__setitem__("columns", [1, 2]), "one number"),
    ],
)
def test_incomplete_files_are_unreadable(tmp_path: Path, change: Any, words: str):
    with pytest.raises(UnreadableError, match=words):
        read_projections(spoiled(tmp_path, change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f["geometry"].attrs.__setitem__("columns", 8), r"\(any, 5, 8\)"),
        (lambda f: swap(f, "measurements", np.full((3, 5, 7), 4e4)), "counts"),
        (lambda f: swap(f, "measurements", np.full((3, 5, 7), -990.0)), "HU"),
        (lambda f: f["measurements"].__setitem__((1, 2, 3), np.nan), r"1 measurements .*\(1, 2, 3"),
        (lambda f: swap(f, "measurements", np.ones((3, 5, 7), int)), "int64"),
        (lambda f: f["weights"].__setitem__((0, 0, 0), -1), "zero or positive"),
        (lambda f: swap(f, "weights", np.ones((4, 5, 7))), "weights of shape"),
        (lambda f: swap(f, "reference", np.ones((4, 5, 7))), "reference has shape"),
        (lambda f: swap(f["geometry"], "angles_rad", np.arange(5) * 45.0), "degrees"),
        (lambda f: swap(f["geometry"], "angles_rad", np.ones((5, 2))), "one list"),
        (lambda f: f["geometry"].attrs.__setitem__("column_offset_mm", 9.0), "rotation axis"),
        (lambda f: f["geometry"].attrs.__setitem__("source_to_axis_mm", 900.0), "beyond"),
        (lambda f: f["geometry"].attrs.__setitem__("column_spacing_mm", math.nan), "finite"),
        (lambda f: f["grid"].attrs.__setitem__("spacing_mm", (1, 1, 0)), "spacing"),
        (lambda f: f["identity/attributes"].attrs.__setitem__("../x", "y"), "DICOM keyword"),
    ],
)
def test_contradicting_files_are_inconsistent(tmp_path: Path, change: Any, words: str):
    with pytest.raises(InconsistentError, match=words) as caught:
        read_projections(spoiled(tmp_path, change))
    assert "Doe" not in str(caught.value)


def test_cone_measurements_of_another_shape_are_inconsistent(tmp_path: Path):
    path = spoiled(tmp_path, lambda f: swap(f, "measurements", np.ones((5, 4, 7))), CONE)
    with pytest.raises(InconsistentError, match=r"\(5, 3, 7\)"):
        read_projections(path)
