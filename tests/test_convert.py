"""The command convert: the same scan in another format, whole or not at all, losses named."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medrecon import cli
from medrecon.convert import convert
from medrecon.errors import InconsistentError, OutputError, UsageError
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.grid import Grid
from medrecon.io.cfl_write import write_cfl
from medrecon.io.ismrmrd import read_ismrmrd, write_ismrmrd
from medrecon.io.projections import write_projections
from medrecon.io.read import read_studies, read_study
from medrecon.study import Identity, Study
from tests.io.mrd_files import Scan
from tests.io.test_ismrmrd import images
from tests.io.test_projections import FAN, ct_study

GRID = Grid.centred((2, 12, 10), (3.3, 1.5, 1.25), (12.0, -7.0, 31.0))


def study(**changes: Any) -> Study:
    rng = np.random.default_rng(0)
    mask = rng.random((12, 10)) < 0.7
    mask[4:8, 3:7] = True
    y = (rng.standard_normal((2, 3, 12, 10, 2)) @ [1, 1j]).astype(np.complex64) * mask
    y[..., 6, 5] *= 50  # the centre, lest it be called a spike
    made = Study(
        measurements=torch.from_numpy(y), geometry=Cartesian(mask=mask), grid=GRID, noise_std=0.5
    )
    return replace(made, **changes)


def radial(*, partitions: bool = False) -> Study:
    rng = np.random.default_rng(1)
    plane = rng.uniform(-5, 5, (4, 7, 2)).astype(np.float32).astype(float)
    shape = (3, 2, 4, 7) if partitions else (2, 3, 4, 7)
    y = torch.from_numpy((rng.standard_normal((*shape, 2)) @ [1, 1j]).astype(np.complex64))
    steps = np.ones(2, dtype=bool) if partitions else None
    geometry = NonCartesian(trajectory=plane, partitions=steps)
    return Study(measurements=y, geometry=geometry, grid=GRID, noise_std=0.5)


def assert_same(a: Study, b: Study) -> None:
    assert torch.equal(a.measurements, b.measurements)
    assert a.grid is not None
    assert b.grid is not None
    assert a.grid.shape == b.grid.shape
    assert np.allclose(a.grid.affine, b.grid.affine, atol=1e-3)
    assert a.noise_std == pytest.approx(b.noise_std)
    if isinstance(a.geometry, Cartesian) and isinstance(b.geometry, Cartesian):
        assert np.array_equal(a.geometry.mask, b.geometry.mask)
    elif isinstance(a.geometry, NonCartesian) and isinstance(b.geometry, NonCartesian):
        assert np.allclose(a.geometry.trajectory, b.geometry.trajectory, atol=1e-5)
    else:
        assert type(a.geometry) is type(b.geometry)


@pytest.mark.parametrize("made", [study(), radial()], ids=["Cartesian", "radial"])
@pytest.mark.parametrize("names", [("a.h5", "b.cfl", "c.mrd"), ("a.cfl", "b.h5", "c.hdr")])
def test_there_and_back_the_scan_is_the_same(
    tmp_path: Path, made: Study, names: tuple[str, str, str]
) -> None:
    first, second, third = (tmp_path / name for name in names)
    (write_ismrmrd if first.suffix == ".h5" else write_cfl)(first, made)
    assert convert(first, second).lost == ()
    assert convert(second, third).lost == ()
    for path in (second, third):
        assert_same(made, read_study(path))


def test_ismrmrd_takes_all_images_and_bart_one(tmp_path: Path) -> None:
    def contrasts(acquisition: Any) -> None:
        acquisition.idx.contrast, acquisition.idx.average = acquisition.idx.average, 0

    path = Scan(images(slices=2), averages=2, on_acquisition=contrasts).write(tmp_path / "a.h5")
    done = convert(path, tmp_path / "b.mrd")
    assert done.images == ("contrast-1", "contrast-2")
    before, after = read_studies(path), read_studies(tmp_path / "b.mrd")
    assert [one.label for one in after] == ["contrast-1", "contrast-2"]
    assert torch.equal(before[1].measurements, after[1].measurements)
    with pytest.raises(InconsistentError, match="contrast-1, contrast-2"):
        convert(path, tmp_path / "b.cfl")
    with pytest.raises(InconsistentError, match="no image 'contrast-9'"):
        convert(path, tmp_path / "b.cfl", label="contrast-9")
    convert(path, tmp_path / "b.cfl", label="contrast-2")
    assert_same(before[1], read_study(tmp_path / "b.cfl"))


def test_losses_are_named(tmp_path: Path, capsys: Any) -> None:
    identity = Identity(attributes={"PatientID": "CANARY"}, frame_of_reference_uid="1.2.3")
    rich = study(
        identity=identity,
        reference=torch.ones(GRID.shape),
        weights=torch.full((12, 1), 2.0),
        calibration=torch.zeros(2, 3, 12, 10, dtype=torch.complex64) + 1,
    )
    write_ismrmrd(tmp_path / "a.h5", rich)
    found = convert(tmp_path / "a.h5", tmp_path / "b.cfl").lost
    for word in ("weights", "reference", "calibration", "PatientID", "frame of reference"):
        assert any(word in text for text in found), word
    assert cli.invoke(["convert", str(tmp_path / "a.h5"), str(tmp_path / "c.cfl")]) == 0
    captured = capsys.readouterr()
    assert "c.cfl does not hold" in captured.err
    assert len(captured.err.splitlines()) == 1
    assert "CANARY" not in captured.err + captured.out
    assert "c.hdr" in captured.out


def test_a_stack_in_bart_files_is_named_a_trajectory(tmp_path: Path) -> None:
    write_ismrmrd(tmp_path / "a.h5", radial(partitions=True))
    (lost,) = convert(tmp_path / "a.h5", tmp_path / "b.cfl").lost
    assert "3D trajectory" in lost
    again = read_study(tmp_path / "b.cfl")
    assert isinstance(again.geometry, NonCartesian)
    assert again.geometry.shots == 2 * 4


@pytest.mark.parametrize("name", ["b.h5", "b.cfl"])
def test_nothing_is_overwritten_unasked(tmp_path: Path, name: str) -> None:
    write_ismrmrd(tmp_path / "a.h5", study())
    target = tmp_path / name
    convert(tmp_path / "a.h5", target)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(OutputError, match="exists"):
        convert(tmp_path / "a.h5", target)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    write_ismrmrd(tmp_path / "a.h5", radial())
    convert(tmp_path / "a.h5", target, overwrite=True)
    assert_same(radial(), read_study(target))
    write_ismrmrd(tmp_path / "a.h5", study())
    convert(tmp_path / "a.h5", target, overwrite=True)  # and no trajectory stays behind
    assert_same(study(), read_study(target))


def test_a_file_of_the_same_scan_counts_as_there(tmp_path: Path) -> None:
    write_ismrmrd(tmp_path / "a.h5", study())
    (tmp_path / "b.yaml").write_text("noise_std: 1")
    with pytest.raises(OutputError, match=r"b\.yaml exists"):
        convert(tmp_path / "a.h5", tmp_path / "b.cfl")


def test_targets_that_make_no_sense_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    source = tmp_path / "a.h5"
    source.write_bytes(b"not read")
    with pytest.raises(UsageError, match="does not say a format"):
        convert(source, tmp_path / "b.nii.gz")
    with pytest.raises(OutputError, match="input itself"):
        convert(source, source, overwrite=True)
    with pytest.raises(OutputError, match="does not exist"):
        convert(source, tmp_path / "absent" / "b.h5")


def test_what_is_no_mr_scan_is_refused(tmp_path: Path) -> None:
    write_projections(tmp_path / "ct.h5", ct_study(FAN))
    with pytest.raises(InconsistentError, match="CT measurements"):
        convert(tmp_path / "ct.h5", tmp_path / "b.h5")
    assert [file.name for file in tmp_path.iterdir()] == ["ct.h5"]


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ismrmrd(tmp_path / "a.h5", study())

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("medrecon.convert.os.replace", full)
    with pytest.raises(OutputError, match="disk is full") as caught:
        convert(tmp_path / "a.h5", tmp_path / "b.cfl")
    assert str(caught.value).startswith(str(tmp_path / "b."))
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_a_file_that_could_not_be_read_again_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ismrmrd(tmp_path / "a.h5", study())

    def broken(path: Path, _: object) -> None:
        path.write_bytes(b"nothing")

    monkeypatch.setattr("medrecon.convert.write_ismrmrd", broken)
    with pytest.raises(InconsistentError, match="not be readable again"):
        convert(tmp_path / "a.h5", tmp_path / "b.h5")
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5"]


def test_the_raw_scan_of_a_scanner_becomes_ismrmrd(tmp_path: Path) -> None:
    raw = Path(__file__).parents[2] / "shared" / "data" / "raw" / "mri" / "gre.dat"
    if not raw.exists():
        pytest.skip(f"measured raw data not at {raw}")
    convert(raw, tmp_path / "gre.h5")
    (before,), (after,) = read_studies(raw), read_ismrmrd(tmp_path / "gre.h5")
    assert_same(before, after)
