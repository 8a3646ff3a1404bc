"""MRD files as scanners' converters make them: echo trains, spokes, several images, other scans."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest
import torch
from ismrmrd import xsd
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, NonCartesian
from medrecon.geometry.kspace import kspace_to_image
from medrecon.io.ismrmrd import read_ismrmrd
from medrecon.study import Study
from tests.io.mrd_files import OBLIQUE, Scan, centred_fft, limit, space, write_file

Array = NDArray[Any]


def object_of(*shape: int, seed: int = 0) -> Array:
    """Noise around a bright middle; coils, or slices and coils, first."""
    rng = np.random.default_rng(seed)
    image: Array = rng.standard_normal((*shape, 2)) @ [0.1, 0.1j]
    y, x = shape[-2:]
    image[..., y // 4 : -y // 4, x // 4 : -x // 4] += 3
    return image


def acquisition(data: Array, position: Array | None = None, **idx: int) -> Any:
    found = ismrmrd.Acquisition.from_array(np.ascontiguousarray(data, dtype=np.complex64))
    found.center_sample = data.shape[1] // 2
    found.sample_time_us = 5.0
    found.position[:] = np.zeros(3) if position is None else position
    found.slice_dir[:], found.phase_dir[:], found.read_dir[:] = OBLIQUE
    for name, value in idx.items():
        setattr(found.idx, name, value)
    return found


def header(*encodings: Any) -> Any:
    return xsd.ismrmrdHeader(
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=1),
        encoding=list(encodings),
    )


def encoded(
    matrix: tuple[int, int, int], recon: tuple[int, int, int], voxel: float = 2.0, **changes: Any
) -> Any:
    values = {
        "encodedSpace": space(matrix, tuple(n * voxel for n in matrix)),  # type: ignore[arg-type]
        "reconSpace": space(recon, tuple(n * voxel for n in recon)),  # type: ignore[arg-type]
        "encodingLimits": xsd.encodingLimitsType(
            kspace_encoding_step_1=limit(matrix[1] - 1, matrix[1] // 2),
            kspace_encoding_step_2=limit(matrix[0] - 1, matrix[0] // 2),
        ),
        "trajectory": xsd.trajectoryType.CARTESIAN,
    }
    return xsd.encodingType(**(values | changes))


def only(path: Path) -> Study:
    (study,) = read_ismrmrd(path)
    return study


# Echo trains.

TIMES = {"rampUpTime": 100, "flatTopTime": 150, "rampDownTime": 100, "acqDelayTime": 25}
DWELL, ECHO_SAMPLES = 2.5, 120
EPI_Y, EPI_X = 24, 48


def ramp_positions() -> Array:
    """Where the samples lie, by adding up the gradient in steps of 0.01 us."""
    step = 0.01
    total = TIMES["rampUpTime"] + TIMES["flatTopTime"] + TIMES["rampDownTime"]
    time = np.arange(0, total, step) + step / 2
    gradient = np.clip(np.minimum(time, total - time) / TIMES["rampUpTime"], 0, 1)
    area = np.concatenate([[0], np.cumsum(gradient) * step])
    edges = np.arange(0, total + step / 2, step)
    at = np.interp(TIMES["acqDelayTime"] + DWELL * (np.arange(ECHO_SAMPLES) + 0.5), edges, area)
    ends = TIMES["acqDelayTime"] + DWELL * np.array([0, ECHO_SAMPLES])
    start, stop = np.interp(ends, edges, area)
    found: Array = (at - area[-1] / 2) * EPI_X / (stop - start)
    return found


def echo_train(truth: Array, phase: float) -> list[Any]:
    """Three navigator echoes, then every line; backward echoes carry a phase of their own."""
    k = ramp_positions()
    x = np.arange(EPI_X) - EPI_X // 2
    kernel = np.exp(-2j * np.pi * np.outer(k, x) / EPI_X) / math.sqrt(EPI_X)
    lines = np.einsum("cyx,sx->ycs", centred_fft(truth, (-2,)), kernel)
    found = []
    for number in range(-3, EPI_Y):
        reverse = number % 2 == 1
        data = lines[EPI_Y // 2 if number < 0 else number]
        if reverse:
            data = data[:, ::-1] * np.exp(1j * phase)
        echo = acquisition(data, kspace_encode_step_1=max(number, 0))
        echo.acquisition_time_stamp = 100
        if number < 0:
            echo.setFlag(ismrmrd.ACQ_IS_PHASECORR_DATA)
        if reverse:
            echo.setFlag(ismrmrd.ACQ_IS_REVERSE)
        found.append(echo)
    return found


def epi_header() -> Any:
    longs = [xsd.userParameterLongType(name=name, value=value) for name, value in TIMES.items()]
    description = xsd.trajectoryDescriptionType(
        identifier="ConventionalEPI",
        userParameterLong=[
            *longs,
            xsd.userParameterLongType(name="numSamples", value=ECHO_SAMPLES),
            xsd.userParameterLongType(name="etl", value=EPI_Y),
        ],
        userParameterDouble=[xsd.userParameterDoubleType(name="dwellTime", value=DWELL)],
    )
    return header(
        encoded(
            (1, EPI_Y, EPI_X),
            (1, EPI_Y, EPI_X // 2),
            trajectory=xsd.trajectoryType.EPI,
            trajectoryDescription=description,
        )
    )


def test_an_echo_train_sampled_on_ramps_comes_out_without_ghost(tmp_path: Path) -> None:
    truth = np.zeros((2, EPI_Y, EPI_X), dtype=complex)
    truth[:, :, EPI_X // 4 : -EPI_X // 4] = object_of(2, EPI_Y, EPI_X // 2)
    path = write_file(tmp_path / "epi.h5", epi_header(), echo_train(truth, phase=0.7))
    study = only(path)
    assert isinstance(study.geometry, Cartesian)
    assert study.geometry.mask.all()
    image = kspace_to_image(study.measurements[0], (-2, -1)).numpy()
    expected = truth[:, :, EPI_X // 4 : -EPI_X // 4]
    assert np.linalg.norm(np.abs(image) - np.abs(expected)) < 0.02 * np.linalg.norm(expected)
    assert "navigators" in study.facts["epi"]["phase_correction"]
    assert study.facts["epi"]["ramp_sampling"]
    assert study.facts["epi"]["constant_rad"] == pytest.approx(0.7, abs=0.02)


# Spokes.

N, SPOKES, SAMPLES = 16, 6, 32


def spokes() -> Array:
    """Cycles per wanted field of view, last axis (kx, ky)."""
    angles = np.pi * np.arange(SPOKES) / SPOKES
    radius = (np.arange(SAMPLES) - SAMPLES // 2) * N / SAMPLES
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    found: Array = radius[:, None] * directions[:, None]
    return found


def spoke_file(path: Path, factor: float, unit: str | None = None, discard: int = 0) -> Path:
    """Spokes through twice the wanted field of view; positions times ``factor``."""
    data = np.random.default_rng(1).standard_normal((SPOKES, 2, SAMPLES, 2)) @ [1, 1j]
    rows = []
    for number, k in enumerate(spokes()):
        padded = np.pad(data[number], ((0, 0), (discard, discard)), constant_values=99)
        row = acquisition(padded, kspace_encode_step_1=number)
        row.resize(padded.shape[1], 2, 2)
        row.data[:] = padded
        row.traj[:] = np.pad(k * factor, ((discard, discard), (0, 0)), constant_values=9e3)
        row.discard_pre = row.discard_post = discard
        row.center_sample = SAMPLES // 2 + discard
        rows.append(row)
    top = header(encoded((1, 2 * N, 2 * N), (1, N, N), trajectory=xsd.trajectoryType.RADIAL))
    if unit is not None:
        top.userParameters = xsd.userParametersType(
            userParameterString=[xsd.userParameterStringType(name="trajectory_unit", value=unit)]
        )
    return write_file(path, top, rows)


@pytest.mark.parametrize(
    ("factor", "unit", "name"),
    [
        (1 / N, None, "cycles/sample"),
        (2 * math.pi / N, None, "rad/sample"),
        (2.0, None, "cycles/fov"),
        (1000 / (2.0 * N), "1/m", "1/m"),
        (1 / N, "cycles/sample", "cycles/sample"),
    ],
)
def test_positions_on_spokes_are_found_whatever_their_unit(
    tmp_path: Path, factor: float, unit: str | None, name: str
) -> None:
    # a position of N/2 cycles per wanted field of view is half a cycle per encoded sample
    study = only(spoke_file(tmp_path / "radial.h5", factor, unit))
    assert isinstance(study.geometry, NonCartesian)
    assert np.allclose(study.geometry.trajectory, spokes()[..., ::-1], atol=1e-5)
    known_by = "the largest position" if unit is None else "its user parameter"
    assert study.facts["trajectory_unit"] == {"name": name, "known_by": known_by}
    assert study.facts["trajectory"] == "radial"
    assert study.measurements.shape == (1, 2, SPOKES, SAMPLES)


def test_discarded_samples_take_their_positions_with_them(tmp_path: Path) -> None:
    plain = only(spoke_file(tmp_path / "a.h5", 1 / N))
    discarded = only(spoke_file(tmp_path / "b.h5", 1 / N, discard=3))
    assert torch.equal(discarded.measurements, plain.measurements)
    assert isinstance(discarded.geometry, NonCartesian)
    assert isinstance(plain.geometry, NonCartesian)
    assert np.array_equal(discarded.geometry.trajectory, plain.geometry.trajectory)


def test_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InconsistentError, match="'furlongs'; it must be one of cycles/fov"):
        read_ismrmrd(spoke_file(tmp_path / "radial.h5", 1.0, "furlongs"))


# Several images and other scans.


def test_contrasts_with_echo_times_and_a_noise_scan_of_its_own_bandwidth(tmp_path: Path) -> None:
    truth = object_of(3, 12, 10)
    rng = np.random.default_rng(3)
    noise = [rng.standard_normal((3, n, 2)) @ [1, 1j] for n in (200, 57)]
    rows = []
    for readout, dwell in zip(noise, (5.0, 20.0), strict=True):
        # a quarter of the bandwidth: half the noise
        row = acquisition(readout * math.sqrt(5.0 / dwell))
        row.sample_time_us = dwell
        row.setFlag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        rows.append(row)
    for line, contrast in ((line, c) for line in range(12) for c in range(2)):
        kspace = centred_fft(truth * (contrast + 1), (-2, -1))
        rows.append(acquisition(kspace[:, line], kspace_encode_step_1=line, contrast=contrast))
    top = header(encoded((1, 12, 10), (1, 12, 10)))
    top.sequenceParameters = xsd.sequenceParametersType(TE=[2.46, 4.92], TR=[20.0])
    first, second = read_ismrmrd(write_file(tmp_path / "scan.h5", top, rows))
    assert [first.label, second.label] == ["contrast-1", "contrast-2"]
    assert torch.allclose(second.measurements, 2 * first.measurements, rtol=1e-4, atol=1e-4)
    assert first.identity.attributes["EchoTime"] == "2.46"
    assert second.identity.attributes["EchoTime"] == "4.92"
    assert second.identity.attributes["RepetitionTime"] == "20.0"
    assert first.facts["noise_scan"] == {
        "readouts": 2, "samples": 257, "dwell": 5.0, "imaging_dwell": 5.0,
        "relative_bandwidth": 1.0,
    }  # fmt: skip
    # whitened noise has the identity as its covariance, over both readouts together
    both = np.concatenate(noise, axis=1)
    covariance = both @ both.conj().T / both.shape[1]
    plain = centred_fft(truth, (-2, -1)).reshape(3, -1)
    expected = np.linalg.solve(np.linalg.cholesky(covariance), plain)
    assert np.allclose(first.measurements[0].reshape(3, -1).numpy(), expected, atol=1e-3)


def test_a_separate_calibration_scan_is_handed_on(tmp_path: Path) -> None:
    truth = object_of(3, 12, 10)
    kspace = centred_fft(truth, (-2, -1))
    calibration = []
    for line in range(4, 8):
        row = acquisition(kspace[:, line], kspace_encode_step_1=line)
        row.setFlag(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
        calibration.append(row)
    rows = [acquisition(kspace[:, line], kspace_encode_step_1=line) for line in range(0, 12, 3)]
    factor = xsd.accelerationFactorType(kspace_encoding_step_1=3, kspace_encoding_step_2=1)
    parallel = xsd.parallelImagingType(
        accelerationFactor=factor, calibrationMode=xsd.calibrationModeType.SEPARATE
    )
    top = header(encoded((1, 12, 10), (1, 12, 10), parallelImaging=parallel))
    study = only(write_file(tmp_path / "scan.h5", top, [*calibration, *rows]))
    assert study.calibration is not None
    assert np.allclose(study.calibration[0, :, 4:8].numpy(), kspace[:, 4:8], atol=1e-5)
    assert not study.calibration[0, :, [0, 1, 2, 3, 8, 9, 10, 11]].any()
    assert isinstance(study.geometry, Cartesian)
    assert np.flatnonzero(study.geometry.mask[:, 0]).tolist() == [0, 3, 6, 9]
    assert study.facts["acceleration"]["claimed"] == [1.0, 3.0]


def test_a_header_that_counts_slices_as_partitions_is_seen_through(tmp_path: Path) -> None:
    truth = object_of(4, 3, 12, 10)

    def count_slices(top: Any) -> None:
        for part in (top.encoding[0].encodedSpace, top.encoding[0].reconSpace):
            part.matrixSize.z = 4
            part.fieldOfView_mm.z = 12.0

    study = only(Scan(truth, on_header=count_slices).write(tmp_path / "scan.h5"))
    image = kspace_to_image(study.measurements, (-2, -1)).numpy()
    assert np.allclose(image, truth, atol=1e-5)
    assert study.facts["slices"]["thickness_mm"] == 3.0
    assert study.facts["slices"]["gap_mm"] == pytest.approx(0.3, abs=1e-4)
    assert study.facts["slices"]["arrival"] == "interleaved"


def test_the_facts_are_plain_values_and_name_nobody(tmp_path: Path) -> None:
    def named(top: Any) -> None:
        top.subjectInformation = xsd.subjectInformationType(patientName="Doe^Jane", patientID="7")

    study = only(Scan(object_of(2, 3, 12, 10), on_header=named).write(tmp_path / "scan.h5"))
    text = json.dumps(dict(study.facts))
    assert "Doe" not in text
    assert study.facts["oversampling_removed"] == 2.0
    assert study.facts["encoded"] == {"matrix": [1, 12, 20], "fov_mm": [3.0, 18.0, 25.0]}
    assert study.facts["recon"] == {"matrix": [1, 12, 10], "fov_mm": [3.0, 18.0, 12.5]}
    assert study.facts["format"] == "MRD"
