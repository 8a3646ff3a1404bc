"""The Gaussian oracle against its own definition."""

import torch

from medrecon.priors.gaussian import Gaussian


def test_its_denoiser_is_the_conditional_mean():
    generator = torch.Generator().manual_seed(0)
    q = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=generator))[0]
    v = torch.linspace(0.1, 2, 6, dtype=torch.float64)
    mean = torch.randn(1, 2, 3, dtype=torch.float64, generator=generator)
    x = torch.randn(1, 2, 3, dtype=torch.float64, generator=generator)
    C = q @ torch.diag(v) @ q.T
    gain = C @ torch.linalg.inv(C + 0.7**2 * torch.eye(6))
    expected = mean.flatten() + gain @ (x - mean).flatten()
    assert torch.allclose(Gaussian(mean, v, q)(x, 0.7).flatten(), expected)


def test_its_error_variance_is_what_samples_show():
    generator = torch.Generator().manual_seed(1)
    truth = 0.8**0.5 * torch.randn(1, 300, 300, generator=generator)
    noisy = truth + 0.5 * torch.randn(1, 300, 300, generator=generator)
    prior = Gaussian(torch.zeros(()), torch.tensor(0.8))
    error = float((prior(noisy, 0.5) - truth).square().mean())
    assert abs(error / prior.error_variance(0.5) - 1) < 0.03
