"""What the data step is given of a noisy volume: its posterior mean, or a sample of less noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.priors.denoiser import Denoiser
from medrecon.sampling.loop import Draw, Memory, Point


@dataclass(frozen=True, eq=False)
class Tweedie:
    """The posterior mean of the clean volume: one call of the prior.

    References
    ----------
    Efron 2011, doi:10.1198/jasa.2011.tm11181 (Tweedie's formula).
    """

    prior: Denoiser

    def __call__(self, x: Tensor, sigma: float, target: float, draw: Draw) -> Tensor:
        """See :class:`~medrecon.sampling.loop.Denoise`."""
        return self.prior(x, sigma)


@dataclass(frozen=True, eq=False)
class PredictorCorrector:
    r"""A noisy volume taken to the next level by the reverse SDE and one Langevin step: two calls.

    .. math::

        x_1 &= x + (s^2 - s'^2) \nabla \log p_s(x) + \sqrt{s^2 - s'^2}\, z_1 \\
        x_2 &= x_1 + \epsilon \nabla \log p_{s'}(x_1) + \sqrt{2 \epsilon}\, z_2, \qquad
        \epsilon = 2 (r |z_2| / |\nabla \log p_{s'}(x_1)|)^2

    with the score ``(D - x) / s^2``. The last step goes to no noise and returns the posterior mean,
    one call. The data step then acts on the noisy volume, and nothing is noised again
    (:class:`Keep`).

    Parameters
    ----------
    prior
        The denoiser.
    signal_to_noise
        r, which sets the length of the Langevin step.

    References
    ----------
    Song et al. 2021, arXiv:2011.13456, algorithms 2 and 4; in tomography: Chung et al. 2023,
    arXiv:2211.10655 (DiffusionMBIR).
    """

    prior: Denoiser
    signal_to_noise: float = 0.16

    def __call__(self, x: Tensor, sigma: float, target: float, draw: Draw) -> Tensor:
        """See :class:`~medrecon.sampling.loop.Denoise`."""
        if target == 0:
            return self.prior(x, sigma)
        step = sigma**2 - target**2
        x = x + step * self._score(x, sigma) + math.sqrt(step) * draw()
        score, z = self._score(x, target), draw()
        ratio = float(torch.linalg.vector_norm(z) / torch.linalg.vector_norm(score))
        epsilon = 2 * (self.signal_to_noise * ratio) ** 2
        return x + epsilon * score + math.sqrt(2 * epsilon) * z

    def _score(self, x: Tensor, sigma: float) -> Tensor:
        return (self.prior(x, sigma) - x) / sigma**2


@dataclass(frozen=True)
class Keep:
    """No noising: what the data step made already is at the next level."""

    def __call__(
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        return at.estimate, memory
