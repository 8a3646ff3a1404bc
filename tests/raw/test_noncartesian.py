"""Spokes against the exact sum over the voxels they were made from."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian
from medrecon.geometry.kspace import image_to_kspace
from medrecon.raw.assemble import assemble
from medrecon.raw.scan import Encoding, NoiseScan, RawScan, Readout
from medrecon.study import Study
from tests.raw.scans import encoding, kspace_of, lines_of, pose, scan_of

N, COILS = 8, 2
SPOKES, SAMPLES = 5, 16
RADIAL = encoding(
    (1, 2 * N, 2 * N),
    oversampling=2,
    trajectory="radial",
    recon_fov=(1.0, float(N), float(N)),
    recon_matrix=(1, N, N),
)
"""Twice the wanted field of view is encoded in both directions."""
Array = NDArray[Any]


def spokes(count: int = SPOKES) -> Array:
    """Positions in cycles per wanted field of view, ``(shots, samples, 2)``."""
    angles = np.pi * np.arange(count) / count
    radius = (np.arange(SAMPLES) - SAMPLES // 2) * N / SAMPLES
    directions = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    found: Array = radius[None, :, None] * directions[:, None]
    return found


def signal(image: Array, k: Array) -> Array:
    """Sum over the voxels of ``image``, ``(coils, shots, samples)``, by the definition."""
    axes = [np.arange(n) - n // 2 for n in image.shape[1:]]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    waves = np.exp(-2j * np.pi * (k / image.shape[1:]) @ place.T)
    found: Array = np.einsum("stv,cv->cst", waves, image.reshape(len(image), -1))
    return (found / math.sqrt(place.shape[0])).astype(np.complex64)


def readouts_of(data: Array, k: Array, **counters: Any) -> list[Readout]:
    """Shots ``(coils, shots, samples)``; positions become cycles per encoded field of view."""
    values: dict[str, Any] = {"partition": 0, "slice": 0, "pose": pose()}
    return [
        Readout(
            data=data[:, shot],
            line=shot,
            center=SAMPLES // 2,
            trajectory=2.0 * k[shot],
            **(values | counters),
        )
        for shot in range(len(k))
    ]


def only(scan: RawScan) -> tuple[Study, NonCartesian]:
    (study,) = assemble(scan)
    assert isinstance(study.geometry, NonCartesian)
    return study, study.geometry


def images(*shape: int) -> Array:
    found: Array = np.random.default_rng(0).standard_normal((*shape, 2)) @ [1, 1j]
    return found


def test_spokes_belong_to_the_wanted_field_of_view_and_keep_their_oversampling() -> None:
    k, image = spokes(), images(COILS, N, N)
    readouts = readouts_of(signal(image, k), k)
    shuffled = [readouts[i] for i in (3, 0, 4, 1, 2)]
    study, geometry = only(scan_of(shuffled, RADIAL))
    assert np.allclose(geometry.trajectory, k)
    assert study.measurements.shape == (1, COILS, SPOKES, SAMPLES)
    assert np.array_equal(study.measurements[0].numpy(), signal(image, k))
    assert study.grid is not None
    assert study.grid.shape == (1, N, N)
    assert study.grid.spacing == (1.0, 1.0, 1.0)
    assert study.facts["kept_fov_mm"] == [1.0, N, N]


def test_slices_are_sorted_by_position() -> None:
    k = spokes()
    planes = [signal(images(COILS, N, N) * (i + 1), k) for i in range(3)]
    readouts = [
        readout
        for i, height in enumerate((4.0, -4.0, 0.0))
        for readout in readouts_of(planes[i], k, slice=i, pose=pose(height))
    ]
    study, _ = only(scan_of(readouts, RADIAL))
    assert np.array_equal(study.measurements.numpy(), np.stack([planes[i] for i in (1, 2, 0)]))
    assert study.grid is not None
    assert study.grid.spacing[0] == 4.0


def stack() -> Encoding:
    return replace(
        RADIAL, matrix=(4, 2 * N, 2 * N), fov=(8.0, 16.0, 16.0), center=(2, 0), is_3d=True,
        recon_fov=(8.0, 8.0, 8.0),
    )  # fmt: skip


def test_a_stack_of_stars_is_placed_by_its_partitions() -> None:
    k = spokes()
    planes = {
        partition: signal(images(COILS, N, N) * (partition + 1), k) for partition in (1, 2, 3)
    }
    readouts = [
        readout
        for partition, data in planes.items()
        for readout in readouts_of(data, k, partition=partition)
    ]
    study, geometry = only(scan_of(readouts, stack()))
    assert geometry.is_stack
    assert geometry.partitions is not None
    assert geometry.partitions.tolist() == [False, True, True, True]
    assert study.measurements.shape == (COILS, 4, SPOKES, SAMPLES)
    for partition, data in planes.items():
        assert np.array_equal(study.measurements[:, partition].numpy(), data)
    assert not study.measurements[:, 0].any()
    assert study.facts["partitions"] == "3 of 4"


@pytest.mark.parametrize("depth", [0.0, 1.5])
def test_a_third_coordinate_makes_the_trajectory_3d_where_it_says_anything(depth: float) -> None:
    k = spokes()
    flat = readouts_of(signal(images(COILS, N, N), k), k, partition=2)
    deep = []
    for i, readout in enumerate(flat):
        assert readout.trajectory is not None
        kz = np.full((SAMPLES, 1), depth * i)
        deep.append(replace(readout, trajectory=np.hstack([kz, readout.trajectory])))
    study, geometry = only(scan_of(deep, stack()))
    assert geometry.is_3d
    assert geometry.is_stack == (depth == 0)
    if depth:
        assert study.measurements.shape == (COILS, SPOKES, SAMPLES)
        # the slab's own field of view is kept along z
        assert np.allclose(geometry.trajectory[:, 0, 0], depth * np.arange(SPOKES))
        assert np.allclose(geometry.trajectory[..., 1:], k)


def test_averages_of_one_trajectory_are_averaged() -> None:
    k, noise = spokes(), NoiseScan(data=kspace_of((COILS, 8, 50)).reshape(COILS, -1))
    data = [signal(images(COILS, N, N) * factor, k) for factor in (1, 3)]
    readouts = [r for a in range(2) for r in readouts_of(data[a], k, average=a)]
    study, geometry = only(scan_of(readouts, RADIAL))
    assert geometry.shots == SPOKES
    assert np.allclose(study.measurements[0].numpy(), (data[0] + data[1]) / 2, atol=1e-5)
    whitened, _ = only(scan_of(readouts, RADIAL, noise=noise))
    assert whitened.noise_std == pytest.approx(math.sqrt(0.5))


def test_averages_along_turned_spokes_are_more_spokes() -> None:
    k = spokes(2 * SPOKES)
    data = signal(images(COILS, N, N), k)
    readouts = [
        *readouts_of(data[:, ::2], k[::2]),
        *readouts_of(data[:, 1::2], k[1::2], average=1),
    ]
    study, geometry = only(scan_of(readouts, RADIAL))
    assert geometry.shots == 2 * SPOKES
    assert np.array_equal(study.measurements[0, :, SPOKES:].numpy(), data[:, 1::2])


def test_times_follow_from_echo_time_and_dwell() -> None:
    k = spokes()
    readouts = readouts_of(signal(images(COILS, N, N), k), k, dwell=4.0)
    _, geometry = only(scan_of(readouts, RADIAL, facts={"echo_times_ms": [2.0]}))
    assert geometry.times is not None
    assert geometry.times[SAMPLES // 2] == pytest.approx(2e-3)
    assert np.allclose(np.diff(geometry.times), 4e-6)
    assert only(scan_of(readouts, RADIAL))[1].times is None


def test_a_trajectory_that_reaches_beyond_the_matrix_makes_the_grid_finer() -> None:
    k = 2 * spokes()
    study, geometry = only(scan_of(readouts_of(signal(images(COILS, N, N), k), k), RADIAL))
    assert study.grid is not None
    assert study.grid.shape == (1, 2 * N, 2 * N)
    assert study.grid.spacing[1:] == (0.5, 0.5)
    assert max(geometry.reach) <= N


def test_a_cartesian_calibration_scan_goes_with_a_radial_image() -> None:
    k, image = spokes(), images(COILS, N, N)
    readouts = readouts_of(signal(image, k), k)
    cartesian = encoding((1, N, N))
    kspace = image_to_kspace(torch.from_numpy(image), (-2, -1)).numpy().astype(np.complex64)
    calibration = lines_of(kspace, range(2, 6), encoding=1)
    study, _ = only(scan_of(readouts, RADIAL, cartesian, calibration=calibration))
    assert study.calibration is not None
    assert study.calibration.shape == (1, COILS, N, N)
    assert np.array_equal(study.calibration[0, :, 2:6].numpy(), kspace[:, 2:6])
    assert not study.calibration[0, :, [0, 1, 6, 7]].any()


def _shorter(readouts: list[Readout]) -> list[Readout]:
    return readouts[:-1]


def _turned(readouts: list[Readout]) -> list[Readout]:
    return [
        replace(r, trajectory=r.trajectory[:, ::-1]) if r.slice and r.trajectory is not None else r
        for r in readouts
    ]


def _without(readouts: list[Readout]) -> list[Readout]:
    return [replace(readout, trajectory=None) for readout in readouts]


def _nan(readouts: list[Readout]) -> list[Readout]:
    return [
        replace(r, trajectory=np.full((SAMPLES, 2), math.nan)) if r.line == 2 else r
        for r in readouts
    ]


def _too_few(readouts: list[Readout]) -> list[Readout]:
    return [replace(r, trajectory=np.zeros((3, 2))) for r in readouts]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_shorter, r"spokes of slice 1, partition 0 \(4\) are not those of the first slice \(5\)"),
        (_turned, "spokes of slice 1"),
        (_without, "needs as many positions, but has none"),
        (_nan, "NaN or infinite"),
        (_too_few, r"has an array of shape \(3, 2\)"),
    ],
)
def test_spokes_that_are_not_alike_are_refused(change: Any, message: str) -> None:
    k = spokes()
    data = signal(images(COILS, N, N), k)
    readouts = [r for i in range(2) for r in readouts_of(data, k, slice=i, pose=pose(3.0 * i))]
    with pytest.raises(InconsistentError, match=message) as caught:
        assemble(scan_of(change(readouts), RADIAL))
    assert "\n" not in str(caught.value)


def test_a_partition_outside_the_slab_is_refused() -> None:
    k = spokes()
    readouts = readouts_of(signal(images(COILS, N, N), k), k, partition=9)
    with pytest.raises(InconsistentError, match="partition 9, outside the 4 encoded"):
        assemble(scan_of(readouts, stack()))
