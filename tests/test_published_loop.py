"""The harness around the published DDS loop hands over the same network and the same physics."""

import math

import numpy as np
import pytest
import torch

from medrecon.data_term import DataTerm
from medrecon.errors import UnreadableError
from medrecon.priors.gaussian import Gaussian
from tests.benchmarks.published_loop import (
    CT_NORM,
    NoisePredictor,
    Scanner,
    _difference,
    _transposed,
    run_published,
)
from tests.sampling.dense import Dense

BETAS = torch.linspace(1e-4, 0.02, 1000)


def data_term(complex_images=False):
    generator = torch.Generator().manual_seed(0)
    kind = torch.complex64 if complex_images else torch.float32
    shape = (1 if complex_images else 2, 4, 4)
    matrix = torch.randn(11, 16, dtype=kind, generator=generator)
    truth = torch.randn(shape, dtype=kind, generator=generator)
    settings = {} if complex_images else {"scale": 0.3, "offset": 0.8}
    operator = Dense(matrix, shape[0], (4, 4))
    physical = settings.get("scale", 1.0) * truth + settings.get("offset", 0.0)
    precision = torch.rand(shape[0], 11, generator=generator) + 0.5
    return DataTerm(operator, operator(physical), precision, **settings), truth


class Card:
    sigma_range = (0.002, 40.0)
    modality = "CT"


class Prior:
    card = Card()

    def __init__(self, denoiser):
        self.denoiser = denoiser


@pytest.mark.parametrize("t", [0, 20, 500])
def test_the_noise_predicted_is_the_posterior_mean_of_the_noise(t):
    # u ~ N(0.2, 0.3) is v = (u + 1) / 2 ~ N(0.6, 0.3 / 4)
    mean, variance = 0.6, 0.3 / 4
    network = NoisePredictor(Prior(Gaussian(torch.tensor(0.2), torch.tensor(0.3))), BETAS)
    x = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    product = float((1 - BETAS).cumprod(0)[t])
    total = product * variance + 1 - product
    wanted = math.sqrt(1 - product) * (x - math.sqrt(product) * mean) / total
    found = network(x, torch.full((3,), t))
    assert found.shape == (3, 2, 5, 5)
    assert torch.allclose(found[:, :1], wanted, rtol=2e-3, atol=2e-3)
    assert float(found[:, 1:].abs().max()) == 0
    assert network.calls == 1


def test_the_first_measurement_is_the_scan_and_it_belongs_to_the_truth():
    data, truth = data_term()
    scanner = Scanner(data, 4, correct=False)
    v = ((truth + 1) / 2)[:, None]
    assert scanner.A(torch.full_like(v, 7.0)) is scanner.measured
    assert torch.allclose(scanner.A(v), scanner.measured, atol=1e-3)


@pytest.mark.parametrize("complex_images", [False, True])
def test_the_operator_has_its_adjoint_and_the_published_norm(complex_images):
    data, _ = data_term(complex_images)
    scanner = Scanner(data, 4, correct=False)
    scanner.started = True
    shape = (data.operator.domain.shape[0], 1, 4, 4)
    kind = torch.complex64 if complex_images else torch.float32
    generator = torch.Generator().manual_seed(2)
    v = torch.randn(shape, dtype=kind, generator=generator)
    y = torch.randn(shape[0], 11, dtype=kind, generator=generator)
    forward, back = scanner.A(v), scanner.AT(y)
    assert torch.allclose((forward.conj() * y).sum(), (v.conj() * back).sum(), rtol=1e-4)
    columns = [scanner.A(e.view(shape)) for e in torch.eye(math.prod(shape), dtype=kind)]
    norm = float(torch.linalg.matrix_norm(torch.stack([c.flatten() for c in columns], 1), 2)) ** 2
    # the power method comes from below and is near, not there
    assert 1 - 1e-4 <= norm / (1.0 if complex_images else CT_NORM * 4 / 256) < 1.1


def test_the_repair_hands_the_data_term_over_in_two_real_channels():
    data, _ = data_term(complex_images=True)
    released, repaired = (Scanner(data, 4, correct=correct) for correct in (False, True))
    wanted = released.AT(released.measured)[:, 0]
    # the loop adds this to (1, 2, y, x) and reads channel 0 + i channel 1
    both = torch.zeros(1, 2, 4, 4) + repaired.AT(repaired.measured)
    assert torch.allclose(torch.complex(both[:, 0], both[:, 1]), wanted, atol=1e-5)
    wrong = torch.zeros(1, 2, 4, 4) + released.AT(released.measured)
    assert torch.allclose(wrong[:, 0] + 1j * wrong[:, 1], (1 + 1j) * wanted, atol=1e-5)


def test_differences_do_not_tie_the_top_to_the_bottom():
    ramp = torch.arange(4.0).view(4, 1, 1, 1)
    assert _difference(ramp).flatten().tolist() == [1.0, 1.0, 1.0, 0.0]
    D = np.stack([_difference(e.view(4, 1)).numpy().ravel() for e in torch.eye(4)], 1)
    T = np.stack([_transposed(e.view(4, 1)).numpy().ravel() for e in torch.eye(4)], 1)
    assert np.array_equal(D.T, T)


def test_a_folder_of_something_else_is_refused(tmp_path):
    data, truth = data_term()
    with pytest.raises(UnreadableError, match=r"no solver_2d\.py"):
        run_published(
            tmp_path,
            Prior(Gaussian(torch.tensor(0.0), torch.tensor(1.0))),
            data,
            truth,
            correct=False,
            weighted=False,
            steps=2,
            seed=0,
        )
