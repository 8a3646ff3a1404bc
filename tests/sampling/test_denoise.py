"""What the data step is given: the posterior mean, or a sample of less noise."""

from functools import partial

import pytest
import torch

from medrecon.errors import InconsistentError
from medrecon.priors.gaussian import Gaussian
from medrecon.sampling.counting import Counted
from medrecon.sampling.denoise import Keep, PredictorCorrector, Tweedie
from medrecon.sampling.loop import Method, sample
from medrecon.sampling.noise import SliceNoise
from medrecon.sampling.renoise import Fresh
from medrecon.sampling.schedule import geometric_sigmas
from medrecon.sampling.start import NoisyStart
from medrecon.solvers.cg import Outcome, Solution


def no_data(estimate, sigma, carried):
    """A data step without data."""
    return Solution(estimate, 0, 0.0, Outcome.CONVERGED), None


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_predictor_and_corrector_sample_the_prior(kind):
    prior = Counted(Gaussian(torch.tensor(0.3, dtype=kind), torch.tensor(0.5).double()))
    start = torch.zeros((4, 64, 64), dtype=kind)
    draw = partial(SliceNoise(spacing=1.0), start, torch.Generator().manual_seed(0))
    method = Method(NoisyStart(start), PredictorCorrector(prior), no_data, Keep())
    steps = list(sample(method, geometric_sigmas(150, 20.0, 0.01), draw))
    found = steps[-1].estimate
    found = torch.view_as_real(found - 0.3) if found.is_complex() else found - 0.3
    assert abs(float(found.mean())) < 0.02
    assert float(found.var()) == pytest.approx(0.5, rel=0.05)  # Euler's steps are first order
    assert prior.calls == 2 * 150 - 1


def test_every_step_reports_what_the_prior_said():
    prior = Gaussian(torch.zeros(1).double(), torch.tensor(0.5).double())
    start = torch.ones((2, 3, 3)).double()
    draw = partial(SliceNoise(spacing=1.0), start, torch.Generator().manual_seed(0))
    method = Method(NoisyStart(start), Tweedie(prior), no_data, Fresh())
    steps = list(sample(method, (1.0, 0.5), draw))
    assert [s.sigma for s in steps] == [1.0, 0.5]
    assert all(torch.equal(s.denoised, s.estimate) for s in steps)


@pytest.mark.parametrize("levels", [(), (1.0, 1.0), (0.1, 1.0), (1.0, 0.0)])
def test_levels_that_do_not_fall_are_refused(levels):
    start = torch.zeros((1, 2, 2))
    method = Method(NoisyStart(start), Tweedie(Gaussian(start, start)), no_data, Fresh())
    with pytest.raises(InconsistentError, match="must fall"):
        next(sample(method, levels, lambda: start))
