"""How often a prior was asked."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medrecon.priors.denoiser import Denoiser


@dataclass(eq=False)
class Counted:
    """A denoiser that counts its calls, each of a whole volume.

    It stands next to the network, inside of wrappers that may skip a call.
    """

    prior: Denoiser
    calls: int = 0

    def error_variance(self, sigma: float) -> float:
        """See :class:`~medrecon.priors.denoiser.Denoiser`."""
        return self.prior.error_variance(sigma)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """See :class:`~medrecon.priors.denoiser.Denoiser`."""
        self.calls += 1
        return self.prior(x, sigma)
