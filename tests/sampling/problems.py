"""A small problem and a Gaussian prior as the assembly of samplers sees them."""

from types import SimpleNamespace

import torch

from medrecon.data_term import DataTerm
from medrecon.priors.gaussian import Gaussian
from medrecon.protocol import Sampler
from medrecon.protocol.presets import filled
from medrecon.samplers import assemble
from tests.sampling.dense import random_problem


def posterior(A, y, weights, mean, covariance):
    """Mean (slices, y, x) and covariances (slices, n, n) of the exact posterior."""
    precision = torch.linalg.inv(covariance).to(A.matrix.dtype)
    means, covariances = [], []
    for k in range(A.slices):
        H = A.matrix.mH @ (weights[k][:, None] * A.matrix) + precision
        rhs = A.matrix.mH @ (weights[k] * y[k]) + precision @ mean[k].flatten()
        means.append(torch.linalg.solve(H, rhs).view(A.size))
        covariances.append(torch.linalg.inv(H))
    return torch.stack(means), torch.stack(covariances)


def repeated(slices, **kwargs):
    """One random slice problem, the same in every slice: slices are then independent samples."""
    A, y, weights = random_problem(slices=1, **kwargs)
    return (
        type(A)(A.matrix, slices, A.size),
        y.expand(slices, -1).clone(),
        weights.expand(slices, -1).clone(),
    )


def prior(denoiser, *, neighbours=False, largest=1000.0, **card):
    """A trained prior as far as the assembly looks at it."""
    return SimpleNamespace(
        denoiser=denoiser,
        card=SimpleNamespace(
            sigma_range=(0.004, largest),
            architecture=SimpleNamespace(neighbours=neighbours),
            **card,
        ),
    )


def white(A, mean, variance):
    """A white Gaussian prior."""
    dtype = A.matrix.dtype
    return Gaussian(torch.full(A.domain.shape, mean, dtype=dtype), torch.tensor(variance).double())


def problem(A, y, weights, spacing=2.5):
    """A problem as far as the assembly looks at it."""
    return SimpleNamespace(
        data=DataTerm(A, y, weights), grid=SimpleNamespace(spacing=(spacing, 1.0, 1.0))
    )


def settings(modality="CT", **given):
    """Settings of a sampler, presets filled for a modality."""
    start = {} if "preset" in given else {"start": "noise"}
    return Sampler.model_validate(filled({**start, **given}, modality))


def assembled(A, y, weights, denoiser, sampler, *, seed=0, start=None, spacing=2.5):
    """A sampler on a small problem; ``start`` stands in for every baseline."""
    images = dict.fromkeys(("tv", "fdk"), start)
    trained = denoiser if isinstance(denoiser, SimpleNamespace) else prior(denoiser)
    return assemble(trained, problem(A, y, weights, spacing), sampler, images, seed)


def result(*args, **kwargs):
    """The last estimate of a sampler."""
    return list(assembled(*args, **kwargs).steps())[-1].estimate
