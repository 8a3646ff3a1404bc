"""Counts: line integrals with the right variance, and a stated fate for samples without signal."""

import math

import numpy as np
import pytest
import torch

from medrecon.errors import InconsistentError
from medrecon.physics.counts import air_scale, detect, field_per_view, line_integrals


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("electronic", [0.0, 8.0])
@pytest.mark.parametrize("truth", [0.0, 2.0, 5.0])
def test_weights_are_the_inverse_variance_of_the_line_integrals(truth: float, electronic: float):
    p = torch.full((200, 20, 50), truth)
    counts = detect(p, 2e4, electronic_noise=electronic, generator=generator())
    scan = line_integrals(counts, 2e4, electronic_noise=electronic)
    squares = (scan.values - p).square() * scan.weights
    # 2e5 samples: the mean of chi^2 is known to sqrt(2/2e5) = 0.3 %, and the delta method errs by
    # about 3 (y + sigma^2) / y^2 more
    assert float(squares.mean()) == pytest.approx(1, abs=0.015 + 6 / float(scan.weights.mean()))


def test_gain_turns_detector_units_into_quanta():
    p = torch.linspace(0, 4, 50)[None, None]
    quanta = detect(p, 1e4, electronic_noise=5.0, generator=generator())
    units = (7.0 * quanta + 100).to(torch.int32)
    raw = line_integrals(units, 7e4 + 100, 100.0, gain=7.0, electronic_noise=35.0)
    pure = line_integrals(quanta, 1e4, electronic_noise=5.0)
    torch.testing.assert_close(raw.values, pure.values, atol=2e-3, rtol=0)
    torch.testing.assert_close(raw.weights, pure.weights, rtol=5e-3, atol=0)


@pytest.mark.parametrize(
    ("policy", "values", "weights"),
    [
        ("exclude", [100.0, 100.0, 200.0, 2.0], [0.0, 0.0, 0.5, 50.0]),
        ("clamp", [100.0, 100.0, 100.0, 2.0], [1.0, 1.0, 1.0, 50.0]),
        ("debias", [200.0, 200.0, 100.0, 100 / 50.5], [0.5, 0.5, 1.0, 50.5]),
    ],
)
def test_every_policy_for_low_counts_does_what_it_says(
    policy: str, values: list[float], weights: list[float]
):
    counts = torch.tensor([[[0.0, -3.0, 0.5, 50.0]]])
    scan = line_integrals(counts, 100.0, policy=policy, tolerated=0.5)  # type: ignore[arg-type]
    torch.testing.assert_close(scan.values, torch.tensor([[values]]).log())
    torch.testing.assert_close(scan.weights, torch.tensor([[weights]]))
    assert scan.repaired == 2
    assert "2 samples (50 %)" in scan.remark


def test_half_a_quantum_removes_the_bias_of_the_logarithm():
    p = torch.full((400, 1000), 3.0)
    counts = detect(p, 20 * math.exp(3), generator=generator())  # 20 quanta arrive
    bias = {
        policy: float((line_integrals(counts, 20 * math.exp(3), policy=policy).values - p).mean())
        for policy in ("clamp", "debias")
    }
    assert bias["clamp"] == pytest.approx(1 / 40, rel=0.1)
    assert abs(bias["debias"]) < 1e-3


def test_too_many_samples_without_signal_are_an_error_with_their_number():
    counts = torch.ones(4, 5, 10)
    counts[0, 0, :9] = 0
    assert line_integrals(counts, 10.0).repaired == 9
    counts[1, 0, :2] = 0
    with pytest.raises(InconsistentError, match="11 of 200 samples are not above the dark"):
        line_integrals(counts, 10.0)
    assert line_integrals(counts, 10.0, tolerated=1.0).repaired == 11


def test_dead_cells_are_interpolated_and_weigh_nothing():
    p = torch.linspace(0, 2, 200).expand(3, 2, 200)
    flat = torch.full((2, 200), 1000.0)
    flat[0, 77] = flat[0, 78] = flat[1, 0] = 0
    scan = line_integrals(flat * torch.exp(-p), flat)
    assert scan.dead == 3
    assert scan.repaired == 0
    assert "3 dead" in scan.remark
    torch.testing.assert_close(scan.values[:, 0], p[:, 0], atol=1e-5, rtol=0)
    assert float(scan.values[0, 1, 0]) == pytest.approx(float(p[0, 1, 1]), abs=1e-6)
    assert bool((scan.weights[:, 0, 77:79] == 0).all())
    assert int((scan.weights == 0).sum()) == 9


def test_a_row_without_a_living_cell_is_zero():
    flat = torch.full((101, 4), 10.0)
    flat[3] = 0
    scan = line_integrals(torch.full((2, 101, 4), 5.0), flat)
    assert bool((scan.values[:, 3] == 0).all())


@pytest.mark.parametrize(
    ("flat", "dark", "words"),
    [
        (torch.zeros(3, 4), 0.0, "Flats are not above darks in 12 of 12 cells"),
        (torch.full((3, 4), 100.0), torch.full((3, 4), 200.0), "swapped or left out"),
        (torch.ones(3, 7), 0.0, r"flats of shape \(3, 7\) do not fit"),
        (torch.full((3, 4), math.nan), 0.0, r"12 flats are NaN or infinite.*\(0, 0\)"),
        (100.0, torch.full((3, 4), math.inf), "12 darks are NaN"),
    ],
)
def test_60_flats_and_darks_that_cannot_be_are_named(flat, dark, words: str):
    with pytest.raises(InconsistentError, match=words):
        line_integrals(torch.full((5, 3, 4), 50, dtype=torch.uint8), flat, dark)


def test_normalised_intensities_are_not_counted_as_quanta():
    counts = torch.rand(5, 3, 4, generator=generator()) + 0.1
    assert bool(torch.isfinite(line_integrals(counts, 1.0).values).all())
    with pytest.raises(InconsistentError, match="give the gain"):
        line_integrals(counts, 1.0, policy="clamp")


def test_flats_before_and_after_the_scan_are_interpolated_over_it():
    frames = torch.stack([torch.full((2, 3), v) for v in (90.0, 110.0, 180.0, 220.0)])
    field = field_per_view(frames, [0, 0, 10, 10], 10)
    expected = 100 + 100 * (torch.arange(10) + 0.5) / 10
    torch.testing.assert_close(field, expected.view(-1, 1, 1).expand(10, 2, 3))
    assert field_per_view(frames, [0, 0, 0, 0], 10).shape == (1, 2, 3)
    in_between = field_per_view(frames[1:], [2, 4, 4], 6)[:, 0, 0]
    np.testing.assert_allclose(in_between, [110, 110, 132.5, 177.5, 200, 200])
    with pytest.raises(InconsistentError, match="one position per frame"):
        field_per_view(frames, [0, 1], 10)


def test_drift_of_the_source_is_read_in_air():
    p = torch.zeros(6, 2, 40)
    p[..., 8:] = 1.5
    drift = torch.linspace(1, 0.8, 6).view(-1, 1, 1)
    flat = torch.linspace(900, 1100, 40)
    counts = 50 + drift * flat * torch.exp(-p)
    scale = air_scale(counts, flat + 50, 50.0, slice(0, 8))
    torch.testing.assert_close(scale, drift)
    scan = line_integrals(counts, scale * flat + 50, 50.0)
    torch.testing.assert_close(scan.values, p, atol=1e-5, rtol=0)
    with pytest.raises(InconsistentError, match="dark in some view"):
        air_scale(counts * 0, flat, 0.0, slice(0, 8))


def test_a_detector_counts_poisson_and_gaussian_noise():
    p = torch.full((1000, 100), 1.0)
    counts = detect(p, 1000.0, electronic_noise=30.0, generator=generator())
    expected = 1000 / math.e
    assert float(counts.mean()) == pytest.approx(expected, rel=1e-3)
    assert float(counts.var()) == pytest.approx(expected + 900, rel=0.02)
    assert torch.equal(counts, detect(p, 1000.0, electronic_noise=30.0, generator=generator()))
    with pytest.raises(InconsistentError, match="positive"):
        detect(p, 0.0)
