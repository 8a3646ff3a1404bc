"""The network's shapes and limits, and its lift to volumes."""

import math

import pytest
import torch

from medrecon.priors.network import EDM, UNet, position_channels
from medrecon.priors.slicewise import Slicewise, interpolate_error


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    network = UNet(1, (16, 24), 1, 32)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return EDM(network.eval().requires_grad_(False), 0.45)


def test_an_untrained_network_is_the_best_linear_denoiser():
    model = EDM(UNet(1, (16, 24), 1), 0.5)
    x = torch.randn(2, 1, 16, 16)
    out = model(x, torch.tensor([0.5, 0.5]), position_channels(16, 16).expand(2, -1, -1, -1))
    assert torch.allclose(out, 0.5 * x)


def test_little_noise_is_left_alone(small):
    prior = Slicewise(small, ((1.0, 0.1),))
    x = torch.randn(2, 16, 16)
    assert torch.allclose(prior(x, 1e-5), x, atol=1e-3)


def test_batches_do_not_change_the_result(small):
    x = torch.randn(5, 16, 20)
    one = Slicewise(small, ((1.0, 0.1),), batch=1)(x, 0.5)
    all_ = Slicewise(small, ((1.0, 0.1),), batch=5)(x, 0.5)
    assert torch.allclose(one, all_, atol=1e-5)


def test_slices_do_not_see_each_other(small):
    x = torch.randn(3, 16, 16)
    prior = Slicewise(small, ((1.0, 0.1),))
    changed = x.clone()
    changed[1] += 1
    before, after = prior(x, 0.5), prior(changed, 0.5)
    assert torch.allclose(before[[0, 2]], after[[0, 2]], atol=1e-5)
    assert not torch.allclose(before[1], after[1], atol=1e-2)


@pytest.mark.parametrize("shape", [(1, 17, 23), (2, 5, 9), (1, 16, 16)])
def test_any_size_is_denoised(small, shape):
    out = Slicewise(small, ((1.0, 0.1),))(torch.randn(shape), 0.3)
    assert out.shape == shape
    assert torch.isfinite(out).all()


def test_complex_volumes_go_in_and_out_as_two_channels():
    torch.manual_seed(0)
    network = UNet(2, (16, 24), 1)
    prior = Slicewise(EDM(network.eval().requires_grad_(False), 0.5), ((1.0, 0.1),))
    x = torch.randn(2, 16, 18, dtype=torch.complex64)
    out = prior(x, 0.5)
    assert out.dtype == torch.complex64
    assert torch.allclose(out, 0.5 * x, atol=1e-6)  # untrained: the linear denoiser


def test_the_error_table_is_hit_interpolated_and_bounded():
    table = ((0.1, 0.001), (1.0, 0.01))
    assert interpolate_error(table, 0.1) == pytest.approx(0.001)
    assert interpolate_error(table, 1.0) == pytest.approx(0.01)
    assert interpolate_error(table, 10.0) == pytest.approx(0.01)
    assert interpolate_error(table, math.sqrt(0.1)) == pytest.approx(math.sqrt(1e-5))
    tiny = interpolate_error(table, 1e-4)
    assert 0.99 * 1e-8 < tiny <= 1e-8  # nothing can be removed from almost nothing
