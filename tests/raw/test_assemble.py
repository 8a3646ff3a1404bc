from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError, ResourceError
from medrecon.geometry import Cartesian
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image
from medrecon.raw.assemble import assemble
from medrecon.raw.scan import Encoding, NoiseScan, RawScan, Readout
from medrecon.study import Study
from tests.raw.scans import AXIAL, encoding, kspace_of, lines_of, pose, scan_of

H, W, COILS = 12, 10, 3
FLAT = encoding((1, H, W))


def only(scan: RawScan) -> Study:
    (study,) = assemble(scan)
    return study


def mask_of(study: Study) -> np.ndarray:
    assert isinstance(study.geometry, Cartesian)
    return study.geometry.mask


def white(*shape: int, seed: int = 5) -> np.ndarray:
    noise: np.ndarray = np.random.default_rng(seed).standard_normal((*shape, 2)) @ [1, 1j]
    return (noise / math.sqrt(2)).astype(np.complex64)


# Patterns.


def test_slices_with_patterns_of_their_own_keep_them() -> None:
    rng = np.random.default_rng(1)
    planes = [kspace_of((COILS, H, W), seed=i) for i in range(3)]
    chosen = [sorted({H // 2, *rng.choice(H, 7, replace=False).tolist()}) for _ in planes]
    chosen = [lines[:7] for lines in chosen]
    readouts = [
        readout
        for i, (plane, lines) in enumerate(zip(planes, chosen, strict=True))
        for readout in lines_of(plane, lines, slice=i, pose=pose(2.0 * i))
    ]
    study = only(scan_of(readouts, FLAT))
    mask = mask_of(study)
    assert mask.shape == (3, H, W)
    assert isinstance(study.geometry, Cartesian)
    assert not study.geometry.is_3d
    for i, (plane, lines) in enumerate(zip(planes, chosen, strict=True)):
        assert np.flatnonzero(mask[i].any(axis=1)).tolist() == lines
        assert np.array_equal(study.measurements[i].numpy(), plane * mask[i])


def test_partial_fourier_lines_lie_where_the_centre_says() -> None:
    kspace = kspace_of((COILS, H, W))
    recounted = [replace(r, line=r.line - 4) for r in lines_of(kspace, range(4, H))]
    study = only(scan_of(recounted, replace(FLAT, center=(0, H // 2 - 4))))
    assert np.array_equal(study.measurements[0].numpy(), kspace * mask_of(study))
    assert np.flatnonzero(mask_of(study)[:, 0]).tolist() == list(range(4, H))
    assert study.facts["partial_fourier"] == {"y": round(8 / 12, 4)}


def test_undersampling_alone_is_no_partial_fourier() -> None:
    study = only(scan_of(lines_of(kspace_of((COILS, H, W)), range(0, H, 3)), FLAT))
    assert study.facts["partial_fourier"] == {}
    assert study.facts["acceleration"] == {"measured": 3.0, "step": [1, 3], "claimed": [1.0, 1.0]}


def test_echoes_of_both_signs_fill_each_others_gaps_and_are_counted_by_sample() -> None:
    kspace = kspace_of((COILS, H, W))
    early, late = lines_of(kspace, columns=slice(0, 7)), lines_of(kspace, columns=slice(3, 10))
    assert (early[0].center, late[0].center) == (5, 2)
    study = only(scan_of([*early, *late], FLAT))
    assert np.allclose(study.measurements[0].numpy(), kspace, atol=1e-5)
    assert study.weights is not None
    assert study.weights.shape == (H, W)
    assert study.weights[4].tolist() == [1, 1, 1, 2, 2, 2, 2, 1, 1, 1]
    alone = only(scan_of(late, FLAT))
    assert np.flatnonzero(mask_of(alone)[0]).tolist() == list(range(3, W))
    assert alone.facts["partial_fourier"] == {"x": 0.7}


def test_lines_of_echoes_that_differ_get_columns_of_their_own() -> None:
    kspace = kspace_of((COILS, H, W))
    readouts = [
        *lines_of(kspace, range(6), slice(0, 7)),
        *lines_of(kspace, range(6, H), slice(3, 10)),
    ]
    study = only(scan_of(readouts, FLAT))
    mask = mask_of(study)
    assert mask[:6, :7].all()
    assert not mask[:6, 7:].any()
    assert mask[6:, 3:].all()
    assert not mask[6:, :3].any()
    assert np.array_equal(study.measurements[0].numpy(), kspace * mask)
    assert study.weights is None


def test_slices_averaged_unequally_are_weighted_each() -> None:
    kspace = kspace_of((COILS, H, W))
    readouts = [
        readout
        for i, times in enumerate((1, 3))
        for average in range(times)
        for readout in lines_of(kspace, slice=i, pose=pose(2.0 * i), average=average)
    ]
    with_noise = scan_of(readouts, FLAT, noise_std=0.3)
    study = only(with_noise)
    assert mask_of(study).shape == (H, W)
    assert study.weights is not None
    assert study.weights.shape == (2, 1, H, 1)
    assert (study.weights[0] == 1).all()
    assert (study.weights[1] == 3).all()
    assert study.noise_std == 0.3
    assert study.facts["averages"] == {"from": 1, "to": 3}
    assert torch.allclose(study.measurements[0], study.measurements[1], atol=1e-5)


# Readout oversampling.


@pytest.mark.parametrize(("wide", "kept"), [(20, 10), (18, 9), (9, 6)])
def test_oversampling_is_taken_off_in_the_image_and_the_voxel_stays(wide: int, kept: int) -> None:
    kspace = kspace_of((COILS, H, wide))
    space = encoding((1, H, wide), readout_fov=float(kept), voxel=1.0)
    study = only(scan_of(lines_of(kspace), space))
    image = kspace_to_image(torch.from_numpy(kspace), (-1,))
    start = wide // 2 - kept // 2
    found = kspace_to_image(study.measurements[0], (-1,))
    assert torch.allclose(found, image[..., start : start + kept], atol=1e-5)
    assert study.grid is not None
    assert study.grid.spacing[2] == 1.0
    assert mask_of(study).all()
    assert study.facts["oversampling_removed"] == round(wide / kept, 4)


def test_a_wanted_image_finer_than_measured_is_said_and_not_made() -> None:
    space = encoding((1, H, W), recon_matrix=(1, 2 * H, 2 * W), recon_fov=(1.0, H, W))
    study = only(scan_of(lines_of(kspace_of((COILS, H, W))), space))
    assert study.measurements.shape == (1, COILS, H, W)
    assert "[1.0, 0.5, 0.5] mm" in study.facts["interpolation_not_done"]


# Noise.


def coloured(samples: int, seed: int = 3) -> np.ndarray:
    mixing = white(COILS, COILS, seed=9)
    mixed: np.ndarray = mixing @ white(COILS, samples, seed=seed)
    return mixed.astype(np.complex64)


def test_each_echo_is_whitened_for_its_own_bandwidth() -> None:
    noise = NoiseScan(data=coloured(4000), dwell=5.0, imaging_dwell=5.0, readouts=8)
    kspace = kspace_of((COILS, H, W))
    readouts = [
        r for c, dwell in enumerate((5.0, 10.0)) for r in lines_of(kspace, contrast=c, dwell=dwell)
    ]
    fast, slow = assemble(scan_of(readouts, FLAT, noise=noise))
    # half the bandwidth: half the noise variance, so whitening lifts the signal by root 2
    assert torch.allclose(slow.measurements, fast.measurements * math.sqrt(2), rtol=1e-4)
    assert fast.noise_std == 1.0
    assert fast.facts["noise_scan"]["readouts"] == 8
    assert fast.facts["noise_scan"]["samples"] == 4000


def test_noise_of_other_coils_is_an_error() -> None:
    noise = NoiseScan(data=coloured(4000)[:2])
    with pytest.raises(InconsistentError, match="noise scan has 2 coils, the images have 3"):
        assemble(scan_of(lines_of(kspace_of((COILS, H, W))), FLAT, noise=noise))


def test_a_dead_coil_is_left_out_of_noise_images_and_calibration() -> None:
    kspace = kspace_of((12, H, W))
    kspace[4] = 0
    noise = NoiseScan(data=white(12, 4000))
    scan = scan_of(lines_of(kspace), FLAT, noise=noise, calibration=lines_of(kspace, range(4, 8)))
    with pytest.warns(UserWarning, match="coil 4 is zero"):
        study = only(scan)
    assert study.measurements.shape[1] == 11
    assert study.calibration is not None
    assert study.calibration.shape == study.measurements.shape
    assert study.facts["coils"] == {"measured": 12, "dead": [4]}


# Separate calibration scans.


def test_a_calibration_scan_lies_on_the_matrix_of_its_image_whitened_alike() -> None:
    wide, kept = 2 * W, W
    kspace = kspace_of((COILS, H, wide))
    space = encoding((1, H, wide), oversampling=2)
    own = encoding((1, 6, 12), oversampling=2, fov=(1.0, 12.0, 20.0), readout_fov=10.0)
    noise = NoiseScan(data=coloured(4000))
    # the middle of the same k-space, in an encoded space of its own
    middle = kspace[:, 3:9, 4:16]
    calibration = lines_of(middle, encoding=1, slice=7)
    scan = scan_of(
        lines_of(kspace, range(0, H, 2)), space, own, noise=noise, calibration=calibration
    )
    study = only(scan)
    full = only(scan_of(lines_of(kspace), space, noise=noise))
    assert study.calibration is not None
    assert study.calibration.shape == (1, COILS, H, kept)
    measured = (study.calibration != 0).any(dim=1)[0]
    assert measured.any(dim=1).nonzero().flatten().tolist() == list(range(3, 9))
    # cropping spreads what was cut off at the ends, so only the middle is compared
    here, there = study.calibration[0, :, 3:9, 4:6], full.measurements[0, :, 3:9, 4:6]
    assert float((here - there).abs().max()) < 0.2 * float(there.abs().max())
    assert study.facts["calibration_readouts"] == 6


def test_calibration_in_the_encoding_of_its_image_is_exact() -> None:
    planes = [kspace_of((COILS, H, W), seed=i) for i in range(2)]
    images, calibration = [], []
    for i, plane in enumerate(planes):
        place: dict[str, Any] = {"slice": i, "pose": pose(-2.0 * i)}
        images += lines_of(plane, range(0, H, 2), **place)
        calibration += lines_of(plane, range(4, 8), **place)
    study = only(scan_of(images, FLAT, calibration=calibration))
    assert study.calibration is not None
    expected = np.zeros((2, COILS, H, W), dtype=np.complex64)
    expected[:, :, 4:8] = np.stack([planes[1], planes[0]])[:, :, 4:8]
    assert np.array_equal(study.calibration.numpy(), expected)
    assert mask_of(study)[::2].all()
    assert not mask_of(study)[1::2].any()


def test_each_contrast_takes_its_own_calibration_or_the_only_one() -> None:
    kspaces = [kspace_of((COILS, H, W), seed=c) for c in range(2)]
    images = [r for c in range(2) for r in lines_of(kspaces[c], contrast=c)]
    both = [r for c in range(2) for r in lines_of(kspaces[c], range(4, 8), contrast=c)]
    for calibration, of_second in ((both, 1), (both[:4], 0)):
        second = assemble(scan_of(images, FLAT, calibration=calibration))[1]
        assert second.calibration is not None
        expected = kspaces[of_second][:, 4:8]
        assert np.array_equal(second.calibration[0, :, 4:8].numpy(), expected)


def test_3d_calibration_is_placed_in_all_three_axes() -> None:
    slab = kspace_of((COILS, 4, H, W))
    space = encoding((4, H, W))
    images = [r for z in range(4) for r in lines_of(slab[:, z], range(0, H, 2), partition=z)]
    lines = [r for z in (1, 2) for r in lines_of(slab[:, z], range(5, 8), partition=z)]
    study = only(scan_of(images, space, calibration=lines))
    expected = np.zeros_like(slab)
    expected[:, 1:3, 5:8] = slab[:, 1:3, 5:8]
    assert study.calibration is not None
    assert np.array_equal(study.calibration.numpy(), expected)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fov": (1.0, 6.0, 10.0)}, "field of view, 6 mm, cannot be cropped to the image's 12 mm"),
        ({"matrix": (2, H, W), "is_3d": True}, "same axes"),
    ],
)
def test_calibration_that_does_not_fit_is_left_out_with_a_warning(
    change: dict[str, Any], reason: str
) -> None:
    kspace = kspace_of((COILS, H, W))
    other = replace(FLAT, **change)
    scan = scan_of(lines_of(kspace), FLAT, other, calibration=lines_of(kspace, encoding=1))
    with pytest.warns(UserWarning, match=reason):
        assert only(scan).calibration is None


def test_calibration_of_a_larger_field_of_view_is_cropped_in_the_image() -> None:
    image = np.zeros((COILS, H, W), dtype=np.complex64)
    image[:, 4:8, 3:7] = white(COILS, 4, 4)
    large = np.zeros((COILS, 2 * H, W), dtype=np.complex64)
    large[:, H // 2 : H // 2 + H] = image
    kspace, wide = (image_to_kspace(torch.from_numpy(a), (-2, -1)).numpy() for a in (image, large))
    other = replace(FLAT, matrix=(1, 2 * H, W), fov=(1.0, 2.0 * H, W), center=(0, H))
    scan = scan_of(lines_of(kspace), FLAT, other, calibration=lines_of(wide, encoding=1))
    study = only(scan)
    assert study.calibration is not None
    assert torch.allclose(study.calibration, study.measurements, atol=1e-5)


def test_calibration_that_lacks_slices_is_left_out_with_a_warning() -> None:
    kspace = kspace_of((COILS, H, W))
    images = [r for i in range(2) for r in lines_of(kspace, slice=i, pose=pose(2.0 * i))]
    with pytest.warns(UserWarning, match="does not cover all slices"):
        assert only(scan_of(images, FLAT, calibration=lines_of(kspace))).calibration is None


# What the header claims.


def accelerated(claim: float, lines: list[int]) -> RawScan:
    space = replace(FLAT, matrix=(1, 24, W), fov=(1.0, 24.0, 10.0), center=(0, 12))
    kspace = kspace_of((COILS, 24, W))
    return scan_of(lines_of(kspace, lines), replace(space, acceleration=(1.0, claim)))


@pytest.mark.parametrize(
    ("claim", "lines"),
    [
        (2.0, list(range(0, 24, 2))),
        (4.0, sorted({*range(0, 24, 4), *range(8, 16)})),  # with calibration lines
        (1.0, list(range(0, 24, 3))),  # a header that says nothing
    ],
)
def test_a_claim_that_is_true_or_absent_is_silent(claim: float, lines: list[int]) -> None:
    assert only(accelerated(claim, lines)).facts["acceleration"]["claimed"] == [1.0, claim]


def test_a_claim_that_is_not_true_warns_with_both_numbers() -> None:
    with pytest.warns(UserWarning, match=r"claims an acceleration of 4.*every 2nd line"):
        study = only(accelerated(4.0, list(range(0, 24, 2))))
    assert study.facts["acceleration"] == {
        "measured": 2.0, "step": [1, 2], "claimed": [1.0, 4.0],
    }  # fmt: skip


# Facts of the place.


@pytest.mark.parametrize(
    ("heights", "arrival"),
    [([0, 4, 8], "ascending"), ([8, 4, 0], "descending"), ([4, 0, 8], "interleaved")],
)
def test_the_facts_tell_gap_and_order_of_the_slices(heights: list[float], arrival: str) -> None:
    kspace = kspace_of((COILS, H, W))
    thick = replace(FLAT, fov=(3.0, 12.0, 10.0))
    readouts = [r for i, h in enumerate(heights) for r in lines_of(kspace, slice=i, pose=pose(h))]
    facts = only(scan_of(readouts, thick)).facts["slices"]
    assert facts == {
        "count": 3,
        "spacing_mm": 4.0,
        "thickness_mm": 3.0,
        "gap_mm": 1.0,
        "arrival": arrival,
        "orientation": "axial",
        "voxel_mm": [4.0, 1.0, 1.0],
    }


def test_an_oblique_plane_is_named_with_its_tilt() -> None:
    tilt = math.radians(20)
    turn = np.array(
        [[math.cos(tilt), -math.sin(tilt), 0], [math.sin(tilt), math.cos(tilt), 0], [0, 0, 1]]
    )
    readouts = lines_of(kspace_of((COILS, H, W)), pose=pose(0.0, turn @ AXIAL))
    facts = only(scan_of(readouts, FLAT)).facts["slices"]
    assert facts["orientation"] == "axial, oblique by 20.0 degrees"


def test_a_slice_that_moves_between_its_readouts_is_said() -> None:
    readouts = [
        replace(readout, pose=pose(0.1 * i), slice=number)
        for number in range(2)
        for i, readout in enumerate(lines_of(kspace_of((COILS, H, W))))
    ]
    readouts = [
        replace(r, pose=replace(r.pose, position=r.pose.position + np.array([0, 0, 9 * r.slice])))
        for r in readouts
    ]
    with pytest.warns(UserWarning, match="changes by up to 1.10 mm"):
        assert len(only(scan_of(readouts, FLAT)).measurements) == 2


# What cannot be.


def test_many_images_beyond_memory_are_refused_before_any_is_made() -> None:
    big = replace(FLAT, matrix=(1, 4096, 4096), fov=(1.0, 100.0, 100.0), readout_fov=100.0)
    readouts: list[Readout] = [
        r for i in range(60) for r in lines_of(kspace_of((COILS, 1, W)), repetition=i)
    ]
    with pytest.raises(ResourceError, match=r"60 images needs .* GiB"):
        assemble(scan_of(readouts, big))


@pytest.mark.parametrize("matrix", [(1, 0, 8), (1, 9, 5000)])
def test_an_impossible_matrix_is_refused(matrix: tuple[int, int, int]) -> None:
    wrong = Encoding(
        matrix=matrix, fov=(1.0, 1.0, 1.0), readout_fov=1.0, center=(0, 0), is_3d=False
    )
    with pytest.raises(InconsistentError, match="encoded matrix"):
        assemble(scan_of(lines_of(kspace_of((COILS, 2, 2))), wrong))


def test_readouts_that_do_not_fit_the_width_are_refused() -> None:
    off = [replace(r, center=2) for r in lines_of(kspace_of((COILS, H, W)))]
    with pytest.raises(InconsistentError, match="do not fit the encoded readout"):
        assemble(scan_of(off, FLAT))


# Times, for off-resonance.


def test_times_run_with_the_readout_whatever_was_oversampled() -> None:
    wide = encoding((1, H, 2 * W), oversampling=2)
    kspace = kspace_of((COILS, H, 2 * W))
    facts = {"echo_times_ms": [3.0]}
    geometry = only(scan_of(lines_of(kspace, dwell=5.0), wide, facts=facts)).geometry
    assert isinstance(geometry, Cartesian)
    assert geometry.times is not None
    assert geometry.times[W // 2] == pytest.approx(3e-3)
    assert np.allclose(np.diff(geometry.times), 10e-6)  # two samples of 5 us became one
    untold = only(scan_of(lines_of(kspace, dwell=5.0), wide)).geometry
    assert isinstance(untold, Cartesian)
    assert untold.times is None
