"""Files that the test writes; what real scanners wrote is in test_twix_measured.py."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, MedreconError, UnreadableError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import crop_or_pad, image_to_kspace, kspace_to_image
from medrecon.io.twix import _pose, read_twix, read_twix_scan
from tests.io.twix_files import (
    MEAS,
    PROTOCOL,
    Line,
    header_bytes,
    measurement_bytes,
    write_twix,
)

CHANNELS, LINES, SAMPLES = 3, 12, 32
Complex = NDArray[np.complex64]


def kspace(seed: int = 0, lines: int = LINES, samples: int = SAMPLES) -> Complex:
    """``(channels, lines, samples)`` of an object in the middle half of the readout."""
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((2, CHANNELS, lines, samples // 2))
    padded = crop_or_pad(torch.from_numpy(4 + image[0] + 1j * image[1]), samples, -1)
    return image_to_kspace(padded, (-2, -1)).to(torch.complex64).numpy()


def image_lines(k: Complex, flags: tuple[str, ...] = (), **counters: int) -> list[Line]:
    return [
        Line(k[:, y], flags, {"Lin": y, **counters}, fields={"CenterLin": k.shape[1] // 2})
        for y in range(k.shape[1])
    ]


def cropped(k: Complex) -> torch.Tensor:
    """What is left of k-space without the readout's oversampling."""
    image = crop_or_pad(kspace_to_image(torch.from_numpy(k), (-1,)), SAMPLES // 2, -1)
    return image_to_kspace(image, (-1,))


def complaint(path: Path) -> str:
    """What reading the file says, if it does not succeed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_twix(path)
        except MedreconError as error:
            return str(error)
    return ""


def changed(base: dict[str, Any], **values: Any) -> dict[str, Any]:
    return {**base, **{name.replace("__", "."): value for name, value in values.items()}}


@pytest.mark.parametrize("is_ve", [True, False])
def test_every_version_gives_the_samples_in_their_places(tmp_path: Path, is_ve: bool) -> None:
    k = kspace()
    content = measurement_bytes(image_lines(k)[::-1], is_ve=is_ve)
    (study,) = read_twix(write_twix(tmp_path / "scan.dat", content, is_ve=is_ve))
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.mask.all()
    assert torch.allclose(study.measurements[0], cropped(k), atol=1e-6)
    assert study.grid is not None
    assert study.grid.spacing == pytest.approx((5.0, 15.0, 15.0))
    assert study.identity.attributes["EchoTime"] == "3.0"


def test_a_lone_measurement_may_have_no_length(tmp_path: Path) -> None:
    path = write_twix(
        tmp_path / "scan.dat", measurement_bytes(image_lines(kspace())), lengths=False
    )
    assert len(read_twix(path)) == 1


def test_every_echo_repetition_set_and_phase_is_an_image_and_averages_are_averaged(
    tmp_path: Path,
) -> None:
    lines: list[Line] = []
    truth = {}
    for seed, (echo, repetition) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        first, second = kspace(seed), kspace(seed + 10)
        truth[f"contrast-{echo + 1}_repetition-{repetition + 1}"] = (first + second) / 2
        lines += image_lines(first, Eco=echo, Rep=repetition)
        lines += image_lines(second, Eco=echo, Rep=repetition, Ave=1)
    studies = read_twix(write_twix(tmp_path / "scan.dat", measurement_bytes(lines)))
    assert [study.label for study in studies] == list(truth)
    for study in studies:
        assert torch.allclose(study.measurements[0], cropped(truth[study.label]), atol=1e-6)
    assert [s.identity.attributes["EchoTime"] for s in studies] == ["3.0", "3.0", "6.0", "6.0"]


def test_bipolar_echoes_are_turned(tmp_path: Path) -> None:
    k = kspace()
    backward = image_lines(k[..., ::-1], ("REFLECT",), Eco=1)
    studies = read_twix(
        write_twix(tmp_path / "scan.dat", measurement_bytes(image_lines(k) + backward))
    )
    assert [study.label for study in studies] == ["contrast-1", "contrast-2"]
    for study in studies:
        assert torch.allclose(study.measurements[0], cropped(k), atol=1e-6)


def test_counters_flags_and_times_are_kept(tmp_path: Path) -> None:
    line = Line(
        kspace()[:, 0],
        ("REFLECT",),
        {"Lin": 5, "Eco": 1, "Rep": 2, "Set": 3, "Phs": 4, "Ave": 6, "Seg": 7, "Sli": 8},
        fields={"TimeStamp": 1000, "CutOff.Pre": 4, "CutOff.Post": 2, "CenterCol": 14},
    )
    scan = read_twix_scan(write_twix(tmp_path / "scan.dat", measurement_bytes([line])))
    (r,) = scan.readouts
    assert (r.line, r.contrast, r.repetition, r.set, r.phase) == (5, 1, 2, 3, 4)
    assert (r.average, r.segment, r.slice, r.reverse) == (6, 7, 8, True)
    assert (r.time, r.dwell) == (2.5, 5.0)
    assert np.array_equal(r.data, kspace()[:, 0, 4:30])
    assert r.center == 26 - 1 - (14 - 4)  # once turned, the sample 14 - 4 is the centre


def test_readouts_that_make_no_image_are_sorted_out_by_their_flags(tmp_path: Path) -> None:
    odd = np.ones((CHANNELS, SAMPLES), np.complex64)
    others = {
        "navigator": ("PHASCOR", "RTFEEDBACK"),
        "phase stabilisation": ("PHASESTABSCAN",),
        "feedback": ("RTFEEDBACK",),
        "free induction decay": ("noname60",),
        "dummy": ("RETRO_DUMMYSCAN",),
    }
    lines = [Line(odd, flags, {"Lin": 3}) for flags in others.values()]
    k = kspace()
    path = write_twix(tmp_path / "scan.dat", measurement_bytes(lines + image_lines(k)))
    scan = read_twix_scan(path)
    assert len(scan.readouts) == LINES
    assert len(scan.navigators) == 1
    assert {name: scan.ignored[name] for name in list(others)[1:]} == dict.fromkeys(
        list(others)[1:], 1
    )
    assert torch.allclose(read_twix(path)[0].measurements[0], cropped(k), atol=1e-6)


def test_noise_of_another_measurement_whitens_with_its_own_bandwidth(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    mixing = rng.standard_normal((CHANNELS, CHANNELS))
    noise = mixing @ (rng.standard_normal((2, CHANNELS, 4096)) * [[[1]], [[1j]]]).sum(0)
    protocol = changed(PROTOCOL, **{"sRXSPEC__alDwellTime[0]": 10_000})
    adjust = measurement_bytes(
        [Line(noise.astype(np.complex64), ("NOISEADJSCAN",))], header_bytes(protocol)
    )
    lines = image_lines((kspace() * 1e-3).astype(np.complex64))
    path = write_twix(tmp_path / "scan.dat", adjust, measurement_bytes(lines))
    scan = read_twix_scan(path)
    assert scan.noise is not None
    assert (scan.noise.dwell, scan.noise.imaging_dwell) == (10.0, 5.0)
    assert scan.facts["measurements"] == 2
    assert read_twix(path)[0].noise_std == 1
    # noise within the measurement has its own sampling time, which the header does not say
    within = [Line(noise[:, :256].astype(np.complex64), ("NOISEADJSCAN",)), *lines]
    scan = read_twix_scan(write_twix(path, measurement_bytes(within)))
    assert scan.noise is not None
    assert scan.noise.dwell == 30.0


def test_reference_lines_may_be_part_of_the_image_or_a_scan_of_their_own(tmp_path: Path) -> None:
    k = kspace()
    lines = [
        Line(k[:, y], flags, {"Lin": y}, fields={"CenterLin": 6})
        for y in range(LINES)
        for flags in ([("PATREFSCAN", "PATREFANDIMASCAN")] if y in (5, 6, 7) else [()])
        if y % 2 == 0 or y in (5, 6, 7)
    ]
    protocol = changed(PROTOCOL, sPat__lAccelFactPE=2)
    path = tmp_path / "scan.dat"
    scan = read_twix_scan(write_twix(path, measurement_bytes(lines, header_bytes(protocol))))
    assert (len(scan.readouts), len(scan.calibration)) == (8, 0)
    assert scan.encodings[0].acceleration == (1.0, 2.0)
    # apart, counted from its own first line
    apart = [line for line in lines if "PATREFSCAN" not in line.flags or line.counters["Lin"] == 6]
    apart = [Line(x.data, (), x.counters, fields=x.fields) for x in apart]
    reference = [
        Line(k[:, y], ("PATREFSCAN",), {"Lin": y - 4}, fields={"CenterLin": 2}) for y in range(4, 9)
    ]
    write_twix(path, measurement_bytes(reference + apart, header_bytes(protocol)))
    scan = read_twix_scan(path)
    assert [r.line for r in scan.calibration] == [4, 5, 6, 7, 8]
    (study,) = read_twix(path)
    assert study.calibration is not None
    exact = cropped(k)
    exact[:, :4], exact[:, 9:] = 0, 0
    assert torch.allclose(study.calibration[0], exact, atol=1e-6)


def test_a_reference_scan_of_fewer_samples_has_an_encoding_of_its_own(tmp_path: Path) -> None:
    small = kspace(1, lines=6, samples=16)
    reference = [
        Line(small[:, y], ("PATREFSCAN",), {"Lin": y}, fields={"CenterLin": 3}) for y in range(6)
    ]
    path = tmp_path / "scan.dat"
    write_twix(path, measurement_bytes(reference + image_lines(kspace())))
    scan = read_twix_scan(path)
    assert {r.encoding for r in scan.calibration} == {1}
    own = scan.encodings[1]
    assert (own.matrix, own.center, own.fov) == ((1, 6, 16), (0, 3), scan.encodings[0].fov)
    (study,) = read_twix(path)
    assert study.calibration is not None
    assert study.calibration.shape == study.measurements.shape


def test_partial_fourier_and_slices_stand_where_the_headers_say(tmp_path: Path) -> None:
    k = kspace()
    lines = [
        Line(
            k[:, y],
            (),
            {"Lin": y - 3, "Sli": number},
            position=(0.0, 0.0, height),
            fields={"CenterLin": 3},
        )
        for number, height in enumerate((12.0, 0.0, 6.0))
        for y in range(3, LINES)
    ]
    (study,) = read_twix(write_twix(tmp_path / "scan.dat", measurement_bytes(lines)))
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.mask.any(1).tolist() == [y >= 3 for y in range(LINES)]
    assert study.grid is not None
    assert study.grid.spacing[0] == pytest.approx(6.0)
    heights = [float((study.grid.affine @ [z, 6, 8, 1])[2]) for z in range(3)]
    assert heights == pytest.approx([0, 6, 12])


def test_slabs_have_partitions(tmp_path: Path) -> None:
    k = np.stack([kspace(seed) for seed in range(4)])
    lines = [
        Line(k[z][:, y], (), {"Lin": y, "Par": z}, fields={"CenterLin": 6, "CenterPar": 2})
        for z in range(4)
        for y in range(LINES)
    ]
    protocol = changed(PROTOCOL, sKSpace__lPartitions=4)
    path = tmp_path / "scan.dat"
    (study,) = read_twix(write_twix(path, measurement_bytes(lines, header_bytes(protocol))))
    assert study.measurements.shape == (CHANNELS, 4, LINES, SAMPLES // 2)
    exact = torch.stack([cropped(plane) for plane in k], dim=1)
    assert torch.allclose(study.measurements, exact, atol=1e-6)


def test_the_readout_gradient_comes_from_the_protocol(tmp_path: Path) -> None:
    meas = changed(
        MEAS,
        alRegridMode=[2, 1],
        alRegridRampupTime=[40, 0],
        alRegridFlattopTime=[100, 0],
        alRegridRampdownTime=[40, 0],
        alRegridDelaySamplesTime=[10, 0],
        aflRegridADCDuration=[160.0, 0.0],
    )
    lines = image_lines(kspace())
    navigators = [
        Line(kspace()[:, 6], ("PHASCOR", "REFLECT") if i % 2 == 0 else ("PHASCOR",), {"Lin": 6})
        for i in range(3)
    ]
    for line in lines[1::2]:
        line.flags = ("REFLECT",)
    header = header_bytes(changed(PROTOCOL, sFastImaging__lEPIFactor=12), meas)
    path = write_twix(tmp_path / "scan.dat", measurement_bytes(navigators + lines, header))
    scan = read_twix_scan(path)
    trapezoid = scan.encodings[0].trapezoid
    assert trapezoid is not None
    assert vars(trapezoid) == {
        "ramp_up": 40.0,
        "flat_top": 100.0,
        "ramp_down": 40.0,
        "delay": 10.0,
        "dwell": 5.0,
    }
    assert [r.reverse for r in scan.navigators] == [True, False, True]
    (study,) = read_twix(path)
    assert study.facts["epi"]["ramp_sampling"]
    meas["alRegridMode"] = [4, 1]
    write_twix(path, measurement_bytes(lines, header_bytes(PROTOCOL, meas)))
    with pytest.raises(UnreadableError, match="not a trapezoid"):
        read_twix(path)


@pytest.mark.parametrize(
    ("protocol", "match"),
    [
        ({"sKSpace__ucTrajectory": "0x2"}, "trajectory is radial"),
        ({"sKSpace__ucTrajectory": "0x40"}, "unknown kind 64"),
        ({"sSliceAcceleration__lMultiBandFactor": 3}, "3 slices were excited together"),
        ({"sSliceArray__asSlice[0].dReadoutFOV": -240}, "field of view"),
        ({"sKSpace__lBaseResolution": 1_000_000}, "encoded matrix"),
    ],
)
def test_scans_that_cannot_be_reconstructed_are_refused(
    tmp_path: Path, protocol: dict[str, Any], match: str
) -> None:
    header = header_bytes(changed(PROTOCOL, **protocol))
    path = write_twix(tmp_path / "scan.dat", measurement_bytes(image_lines(kspace()), header))
    with pytest.raises(InconsistentError, match=match) as caught:
        read_twix(path)
    assert "\n" not in str(caught.value)


def test_a_file_without_images_says_what_it_holds(tmp_path: Path) -> None:
    noise = [Line(kspace()[:, 0], ("NOISEADJSCAN",))] * 2
    path = write_twix(tmp_path / "scan.dat", measurement_bytes(noise))
    with pytest.raises(InconsistentError, match="no imaging data; its readouts: 2 noise"):
        read_twix(path)
    write_twix(path, measurement_bytes([]))
    with pytest.raises(InconsistentError, match="no imaging data; its readouts: none"):
        read_twix(path)


@pytest.mark.parametrize("missing", [*list(PROTOCOL)[:2], "sSliceArray.asSlice[0].dThickness"])
def test_a_protocol_that_lacks_what_is_needed_is_named(tmp_path: Path, missing: str) -> None:
    protocol = {name: value for name, value in PROTOCOL.items() if name != missing}
    content = measurement_bytes(image_lines(kspace()), header_bytes(protocol))
    with pytest.raises(UnreadableError, match="protocol lacks what"):
        read_twix(write_twix(tmp_path / "scan.dat", content))


@pytest.mark.parametrize("value", [0, '"none"'])
def test_a_field_of_view_that_is_none_is_refused(tmp_path: Path, value: Any) -> None:
    header = header_bytes(changed(PROTOCOL, **{"sSliceArray__asSlice[0].dReadoutFOV": value}))
    path = write_twix(tmp_path / "scan.dat", measurement_bytes(image_lines(kspace()), header))
    assert complaint(path)
    assert "\n" not in complaint(path)


def test_an_unknown_version_is_named(tmp_path: Path) -> None:
    lines = image_lines(kspace())
    header = header_bytes().replace(b"MeasYaps\0", b"MeasNext\0")
    with pytest.raises(UnreadableError, match="known version: its protocol lacks MeasYaps"):
        read_twix(write_twix(tmp_path / "scan.dat", measurement_bytes(lines, header)))


def test_lists_of_impossible_length_are_refused_before_they_are_made(tmp_path: Path) -> None:
    header = header_bytes({**PROTOCOL, "alFree[4000000000]": 1})
    with pytest.raises(UnreadableError, match="impossible length"):
        read_twix(
            write_twix(tmp_path / "scan.dat", measurement_bytes(image_lines(kspace()), header))
        )


@pytest.mark.parametrize("is_ve", [True, False])
@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"UsedChannels": 0}, "impossible length"),
        ({"SamplesInScan": 0}, "impossible length"),
        ({"SamplesInScan": 65535, "UsedChannels": 65535}, "truncated"),
        ({"EvalInfoMask": 1 << 5, "FlagsAndDMALength": 0}, "impossible length"),
        ({"CutOff.Pre": 20, "CutOff.Post": 20}, "cuts off all"),
        ({"Counter.Lin": 60_000}, "outside the encoded matrix|encoded matrix"),
    ],
)
def test_damaged_readout_headers_are_refused(
    tmp_path: Path, is_ve: bool, fields: dict[str, int], match: str
) -> None:
    lines = image_lines(kspace())
    lines[4].fields = {**lines[4].fields, **fields}
    path = write_twix(tmp_path / "scan.dat", measurement_bytes(lines, is_ve=is_ve), is_ve=is_ve)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MedreconError, match=match) as caught:
            read_twix(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("is_ve", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.95, 0.99])
def test_files_that_break_off_are_refused(tmp_path: Path, is_ve: bool, share: float) -> None:
    content = measurement_bytes(image_lines(kspace()) * 4, is_ve=is_ve)
    path = write_twix(tmp_path / "scan.dat", content, is_ve=is_ve)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnreadableError):
        read_twix(path)
    path = write_twix(path, measurement_bytes(image_lines(kspace()), ended=False, is_ve=is_ve))
    with pytest.raises(UnreadableError):
        read_twix(path)


def test_any_damaged_byte_gives_a_scan_or_one_sentence(tmp_path: Path) -> None:
    path = write_twix(tmp_path / "scan.dat", measurement_bytes(image_lines(kspace())))
    whole = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    rng = np.random.default_rng(7)
    for _ in range(60):
        damaged = whole.copy()
        places = rng.choice([*range(0, 200), *range(10_240, len(whole))], 20)
        damaged[places] = rng.integers(0, 256, 20)
        path.write_bytes(damaged.tobytes())
        assert "\n" not in complaint(path)


@pytest.mark.parametrize("seed", range(3))
def test_files_that_are_no_twix_files_are_refused(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "scan.dat"
    path.write_bytes(np.random.default_rng(seed).bytes(30_000))
    with pytest.raises(UnreadableError):
        read_twix(path)
    path.write_bytes(b"\0" * 30_000)
    with pytest.raises(UnreadableError):
        read_twix(path)
    path.write_bytes(b"short")
    with pytest.raises(UnreadableError, match="too few"):
        read_twix(path)
    with pytest.raises(UnreadableError, match="No such file"):
        read_twix(tmp_path / "absent.dat")


def test_the_quaternion_holds_phase_read_and_slice_direction() -> None:
    place = {"Sag": 1.0, "Cor": 2.0, "Tra": 3.0}
    half = math.sqrt(0.5)  # a quarter turn about the axis from feet to head
    pose = _pose({"Quaternion": [half, 0.0, 0.0, half], "SlicePos": place})
    assert np.allclose(pose.position, (1, 2, 3))
    assert np.allclose(pose.slice_dir, (0, 0, 1))
    assert np.allclose(pose.phase_dir, (0, 1, 0))
    assert np.allclose(pose.read_dir, (-1, 0, 0))
    rng = np.random.default_rng(0)
    for quaternion in rng.standard_normal((5, 4)):
        unit = quaternion / np.linalg.norm(quaternion)
        pose = _pose({"Quaternion": unit, "SlicePos": place})
        rotation = np.stack([pose.phase_dir, pose.read_dir, pose.slice_dir])
        assert np.allclose(rotation @ rotation.T, np.eye(3))
        assert np.linalg.det(rotation) == pytest.approx(1)
    nothing = _pose({"Quaternion": [0.0] * 4, "SlicePos": place})
    assert not nothing.directions.any()
