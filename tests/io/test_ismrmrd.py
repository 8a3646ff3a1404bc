from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import pytest
import torch
from ismrmrd import xsd

from medrecon.errors import InconsistentError, ResourceError, UnreadableError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.grid import Grid
from medrecon.io.ismrmrd import read_ismrmrd, write_ismrmrd
from medrecon.simulate_mr import simulate_mr
from medrecon.study import Identity, Study
from medrecon.volume import Unit, Volume
from tests.io.mrd_files import OBLIQUE, Scan, limit


def images(slices: int = 4, coils: int = 3, y: int = 12, x: int = 10) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((slices, coils, y, x, 2)) @ [0.1, 0.1j]
    noise[:, :, y // 4 : -y // 4, x // 4 : -x // 4] += 3  # an object in the middle: no spike
    image: np.ndarray = noise
    return image


def read_one(path: Path) -> Study:
    (study,) = read_ismrmrd(path)
    return study


def read_image(path: Path) -> tuple[Study, torch.Tensor]:
    study = read_one(path)
    return study, kspace_to_image(study.measurements, (-2, -1))


def acquisitions_of(study: Study) -> Cartesian:
    assert isinstance(study.geometry, Cartesian)
    return study.geometry


@pytest.mark.parametrize(("y", "x"), [(12, 10), (11, 9)])
def test_interleaved_oblique_slices_come_out_sorted_and_cropped(
    tmp_path: Path, y: int, x: int
) -> None:
    truth = images(y=y, x=x)
    study, image = read_image(Scan(truth).write(tmp_path / "scan.h5"))
    assert np.allclose(image, truth, atol=1e-5)
    assert acquisitions_of(study).mask.all()
    assert study.noise_std is None
    assert study.source == tmp_path / "scan.h5"


@pytest.mark.parametrize(("y", "x"), [(12, 10), (11, 9)])
def test_the_slice_position_lies_at_the_voxel_that_the_fourier_transform_says(
    tmp_path: Path, y: int, x: int
) -> None:
    scan = Scan(images(y=y, x=x))
    grid = read_one(scan.write(tmp_path / "scan.h5")).grid
    assert grid is not None
    assert grid.spacing == pytest.approx((3.3, 1.5, 1.25), abs=1e-5)  # the gap, not the thickness
    for index in range(4):
        voxel = grid.affine @ [index, y // 2, x // 2, 1]
        assert np.allclose(voxel[:3], scan.position(index), atol=1e-4)
    step = grid.affine[:3, :3]
    assert np.allclose(step / np.linalg.norm(step, axis=0), OBLIQUE.T, atol=1e-6)


def test_a_scan_written_feet_first_grows_along_its_own_normal(tmp_path: Path) -> None:
    flipped = OBLIQUE * np.array([[-1.0], [1.0], [-1.0]])
    truth = images()
    study, image = read_image(Scan(truth, directions=flipped).write(tmp_path / "scan.h5"))
    assert np.allclose(image, truth, atol=1e-5)
    assert study.grid is not None
    assert np.allclose(study.grid.directions, flipped, atol=1e-6)


def test_noise_scans_whiten_the_coils(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    mixing = rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3))

    def noise(*shape: int) -> np.ndarray:
        white = (rng.standard_normal((*shape, 2)) @ [1, 1j]) / math.sqrt(2)
        coloured: np.ndarray = np.einsum("ab,...bx->...ax", mixing, white)
        return coloured

    pure = np.moveaxis(noise(4, 32, 3, 30), 1, 2)  # images of nothing but noise
    scan = Scan(pure, noise=noise(8, 3, 256), oversampling=1)
    with pytest.warns(UserWarning, match="far from the centre"):
        study = read_one(scan.write(tmp_path / "scan.h5"))
    y = study.measurements.movedim(1, 0).flatten(1)
    covariance = y @ y.mH / y.shape[1]
    assert float((covariance - torch.eye(3)).abs().max()) < 0.1
    assert study.noise_std == 1


def test_a_noise_scan_of_another_bandwidth_is_scaled(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).standard_normal((4, 3, 64, 2)) @ [1, 1j]

    def bandwidth(header: Any) -> None:
        header.acquisitionSystemInformation = xsd.acquisitionSystemInformationType(
            relativeReceiverNoiseBandwidth=0.8
        )

    plain = read_one(Scan(images(), noise=noise).write(tmp_path / "a.h5"))
    slower = Scan(images(), noise=noise, noise_dwell=10.0, on_header=bandwidth)
    scaled = read_one(slower.write(tmp_path / "b.h5"))
    # twice the dwell time and 0.8 of the bandwidth: imaging noise is 2 / 0.8 times as strong
    expected = plain.measurements / math.sqrt(2 / 0.8)
    assert torch.allclose(scaled.measurements, expected, rtol=1e-4, atol=1e-5)


def test_averages_are_averaged_and_lower_the_noise(tmp_path: Path) -> None:
    truth = images()
    noise = np.random.default_rng(2).standard_normal((4, 3, 64, 2)) @ [1, 1j]
    single = read_one(Scan(truth, noise=noise).write(tmp_path / "a.h5"))
    study = read_one(Scan(truth, averages=4, noise=noise).write(tmp_path / "b.h5"))
    assert study.noise_std == 0.5
    assert torch.allclose(study.measurements, single.measurements, atol=1e-4)


def test_unequal_averages_become_weights(tmp_path: Path) -> None:
    scan = Scan(images(slices=1), lines=[*range(12), 5, 6, 6])
    study = read_one(scan.write(tmp_path / "scan.h5"))
    assert study.weights is not None
    assert study.weights.flatten().tolist() == [1, 1, 1, 1, 1, 2, 3, 1, 1, 1, 1, 1]


def test_partial_fourier_and_undersampling_give_the_mask(tmp_path: Path) -> None:
    lines = [0, 2, 4, 5, 6, 7, 8]
    scan = Scan(images(), lines=lines)
    study = read_one(scan.write(tmp_path / "scan.h5"))
    mask = acquisitions_of(study).mask
    assert np.flatnonzero(mask.any(axis=1)).tolist() == lines
    assert mask[lines].all()
    full = read_one(Scan(images()).write(tmp_path / "full.h5"))
    assert torch.equal(study.measurements, full.measurements * torch.from_numpy(mask))


def test_the_centre_of_k_space_is_where_the_limits_say(tmp_path: Path) -> None:
    # the same lines, counted from the first one measured
    def recount(acquisition: Any) -> None:
        acquisition.idx.kspace_encode_step_1 -= 3

    def center(header: Any) -> None:
        header.encoding[0].encodingLimits.kspace_encoding_step_1 = limit(8, 3)

    lines = list(range(3, 12))
    plain = read_one(Scan(images(), lines=lines).write(tmp_path / "a.h5"))
    shifted = Scan(images(), lines=lines, on_acquisition=recount, on_header=center)
    assert torch.equal(read_one(shifted.write(tmp_path / "b.h5")).measurements, plain.measurements)


def test_an_asymmetric_echo_leaves_columns_unmeasured(tmp_path: Path) -> None:
    scan = Scan(images(slices=1, x=16))
    path = tmp_path / "scan.h5"
    cut = 8  # of 32 samples

    def shorten(acquisition: Any) -> None:
        data = acquisition.data[:, cut:].copy()
        acquisition.resize(data.shape[1], data.shape[0])
        acquisition.data[:] = data
        acquisition.center_sample -= cut

    mask = acquisitions_of(read_one(replace(scan, on_acquisition=shorten).write(path))).mask
    assert np.flatnonzero(mask[0]).tolist() == list(range(4, 16))


def test_scans_that_are_no_image_are_left_out(tmp_path: Path) -> None:
    truth = images()
    extra = []
    for flag in (
        ismrmrd.ACQ_IS_NAVIGATION_DATA,
        ismrmrd.ACQ_IS_PHASECORR_DATA,
        ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
        ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
        ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
    ):
        acquisition = ismrmrd.Acquisition.from_array(np.full((3, 7), 99, dtype=np.complex64))
        acquisition.setFlag(flag)
        extra.append(acquisition)

    def also_calibration(acquisition: Any) -> None:
        if 4 <= acquisition.idx.kspace_encode_step_1 < 8:
            acquisition.setFlag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
            acquisition.setFlag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)

    scan = Scan(truth, extra=extra, on_acquisition=also_calibration)
    study, image = read_image(scan.write(tmp_path / "scan.h5"))
    assert np.allclose(image, truth, atol=1e-5)
    assert study.facts["left_out"] == {
        "navigator": 1,
        "feedback": 2,
        "dummy": 1,
        "phase correction": 1,
    }


def test_calibration_lines_embedded_in_the_image_are_kept(tmp_path: Path) -> None:
    def calibration(acquisition: Any) -> None:
        if acquisition.idx.kspace_encode_step_1 in (5, 7):
            acquisition.setFlag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)

    def mode(header: Any) -> None:
        header.encoding[0].parallelImaging = xsd.parallelImagingType(
            accelerationFactor=xsd.accelerationFactorType(
                kspace_encoding_step_1=2, kspace_encoding_step_2=1
            ),
            calibrationMode=xsd.calibrationModeType.EMBEDDED,
        )

    lines = [0, 2, 4, 5, 6, 7, 8, 10]
    kept = Scan(images(), lines=lines, on_acquisition=calibration, on_header=mode)
    dropped = Scan(images(), lines=lines, on_acquisition=calibration)
    for scan, expected in ((kept, lines), (dropped, [0, 2, 4, 6, 8, 10])):
        path = tmp_path / f"{len(expected)}.h5"
        mask = acquisitions_of(read_one(scan.write(path))).mask
        assert np.flatnonzero(mask[:, 0]).tolist() == expected


def test_readouts_that_all_run_backwards_are_turned(tmp_path: Path) -> None:
    truth = images(x=9, y=8)

    def turn(acquisition: Any) -> None:
        acquisition.data[:] = acquisition.data[:, ::-1].copy()
        acquisition.center_sample = acquisition.number_of_samples - 1 - acquisition.center_sample
        acquisition.setFlag(ismrmrd.ACQ_IS_REVERSE)

    _, image = read_image(Scan(truth, on_acquisition=turn).write(tmp_path / "scan.h5"))
    assert np.allclose(image, truth, atol=1e-5)


def test_zero_directions_fall_back_to_an_axial_stack_with_a_warning(tmp_path: Path) -> None:
    scan = Scan(images(), directions=np.zeros((3, 3)))
    with (
        pytest.warns(UserWarning, match="directions are zero"),
        pytest.warns(UserWarning, match="same position"),
    ):
        grid = read_one(scan.write(tmp_path / "scan.h5")).grid
    assert grid is not None
    assert grid.is_axial
    assert grid.spacing[0] == 3.0


def test_header_identity_becomes_dicom_attributes(tmp_path: Path) -> None:
    def identity(header: Any) -> None:
        header.subjectInformation = xsd.subjectInformationType(patientName="A^B", patientID="7")
        header.studyInformation = xsd.studyInformationType(studyInstanceUID="1.2.3")
        header.measurementInformation = xsd.measurementInformationType(
            patientPosition=xsd.patientPositionType.HFS, frameOfReferenceUID="1.2.4"
        )
        header.sequenceParameters = xsd.sequenceParametersType(TR=[500.0], TE=[3.5])

    study = read_one(Scan(images(), on_header=identity).write(tmp_path / "scan.h5"))
    assert dict(study.identity.attributes) == {
        "PatientName": "A^B",
        "PatientID": "7",
        "StudyInstanceUID": "1.2.3",
        "PatientPosition": "HFS",
        "RepetitionTime": "500.0",
        "EchoTime": "3.5",
    }
    assert study.identity.frame_of_reference_uid == "1.2.4"
    assert not study.identity.simulated


@pytest.mark.parametrize("layout", ["2d", "3d", "2d poisson"])
@pytest.mark.parametrize("shape", [(4, 12, 10), (5, 11, 9)])
def test_what_is_written_is_read_again(
    tmp_path: Path, layout: str, shape: tuple[int, int, int]
) -> None:
    grid = Grid(
        shape=shape,
        spacing=(3.3, 1.1, 1.2),
        origin=(-10.0, 20.0, 5.0),
        directions=tuple(map(tuple, OBLIQUE.tolist())),  # type: ignore[arg-type]
    )
    rng = np.random.default_rng(0)
    mask = rng.random(shape[3 - int(layout[0]) :]) < 0.6
    if layout != "2d poisson":
        mask = np.broadcast_to(mask[..., :1], mask.shape).copy()
    mask[..., shape[1] // 2, :] = True
    volume = Volume(torch.ones(shape), grid, Unit.ARBITRARY)
    generator = torch.Generator().manual_seed(0)
    study = simulate_mr(volume, coils=3, mask=mask, noise_std=0.01, generator=generator)
    identity = Identity(
        attributes={"PatientID": "7", "PatientPosition": "FFS"},
        frame_of_reference_uid="1.2",
        simulated=True,
    )
    study = replace(study, identity=identity)
    path = tmp_path / "scan.h5"
    write_ismrmrd(path, study)
    again = read_one(path)
    assert torch.equal(again.measurements, study.measurements)
    assert np.array_equal(acquisitions_of(again).mask, mask)
    assert again.grid is not None
    assert again.grid.shape == shape
    assert np.allclose(again.grid.affine, grid.affine, atol=1e-4)
    assert again.noise_std == study.noise_std
    assert again.identity.simulated
    assert dict(again.identity.attributes) == dict(identity.attributes)
    assert again.identity.frame_of_reference_uid == "1.2"
    assert again.reference is not None
    assert study.reference is not None
    assert torch.equal(again.reference, study.reference)
    dataset = ismrmrd.Dataset(str(path), mode="r")  # and the standard's own package takes it
    assert dataset.read_acquisition(0).data.shape == (3, shape[2])
    dataset.close()


# What must be refused: the change that is made, the error, and what its sentence says.


def _acquisition(**values: Any) -> Any:
    def change(acquisition: Any) -> None:
        for name, value in values.items():
            if hasattr(acquisition.idx, name):
                setattr(acquisition.idx, name, value)
            else:
                getattr(acquisition, name)[...] = value

    return change


def _only_line(number: int, change: Any) -> Any:
    def selected(acquisition: Any) -> None:
        if acquisition.idx.kspace_encode_step_1 == number:
            change(acquisition)

    return selected


def _samples(value: complex) -> Any:
    def change(acquisition: Any) -> None:
        acquisition.data[0, 3] = value

    return change


def _shorter(acquisition: Any) -> None:
    data = acquisition.data[:, :-2].copy()
    acquisition.resize(data.shape[1], data.shape[0])
    acquisition.data[:] = data


def _fewer_coils(acquisition: Any) -> None:
    data = acquisition.data[:-1].copy()
    acquisition.resize(data.shape[1], data.shape[0])
    acquisition.data[:] = data


def _matrix(**sizes: int) -> Any:
    def change(header: Any) -> None:
        for name, value in sizes.items():
            setattr(header.encoding[0].encodedSpace.matrixSize, name, value)

    return change


def _field_of_view(value: float) -> Any:
    def change(header: Any) -> None:
        header.encoding[0].encodedSpace.fieldOfView_mm.y = value

    return change


def _all_noise(acquisition: Any) -> None:
    acquisition.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)


def _zero(acquisition: Any) -> None:
    acquisition.data[:] = 0


def _encoding_two(acquisition: Any) -> None:
    acquisition.encoding_space_ref = 2


def _one_coil_zero(acquisition: Any) -> None:
    acquisition.data[1] = 0


def _move(value: float) -> Any:
    def change(acquisition: Any) -> None:
        if acquisition.idx.slice == 1:
            acquisition.position[:] = np.array(acquisition.position[:]) + value

    return change


def _skew(acquisition: Any) -> None:
    acquisition.phase_dir[:] = acquisition.read_dir[:]


BAD = {
    "an empty matrix": ({"on_header": _matrix(y=0)}, "encoded matrix"),
    "an absurd matrix": ({"on_header": _matrix(y=60000)}, "encoded matrix"),
    "a zero field of view": ({"on_header": _field_of_view(0.0)}, "field of view"),
    "a line outside the matrix": (
        {"on_acquisition": _only_line(3, _acquisition(kspace_encode_step_1=40))},
        "outside the encoded matrix",
    ),
    "a shorter readout": ({"on_acquisition": _only_line(3, _shorter)}, "must be alike"),
    "a readout of fewer coils": ({"on_acquisition": _only_line(3, _fewer_coils)}, "must be alike"),
    "nothing but noise": ({"on_acquisition": _all_noise}, "no imaging data"),
    "no acquisition with signal": ({"on_acquisition": _zero}, "all k-space samples are zero"),
    "a dead coil": ({"on_acquisition": _one_coil_zero}, "1 of 3 coils are zero"),
    "NaN": ({"on_acquisition": _only_line(3, _samples(math.nan))}, "line 3.*NaN"),
    "infinity": ({"on_acquisition": _only_line(3, _samples(math.inf))}, "line 3.*NaN or infinite"),
    "an unknown encoding": ({"on_acquisition": _encoding_two}, "encoding 2"),
    "slices that coincide": ({"gap": 0.0005}, "same place"),
    "a missing slice": ({"on_acquisition": _move(1.0)}, "not evenly spaced"),
    "directions that are not orthogonal": ({"on_acquisition": _skew}, "not orthonormal"),
    "a singular noise scan": ({"noise": np.ones((4, 3, 64))}, "singular"),
    "a noise scan of other coils": (
        {"noise": np.random.default_rng(0).standard_normal((4, 2, 64))},
        "noise scan has 2 coils",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_inconsistent_scans_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    changes, message = BAD[case]
    path = Scan(images(), **changes).write(tmp_path / "scan.h5")
    with pytest.raises(InconsistentError, match=message) as caught:
        read_one(path)
    assert str(path) in str(caught.value) or "noise covariance" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dead_coil_among_many_is_left_out_with_a_warning(tmp_path: Path) -> None:
    truth = images(slices=1, coils=12)
    truth[:, 4] = 0
    with pytest.warns(UserWarning, match="coil 4 is zero"):
        _, image = read_image(Scan(truth).write(tmp_path / "scan.h5"))
    assert np.allclose(image, np.delete(truth, 4, axis=1), atol=1e-5)


def test_a_spike_is_noticed(tmp_path: Path) -> None:
    def spike(acquisition: Any) -> None:
        if acquisition.idx.kspace_encode_step_1 == 1:
            acquisition.data[0, 3] = 1e30

    scan = Scan(images(slices=1), on_acquisition=spike, oversampling=1)
    with pytest.warns(UserWarning, match="spike"):
        read_one(scan.write(tmp_path / "scan.h5"))


def test_a_scan_that_was_stopped_early_warns_and_has_a_pattern_per_slice(tmp_path: Path) -> None:
    truth = images()
    scan = Scan(truth)
    acquisitions = scan.acquisitions()[:-3]  # stopped early
    dataset = ismrmrd.Dataset(str(tmp_path / "scan.h5"), "dataset")
    dataset.write_xml_header(xsd.ToXML(scan.header()))
    for acquisition in acquisitions:
        dataset.append_acquisition(acquisition)
    dataset.close()
    with pytest.warns(UserWarning, match=r"slice 2: 9 of 12.*stopped early"):
        study = read_one(tmp_path / "scan.h5")
    geometry = acquisitions_of(study)
    assert geometry.is_per_slice
    assert not geometry.is_3d
    assert geometry.mask.any(axis=2).sum(axis=1).tolist() == [12, 12, 9, 12]
    full = read_one(scan.write(tmp_path / "full.h5")).measurements
    assert torch.equal(study.measurements, full * torch.from_numpy(geometry.samples))


def _set_xml(text: str) -> Any:
    def change(file: Any) -> None:
        del file["dataset/xml"]
        file["dataset"].create_dataset(
            "xml", data=np.array([text.encode()], dtype=object), dtype=h5py.string_dtype()
        )

    return change


def _in_xml(old: str, new: str) -> Any:
    def change(file: Any) -> None:
        text = file["dataset/xml"][0].decode()
        assert old in text
        _set_xml(text.replace(old, new))(file)

    return change


def _no_floats(file: Any) -> None:
    table = file["dataset/data"][()]
    names = [(name, table.dtype[name]) for name in ("head", "traj")]
    strange = np.zeros(len(table), dtype=[*names, ("data", h5py.string_dtype())])
    strange["head"] = table["head"]
    strange["traj"] = table["traj"]
    strange["data"] = "text"
    del file["dataset/data"]
    file["dataset/data"] = strange


def _drop(name: str) -> Any:
    def change(file: Any) -> None:
        del file[name]

    return change


def _external(file: Any) -> None:
    del file["dataset/data"]
    file["dataset/data"] = h5py.ExternalLink("/etc/passwd", "/")


def _second_group(file: Any) -> None:
    file.move("dataset", "first")
    file.copy("first", "second")


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><x>&b;</x>'
NO_ENCODING = (
    '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>'
    "<H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz></experimentalConditions></ismrmrdHeader>"
)
DAMAGE = {
    "no dataset": (_drop("dataset"), "no group"),
    "no header": (_drop("dataset/xml"), "no group"),
    "several groups": (_second_group, "several groups"),
    "garbage for a header": (_set_xml("<not xml"), "not valid XML"),
    "no encoding": (_set_xml(NO_ENCODING), "no encoding"),
    "entities": (_set_xml(BOMB), "entities"),
    "a link to another file": (_external, "link"),
    "a matrix of letters": (_in_xml("<x>20</x>", "<x>abc</x>"), "wrong type .*'abc'"),
    "samples that are text": (_no_floats, "wrong type"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files_are_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    change, message = DAMAGE[case]
    path = Scan(images(slices=1)).write(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(UnreadableError, match=message) as caught:
        read_one(path)
    assert "\n" not in str(caught.value)


def test_words_that_the_standard_does_not_know_do_no_harm(tmp_path: Path) -> None:
    path = Scan(images(slices=1)).write(tmp_path / "scan.h5")
    plain = read_one(path)
    with h5py.File(path, "a") as file:
        _in_xml(
            "<experimentalConditions>",
            "<subjectInformation><patientGender>?</patientGender></subjectInformation>"
            "<experimentalConditions>",
        )(file)
    assert torch.equal(read_one(path).measurements, plain.measurements)


def test_a_group_of_another_name_is_found(tmp_path: Path) -> None:
    path = Scan(images(slices=1)).write(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        file.move("dataset", "raw")
    assert read_one(path).measurements.shape == (1, 3, 12, 10)


@pytest.mark.parametrize("content", [b"", b"text, not HDF5", None])
def test_files_that_are_not_hdf5_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "scan.h5"
    if content is None:
        Scan(images(slices=1)).write(path)
        content = path.read_bytes()[:1500]
    path.write_bytes(content)
    with pytest.raises(UnreadableError):
        read_one(path)


def test_a_k_space_beyond_memory_is_refused_before_it_is_made(tmp_path: Path) -> None:
    scan = Scan(images(slices=1, coils=3), on_header=_matrix(x=4096, y=4096, z=4096))

    def fields(header: Any) -> None:
        scan.on_header(header)
        header.encoding[0].encodingLimits.kspace_encoding_step_1 = limit(11, 6)

    with pytest.raises(ResourceError, match="GiB"):
        read_one(replace(scan, on_header=fields).write(tmp_path / "scan.h5"))
