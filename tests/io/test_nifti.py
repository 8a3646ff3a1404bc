"""NIfTI: every voxel comes back to its place; what is not an image of a patient is refused."""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from medrecon.errors import InconsistentError, OutputError, ResourceError, UnreadableError
from medrecon.grid import Grid
from medrecon.io.nifti import is_nifti, read_nifti, write_nifti
from medrecon.io.orientation import nearest_axial
from medrecon.volume import Unit, Volume
from tests.io.volumes import random_volume, values_at, volumes

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 3, 0, -120], [0, 0, 4, 10], [0, 0, 0, 1]])
bounded = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def save(
    path: Path,
    data: np.ndarray,
    affine: np.ndarray = AFFINE,
    *,
    qform: np.ndarray | None = None,
    codes: tuple[int, int] = (1, 1),
    units: str = "mm",
) -> Path:
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine if qform is None else qform, codes[1])
    image.header.set_xyzt_units(units)
    nib.save(image, path)
    return path


@bounded
@given(volume=volumes)
def test_round_trip_keeps_values_and_places(tmp_path: Path, volume: Volume):
    write_nifti(volume, tmp_path / "v.nii.gz")
    back = read_nifti(tmp_path / "v.nii.gz")
    assert torch.equal(back.data, volume.data)
    np.testing.assert_allclose(back.grid.affine, volume.grid.affine, atol=1e-4)
    assert back.unit is Unit.HU


@bounded
@given(volume=volumes)
def test_nibabel_sees_every_voxel_at_its_ras_place_by_either_form(tmp_path: Path, volume: Volume):
    write_nifti(volume, tmp_path / "v.nii")
    image = nib.load(tmp_path / "v.nii")
    z, _, x = (n - 1 for n in volume.grid.shape)
    left, posterior, superior, _ = volume.grid.affine @ [z, 1, x, 1]
    for affine, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert code == 1
        here = affine @ [x, 1, z, 1]
        np.testing.assert_allclose(here[:3], [-left, -posterior, superior], atol=1e-3)
    assert image.get_fdata()[x, 1, z] == volume.data[z, 1, x]
    assert image.header.get_xyzt_units()[0] == "mm"


def test_the_unit_is_the_callers_or_our_own_note_or_arbitrary(tmp_path: Path):
    write_nifti(random_volume(1, Unit.PER_MM), tmp_path / "ours.nii")
    foreign = save(tmp_path / "foreign.nii", np.zeros((2, 2, 2), np.uint8))
    assert read_nifti(tmp_path / "ours.nii").unit is Unit.PER_MM
    assert read_nifti(foreign).unit is Unit.ARBITRARY
    assert read_nifti(foreign, unit=Unit.HU).unit is Unit.HU


def test_an_axial_lps_volume_reads_as_nibabel_would_show_it():
    grid = Grid.centred((2, 3, 4), (5.0, 2.0, 1.0))
    assert grid.is_axial
    assert nib.aff2axcodes(np.diag([-1.0, -1, 1, 1]) @ grid.affine[:, [2, 1, 0, 3]]) == tuple("LPS")


def test_same_volume_same_bytes(tmp_path: Path):
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(random_volume(3), tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@bounded
@given(volume=volumes)
def test_axial_order_moves_no_voxel_in_space(volume: Volume):
    axial = nearest_axial(volume)
    assert values_at(axial) == values_at(volume)
    largest = np.abs(np.array(axial.grid.directions))
    assert np.trace(np.array(axial.grid.directions)[:, ::-1]) > 0
    assert largest.sum() > 0


def test_axial_order_of_every_axis_aligned_layout_is_axial():
    for codes in ("RAS", "LPS", "ASL", "PIR", "SAL", "IRP"):
        data = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
        affine = nib.orientations.inv_ornt_aff(
            nib.orientations.axcodes2ornt(tuple(codes)), data.shape
        )
        lps = np.diag([-1.0, -1, 1, 1]) @ affine @ np.diag([1.0, 2, 3, 1])
        grid = Grid.from_affine((5, 4, 3), lps[:, [2, 1, 0, 3]])
        assert nearest_axial(Volume(torch.from_numpy(data.T.copy()), grid, Unit.HU)).grid.is_axial


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, ">i2", ">f4"])
def test_stored_types_and_scaling_become_float32(tmp_path: Path, dtype: str):
    data = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    path = save(tmp_path / "v.nii.gz", data)
    np.testing.assert_array_equal(read_nifti(path).data, data.astype(np.float32).T)


@pytest.mark.parametrize(
    ("slope", "offset", "expected"),
    [(2.0, -1000.0, -998.0), (0.0, 5.0, 1.0), (np.nan, 5.0, 1.0), (np.inf, np.nan, 1.0)],
)
def test_scaling_is_applied_and_invalid_scaling_is_none(
    tmp_path: Path, slope: float, offset: float, expected: float
):
    path = save(tmp_path / "v.nii", np.ones((2, 2, 2), np.int16))
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, offset], "<f4").tobytes()
    path.write_bytes(content)
    assert read_nifti(path).data[0, 0, 0] == expected


def test_micrometres_and_metres_become_millimetres(tmp_path: Path):
    data = np.ones((2, 3, 4), np.float32)
    for unit, scale in (("micron", 1e3), ("meter", 1e-3)):
        affine = AFFINE.copy()
        affine[:3] *= scale
        path = save(tmp_path / f"{unit}.nii", data, affine, units=unit)
        assert read_nifti(path).grid.spacing == pytest.approx((4, 3, 2), rel=1e-5)


def test_nifti_2_and_trailing_single_axes_are_read(tmp_path: Path):
    data = np.random.default_rng(0).random((2, 3, 4, 1)).astype(np.float32)
    nib.save(nib.Nifti2Image(data, AFFINE), tmp_path / "v.nii")
    assert is_nifti(tmp_path / "v.nii")
    np.testing.assert_array_equal(read_nifti(tmp_path / "v.nii").data, data[..., 0].T)


# Bad inputs, by their row in the table of bad inputs.


def test_27_truncated_files_are_unreadable(tmp_path: Path):
    data = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    for name in ("v.nii", "v.nii.gz"):
        content = save(tmp_path / name, data).read_bytes()
        for end in (0, 10, 200, 400, len(content) // 2, len(content) - 9):
            (tmp_path / name).write_bytes(content[:end])
            with pytest.raises(UnreadableError):
                read_nifti(tmp_path / name)


def test_28_gzip_bomb_is_refused_before_it_is_inflated(tmp_path: Path):
    path = save(tmp_path / "v.nii", np.zeros((2, 2, 2), np.uint8))
    header = bytearray(path.read_bytes()[:352])
    header[42:48] = np.array([500, 500, 500], "<i2").tobytes()
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(bytes(header) + bytes(500**3)))
    with pytest.raises(UnreadableError, match="truncated or made up"):
        read_nifti(tmp_path / "bomb.nii.gz")


def test_29_enormous_dimensions_are_refused_with_their_size(tmp_path: Path):
    path = save(tmp_path / "v.nii", np.zeros((2, 2, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(content)
    with pytest.raises(ResourceError, match="GiB"):
        read_nifti(path)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_30_31_singular_or_nan_affine_is_inconsistent(tmp_path: Path, value: float):
    path = save(tmp_path / "v.nii", np.zeros((2, 2, 2), np.uint8))
    content = bytearray(path.read_bytes())
    content[280:296] = np.array([value, 0, 0, 0], "<f4").tobytes()
    path.write_bytes(content)
    with pytest.raises(InconsistentError, match="sform"):
        read_nifti(path)


def test_30_sheared_affine_is_inconsistent(tmp_path: Path):
    sheared = AFFINE.copy()
    sheared[1, 2] = 1.0
    path = save(tmp_path / "v.nii", np.zeros((2, 2, 2), np.uint8), sheared, codes=(1, 0))
    with pytest.raises(InconsistentError, match="tilted"):
        read_nifti(path)


def test_32_contradicting_forms_are_inconsistent_or_warned_of(tmp_path: Path):
    moved = AFFINE.copy()
    moved[0, 3] += 5
    data = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(InconsistentError, match=r"5\.00 mm"):
        read_nifti(save(tmp_path / "a.nii", data, qform=moved))
    with pytest.warns(UserWarning, match=r"5\.00 mm"):
        volume = read_nifti(save(tmp_path / "b.nii", data, qform=moved, codes=(2, 1)))
    assert volume.grid.origin[0] == pytest.approx(-90)


def test_33_no_stated_orientation_is_inconsistent(tmp_path: Path):
    path = save(tmp_path / "v.nii", np.zeros((2, 2, 2), np.uint8), codes=(0, 0))
    with pytest.raises(InconsistentError, match="codes are 0"):
        read_nifti(path)


def test_35_several_images_are_inconsistent(tmp_path: Path):
    with pytest.raises(InconsistentError, match=r"\(2, 2, 2, 3\)"):
        read_nifti(save(tmp_path / "v.nii", np.zeros((2, 2, 2, 3), np.uint8)))


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_36_complex_and_colour_are_inconsistent(tmp_path: Path, dtype: Any):
    with pytest.raises(InconsistentError, match="real numbers"):
        read_nifti(save(tmp_path / "v.nii", np.zeros((2, 2, 2), dtype)))


def test_37_nan_voxels_are_counted_and_located(tmp_path: Path):
    data = np.zeros((2, 3, 4), np.float32)
    data[1, 2, 3] = np.nan
    data[1, 2, 1] = np.inf
    with pytest.raises(InconsistentError, match=r"2 voxels .* \(1, 2, 1\)"):
        read_nifti(save(tmp_path / "v.nii", data))


@pytest.mark.parametrize("scale", [1e-4, 50.0])
def test_38_voxels_of_an_impossible_size_are_inconsistent(tmp_path: Path, scale: float):
    affine = AFFINE.copy()
    affine[:3] *= scale
    with pytest.raises(InconsistentError, match="length unit"):
        read_nifti(save(tmp_path / "v.nii", np.zeros((2, 2, 2), np.uint8), affine))


def test_other_files_are_no_nifti(tmp_path: Path):
    path = tmp_path / "x.nii.gz"
    for content in (b"", b"text" * 200, gzip.compress(b"text" * 200), b"\x1f\x8bnonsense"):
        path.write_bytes(content)
        assert not is_nifti(path)
        with pytest.raises(UnreadableError):
            read_nifti(path)


def test_bad_names_and_folders_are_output_errors(tmp_path: Path):
    for path in (tmp_path / "v.img", tmp_path / "absent" / "v.nii"):
        with pytest.raises(OutputError):
            write_nifti(random_volume(1), path)
    assert list(tmp_path.iterdir()) == []
