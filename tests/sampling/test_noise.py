"""The sampler's noise: white within a slice, correlated between slices as said."""

import math

import torch

from medrecon.sampling.noise import SliceNoise


def _draw(length, shape=(6, 128, 128), spacing=2.5, seed=0, dtype=torch.float32):
    noise = SliceNoise(spacing=spacing, length=length)
    return noise(torch.zeros(shape, dtype=dtype), torch.Generator().manual_seed(seed))


def test_every_slice_has_unit_variance_whatever_the_correlation():
    for length in (0.0, 2.0, 50.0):
        assert torch.allclose(_draw(length).std((1, 2)), torch.ones(6), atol=0.03)


def test_neighbours_correlate_as_the_exponential_of_their_distance():
    n = _draw(5.0)
    for apart in (1, 2, 3):
        measured = float((n[:-apart] * n[apart:]).mean())
        assert abs(measured - math.exp(-apart * 2.5 / 5.0)) < 0.02


def test_independent_slices_are_the_special_case():
    n = _draw(0.0)
    assert abs(float((n[:-1] * n[1:]).mean())) < 0.01


def test_complex_noise_has_unit_variance_in_each_channel():
    n = _draw(3.0, dtype=torch.complex64)
    assert abs(float(n.real.std()) - 1) < 0.02
    assert abs(float(n.imag.std()) - 1) < 0.02


def test_the_same_seed_gives_the_same_bytes():
    assert torch.equal(_draw(5.0, seed=3), _draw(5.0, seed=3))
    assert not torch.equal(_draw(5.0, seed=3), _draw(5.0, seed=4))


def test_the_amount_scales_the_same_noise_down_to_none():
    full, half, none = (
        SliceNoise(spacing=1.0, length=3.0, amount=amount)(
            torch.zeros((3, 8, 8), dtype=torch.complex64), torch.Generator().manual_seed(1)
        )
        for amount in (1.0, 0.5, 0.0)
    )
    assert torch.allclose(half, 0.5 * full)
    assert not none.any()
    assert none.is_complex()
