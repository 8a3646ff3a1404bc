"""Echo trains simulated by direct sums: ramps, a delay, eddy currents' phase, drift and noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import kspace_to_image
from medrecon.preprocessing.epi import ramp_positions
from medrecon.raw.epi import corrected
from medrecon.raw.scan import Encoding, RawScan, Readout, Trapezoid
from medrecon.raw.slices import SlicePose

H, W, COILS = 48, 96, 2
TRAPEZOID = Trapezoid(ramp_up=100.0, flat_top=150.0, ramp_down=100.0, delay=25.0, dwell=3.125)
POSE = SlicePose(*(np.array(v, dtype=float) for v in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]))
Array = NDArray[np.complex128]


def coil_images(number: int) -> Array:
    y, x = np.mgrid[-1 : 1 : H * 1j, -2 : 2 : W * 1j]  # twice oversampled along x
    body = ((x / 0.8) ** 2 + (y / 0.45) ** 2 < 1) + 0.5 * ((x - 0.1 * number) ** 2 + y**2 < 0.05)
    phase = np.exp(1j * (x * y + 0.5 * y))
    return np.stack([body * phase * (1.5 + x), body * phase.conj() * (1.2 - y)])


def along_y(image: Array) -> Array:
    k = np.arange(H) - H // 2
    kernel = np.exp(-2j * np.pi * np.outer(k, k) / H) / math.sqrt(H)
    return np.asarray(np.einsum("kj,cjx->kcx", kernel, image))


class Scanner:
    """Measures echoes whose samples come ``late`` us, backward ones with a ``constant`` phase."""

    def __init__(self, *, late: float, constant: float, ramps: bool = True, noise: float = 0.0):
        self.late, self.constant, self.ramps, self.noise = late, constant, ramps, noise
        self.clock = 1.0
        self.rng = np.random.default_rng(0)
        self.encoding = Encoding(
            matrix=(1, H, W),
            fov=(3.0, 200.0, 400.0),
            readout_fov=200.0,
            center=(0, H // 2),
            is_3d=False,
            trajectory="epi",
            trapezoid=TRAPEZOID if ramps else None,
        )

    def echo(self, row: Array, reverse: bool, **counters: int) -> Readout:
        if self.ramps:
            k = ramp_positions(W, W, **vars(TRAPEZOID), late=self.late)
        else:
            k = np.asarray(np.arange(W) - W // 2 + self.late / TRAPEZOID.dwell)
        k = -k if reverse else k
        j = np.arange(W) - W // 2
        data = row @ np.exp(-2j * np.pi * np.outer(k, j) / W).T / math.sqrt(W)
        data = data * np.exp(1j * self.constant * reverse)
        noise = self.rng.standard_normal((2, *data.shape)) * self.noise / math.sqrt(2)
        self.clock += 0.0005
        readout = Readout(
            data=(data + noise[0] + 1j * noise[1]).astype(np.complex64),
            line=0,
            partition=0,
            slice=0,
            center=W // 2,
            pose=POSE,
            reverse=reverse,
            time=math.floor(self.clock / 0.0025) * 0.0025,
        )
        changes: dict[str, Any] = {**counters}
        return replace(readout, **changes)

    def shot(
        self, image: Array, first_reverse: bool = False, **counters: int
    ) -> tuple[list[Readout], ...]:
        """Three navigators (R, F, R) whose phase drifts, and all lines of one image."""
        lines = along_y(image)
        drift = np.exp(0.4j * np.arange(3))
        self.clock += 0.1
        navigators = [
            self.echo(lines[H // 2] * drift[i], i % 2 == 0, line=H // 2, **counters)
            for i in range(3)
        ]
        readouts = [self.echo(lines[y], bool(y % 2), line=y, **counters) for y in range(H)]
        return navigators, readouts

    def scan(self, navigators: list[Readout], readouts: list[Readout]) -> RawScan:
        return RawScan(
            encodings=(self.encoding,),
            readouts=readouts,
            navigators=navigators,
            path=Path("epi.h5"),
        )


def image_of(readouts: list[Readout]) -> torch.Tensor:
    kspace = torch.zeros(COILS, H, W, dtype=torch.complex64)
    for readout in readouts:
        assert not readout.reverse
        start = W // 2 - readout.center
        kspace[:, readout.line, start : start + readout.data.shape[1]] = torch.from_numpy(
            readout.data
        )
    return kspace_to_image(kspace, (-2, -1))


def ghost(image: torch.Tensor, truth: Array) -> float:
    """Mean magnitude where only a ghost can be, over that of the object."""
    middle = slice(W // 4, 3 * W // 4)
    body = torch.from_numpy(np.abs(truth))[:, :, middle] > 0
    shown = image.abs()[:, :, middle]
    only_ghost = body.roll(H // 2, dims=1) & ~body
    return float(shown[only_ghost].mean() / shown[body].mean())


@pytest.mark.parametrize("ramps", [True, False])
@pytest.mark.parametrize(("late", "constant"), [(1.7, 0.5), (-1.1, -2.0)])
def test_the_ghost_of_a_delay_goes_below_the_noise(
    ramps: bool, late: float, constant: float
) -> None:
    scanner = Scanner(late=late, constant=constant, ramps=ramps, noise=0.02)
    truth = coil_images(1)
    navigators, readouts = scanner.shot(truth)
    before = scanner.scan(navigators, readouts)
    after = corrected(before)
    noise = 0.02 / np.abs(truth[truth != 0]).mean()
    flipped = [
        replace(
            r, data=r.data[:, ::-1].copy() if r.reverse else r.data, reverse=False, center=W // 2
        )
        for r in readouts
    ]
    assert ghost(image_of(flipped), truth) > 8 * noise
    assert ghost(image_of(list(after.readouts)), truth) < 1.1 * noise
    facts = after.facts["epi"]
    assert facts["phase_correction"] == ["entropy", "navigators"]
    assert facts["ramp_sampling"] is ramps
    assert facts["constant_rad"] == pytest.approx(constant, abs=0.02)
    if ramps:
        assert facts["delay_us"] == pytest.approx(late, abs=0.05)


def test_without_noise_the_image_is_that_of_the_object() -> None:
    scanner = Scanner(late=1.5, constant=0.8)
    truth = coil_images(1)
    after = corrected(scanner.scan(*scanner.shot(truth)))
    image = image_of(list(after.readouts))
    # half of the constant phase stays in the image, as nobody knows which direction is right
    expected = torch.from_numpy(truth) * np.exp(0.4j)
    middle = slice(W // 4, 3 * W // 4)
    difference = (image - expected)[:, :, middle].norm() / expected.norm()
    assert float(difference) < 2e-3


def test_what_comes_out_is_a_plain_cartesian_scan() -> None:
    scanner = Scanner(late=0.5, constant=0.1)
    after = corrected(scanner.scan(*scanner.shot(coil_images(0), repetition=3)))
    (encoding,) = after.encodings
    assert (encoding.trajectory, encoding.trapezoid) == ("cartesian", None)
    assert not after.navigators
    assert all(r.data.shape == (COILS, W) and r.center == W // 2 for r in after.readouts)
    assert all(r.data.dtype == np.complex64 and r.repetition == 3 for r in after.readouts)
    assert corrected(after) is after


@pytest.mark.parametrize("timed", [True, False])
def test_every_slice_and_repetition_is_corrected_by_its_own_navigators(timed: bool) -> None:
    navigators: list[Readout] = []
    readouts: list[Readout] = []
    truth = coil_images(1)
    scanner = Scanner(late=0.0, constant=0.0)
    for repetition in range(2):
        for place in range(2):
            scanner.late, scanner.constant = 0.6 * place, 0.7 * repetition - 0.3
            echoes, lines = scanner.shot(truth, slice=place, repetition=repetition)
            navigators, readouts = navigators + echoes, readouts + lines
    if not timed:
        navigators = [replace(r, time=0.0) for r in navigators]
        readouts = [replace(r, time=0.0) for r in readouts]
    after = corrected(scanner.scan(navigators, readouts))
    for repetition in range(2):
        for place in range(2):
            mine = [r for r in after.readouts if (r.repetition, r.slice) == (repetition, place)]
            assert ghost(image_of(mine), truth) < 5e-3


def test_a_reference_scan_is_corrected_by_the_navigators_before_it() -> None:
    scanner = Scanner(late=0.4, constant=0.9)
    truth = coil_images(1)
    of_reference, reference = scanner.shot(truth)
    scanner.constant = -0.7
    of_image, readouts = scanner.shot(truth)
    scan = replace(scanner.scan(of_reference + of_image, readouts), calibration=reference)
    after = corrected(scan)
    assert ghost(image_of(list(after.calibration)), truth) < 5e-3
    assert ghost(image_of(list(after.readouts)), truth) < 5e-3


def test_undersampled_trains_are_corrected_by_navigators_alone() -> None:
    scanner = Scanner(late=1.2, constant=0.8)
    lines = along_y(coil_images(1))
    navigators, _ = scanner.shot(coil_images(1))
    readouts = [scanner.echo(lines[y], y % 4 == 2, line=y) for y in range(0, H, 2)]
    after = corrected(scanner.scan(navigators, readouts))
    assert after.facts["epi"]["phase_correction"] == ["navigators"]
    scanner.late = scanner.constant = 0.0
    ideal = [scanner.echo(lines[y], False, line=y) for y in range(0, H, 2)]
    exact = corrected(scanner.scan([], ideal)).readouts
    expected = np.stack([r.data for r in exact]) * np.exp(0.4j)
    found = np.stack([r.data for r in after.readouts])
    assert np.linalg.norm(found - expected) < 5e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize("ramps", [True, False])
def test_without_navigators_the_image_tells_and_a_warning_says_so(ramps: bool) -> None:
    scanner = Scanner(late=1.0, constant=0.5, ramps=ramps)
    truth = coil_images(1)
    _, readouts = scanner.shot(truth)
    with pytest.warns(UserWarning, match="without navigator echoes"):
        after = corrected(scanner.scan([], readouts))
    assert ghost(image_of(list(after.readouts)), truth) < 0.01
    assert after.facts["epi"]["phase_correction"] == ["entropy"]


def test_navigators_of_one_direction_are_no_help() -> None:
    scanner = Scanner(late=1.0, constant=0.5)
    navigators, readouts = scanner.shot(coil_images(1))
    with pytest.warns(UserWarning, match="without navigator echoes"):
        corrected(scanner.scan(navigators[::2], readouts))


def test_echoes_that_all_run_backwards_are_only_flipped() -> None:
    scanner = Scanner(late=0.0, constant=0.0, ramps=False)
    truth = coil_images(1)
    lines = along_y(truth)
    readouts = [scanner.echo(lines[y], True, line=y) for y in range(H)]
    scan = scanner.scan([], readouts)
    scan = replace(scan, encodings=(replace(scan.encodings[0], trajectory="cartesian"),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        after = corrected(scan)
    image = image_of(list(after.readouts))
    assert np.allclose(image.abs().numpy(), np.abs(truth), atol=1e-5)


def test_scans_without_echo_trains_come_back_as_they_are() -> None:
    scanner = Scanner(late=0.0, constant=0.0, ramps=False)
    lines = along_y(coil_images(1))
    scan = scanner.scan([], [scanner.echo(lines[y], False, line=y) for y in range(H)])
    scan = replace(scan, encodings=(replace(scan.encodings[0], trajectory="cartesian"),))
    assert corrected(scan) is scan


def _with_nan(readouts: list[Readout]) -> list[Readout]:
    data = readouts[1].data.copy()
    data[0, 3] = np.nan
    return [readouts[0], replace(readouts[1], data=data), *readouts[2:]]


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        ({"navigators": _with_nan}, "navigator echo of slice 0 holds NaN"),
        ({"readouts": lambda r: [replace(x, data=np.tile(x.data, 2)) for x in r]}, "does not fit"),
    ],
)
def test_damaged_trains_are_refused_in_one_sentence(
    damage: Mapping[str, object], match: str
) -> None:
    scanner = Scanner(late=0.0, constant=0.0)
    scan = scanner.scan(*scanner.shot(coil_images(1)))
    changes = {name: change(list(getattr(scan, name))) for name, change in damage.items()}  # type: ignore[operator]
    with pytest.raises(InconsistentError, match=match) as caught:
        corrected(replace(scan, **changes))
    assert "\n" not in str(caught.value)
