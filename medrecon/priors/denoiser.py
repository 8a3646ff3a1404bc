"""What a prior is: the posterior mean of a clean image given a noisy one, and nothing else."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Denoiser(Protocol):
    r"""``D(x, sigma) = E[x0 | x0 + sigma n = x]`` with standard normal n.

    Everything a sampler needs follows from it: the noise is ``(x - D) / sigma`` and the score
    ``(D - x) / sigma^2`` (Tweedie; Robbins 1956, Efron 2011 doi:10.1198/jasa.2011.tm11181).
    Complex images carry unit noise in each of the two real channels.
    """

    def error_variance(self, sigma: float) -> float:
        """Mean squared error of the denoised image per real channel, in the prior's unit.

        The average posterior variance; samplers weigh the estimate against the data by it.
        """

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Denoise a volume ``(z, y, x)``, real or complex, in the prior's unit."""
