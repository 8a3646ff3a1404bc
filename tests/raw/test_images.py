from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError
from medrecon.raw.assemble import assemble
from medrecon.raw.images import images_of
from medrecon.raw.scan import Readout
from tests.raw.scans import AXIAL, encoding, kspace_of, lines_of, pose, scan_of

H, W = 6, 8
FLAT = encoding((1, H, W))
SAGITTAL, CORONAL = AXIAL[[2, 1, 0]], AXIAL[[1, 0, 2]]


def test_every_contrast_and_repetition_is_an_image_of_its_own() -> None:
    truth = {key: kspace_of((2, H, W), seed=i) for i, key in enumerate(
        itertools.product(range(2), range(3)))}  # fmt: skip
    readouts = [
        readout
        for (contrast, repetition), kspace in truth.items()
        for readout in lines_of(kspace, contrast=contrast, repetition=repetition)
    ]
    mixed = [readouts[i] for i in np.random.default_rng(0).permutation(len(readouts))]
    studies = assemble(scan_of(mixed, FLAT))
    assert [study.label for study in studies] == [
        f"contrast-{c + 1}_repetition-{r + 1}" for c, r in sorted(truth)
    ]
    for study, key in zip(studies, sorted(truth), strict=True):
        assert np.array_equal(study.measurements[0].numpy(), truth[key])


def test_only_what_differs_is_named() -> None:
    kspace = kspace_of((2, H, W))
    readouts = [r for phase in (1, 4) for r in lines_of(kspace, phase=phase, contrast=2, set=3)]
    assert [study.label for study in assemble(scan_of(readouts, FLAT))] == ["phase-2", "phase-5"]
    (study,) = assemble(scan_of(readouts[:H], FLAT))
    assert study.label == ""


def test_encodings_of_different_matrices_stand_beside_each_other() -> None:
    fine, coarse = kspace_of((2, H, W)), kspace_of((2, 4, 4), seed=1)
    readouts = [*lines_of(fine), *lines_of(coarse, encoding=1)]
    scan = scan_of(readouts, FLAT, encoding((1, 4, 4), voxel=2.0))
    first, second = assemble(scan)
    assert (first.label, second.label) == ("encoding-1", "encoding-2")
    assert np.array_equal(second.measurements[0].numpy(), coarse)
    assert second.grid is not None
    assert second.grid.spacing == (2.0, 2.0, 2.0)


def test_slabs_are_counted_along_their_normal() -> None:
    slabs = [kspace_of((2, 4, H, W), seed=i) for i in range(2)]
    readouts = [
        readout
        for number, (slab, height) in enumerate(zip(slabs, (30.0, -10.0), strict=True))
        for z in range(4)
        for readout in lines_of(slab[:, z], partition=z, slice=number, pose=pose(height))
    ]
    lower, upper = assemble(scan_of(readouts, encoding((4, H, W))))
    assert (lower.label, upper.label) == ("slab-1", "slab-2")
    assert np.array_equal(lower.measurements.numpy(), slabs[1])
    assert lower.grid is not None
    assert (lower.grid.affine @ [2, H // 2, W // 2, 1])[2] == -10


def test_a_localizer_is_three_stacks() -> None:
    planes = [kspace_of((2, H, W), seed=i) for i in range(6)]
    readouts: list[Readout] = []
    for number, kspace in enumerate(planes):
        directions = (AXIAL, SAGITTAL, CORONAL)[number // 2]
        place = pose(5.0 * (number % 2), directions)
        readouts += lines_of(kspace, slice=number, pose=place)
    studies = assemble(scan_of(readouts, FLAT))
    assert [study.label for study in studies] == ["stack-1", "stack-2", "stack-3"]
    orientations = [study.facts["slices"]["orientation"] for study in studies]
    assert orientations == ["axial", "sagittal", "coronal"]
    for i, study in enumerate(studies):
        assert np.array_equal(study.measurements.numpy(), planes[2 * i : 2 * i + 2])


def test_slices_that_are_not_counted_are_told_apart_by_their_positions() -> None:
    planes = [kspace_of((2, H, W), seed=i) for i in range(3)]
    readouts = [
        readout
        for kspace, height in zip(planes, (4.0, -4.0, 0.0), strict=True)
        for readout in lines_of(kspace, pose=pose(height))
    ]
    (study,) = assemble(scan_of(readouts, FLAT))
    assert np.array_equal(study.measurements.numpy(), np.stack([planes[i] for i in (1, 2, 0)]))


def test_the_place_of_each_repetition_is_its_own() -> None:
    kspace = kspace_of((2, H, W))
    readouts = [
        readout
        for repetition in range(2)
        for number in range(2)
        for readout in lines_of(
            kspace, repetition=repetition, slice=number, pose=pose(3.0 * number + repetition)
        )
    ]
    first, second = assemble(scan_of(readouts, FLAT))
    assert first.grid is not None
    assert second.grid is not None
    assert second.grid.origin[2] - first.grid.origin[2] == pytest.approx(1.0)


def stopped_after(count: int) -> list[Readout]:
    """Two repetitions of four interleaved slices, ended early in the second."""
    readouts = [
        readout
        for repetition in range(2)
        for number in (1, 3, 0, 2)
        for readout in lines_of(
            kspace_of((2, H, W)), repetition=repetition, slice=number, pose=pose(3.0 * number)
        )
    ]
    return readouts[: 4 * H + count]


def test_a_repetition_that_lacks_slices_is_left_out_with_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"repetition-2 is left out; it holds 3 of 4 slices"):
        studies = assemble(scan_of(stopped_after(3 * H), FLAT))
    assert [study.label for study in studies] == ["repetition-1"]


def test_a_repetition_that_ends_early_but_makes_a_stack_is_kept_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="holds 2 of 4 slices in 12 readouts"):
        first, second = assemble(scan_of(stopped_after(2 * H), FLAT))
    assert (len(first.measurements), len(second.measurements)) == (4, 2)


def test_repetitions_undersampled_by_intention_are_no_early_end() -> None:
    kspace = kspace_of((2, H, W))
    readouts = [*lines_of(kspace), *lines_of(kspace, [0, 2, 3, 5], repetition=1)]
    assert len(assemble(scan_of(readouts, FLAT))) == 2
    with pytest.warns(UserWarning, match="repetition-2 holds 1 of 1 slices in 4 readouts"):
        assemble(scan_of([*readouts[:H], *lines_of(kspace, range(4), repetition=1)], FLAT))


def test_slices_missing_from_the_only_image_are_an_error() -> None:
    readouts = [r for r in stopped_after(0) if r.slice != 2]
    with pytest.raises(InconsistentError, match="not evenly spaced"):
        assemble(scan_of(readouts, FLAT))


def test_a_readout_of_an_unknown_encoding_is_refused() -> None:
    readouts = lines_of(kspace_of((2, H, W)), encoding=1)
    with pytest.raises(InconsistentError, match="encoding 1, the header has 1"):
        assemble(scan_of(readouts, FLAT))
    with pytest.raises(InconsistentError, match="no imaging data"):
        assemble(scan_of([], FLAT))


def test_counters_from_one_stand_in_the_facts() -> None:
    readouts = lines_of(kspace_of((2, H, W)), contrast=1, repetition=2)
    (image,) = images_of(scan_of(readouts, FLAT))
    assert dict(image.counters) == {
        "encoding": 1, "contrast": 2, "phase": 1, "repetition": 3, "set": 1, "stack": 1,
    }  # fmt: skip
    (study,) = assemble(scan_of(readouts, FLAT))
    assert study.facts["counters"] == dict(image.counters)


def test_each_contrast_has_its_echo_time() -> None:
    readouts = [r for c in range(2) for r in lines_of(kspace_of((2, H, W)), contrast=c)]
    facts = {"echo_times_ms": [4.92, 7.38], "repetition_times_ms": [400.0]}
    studies = assemble(scan_of(readouts, FLAT, facts=facts))
    attributes = [study.identity.attributes for study in studies]
    assert [a["EchoTime"] for a in attributes] == ["4.92", "7.38"]
    assert [a["RepetitionTime"] for a in attributes] == ["400.0", "400.0"]


def test_images_are_whole_tensors_of_their_own() -> None:
    readouts = [r for c in range(2) for r in lines_of(kspace_of((2, H, W)), contrast=c)]
    first, second = assemble(scan_of(readouts, FLAT))
    first.measurements.zero_()
    assert torch.count_nonzero(second.measurements)
