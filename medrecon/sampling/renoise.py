"""How an estimate is noised again: three laws from one noise level to the next.

Only fresh noise is unbiased: with a white Gaussian prior its samples average to the posterior mean.
DDIM's and DDS's laws reuse the noise that the network predicted, which belongs to its estimate
before the data step, so their average is drawn off (``tests/sampling/test_dds.py``).

All are written for ``x = x0 + sigma n`` (variance exploding).  A variance-preserving sampler is
the same thing in other variables: ``sigma^2 = (1 - abar) / abar``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Renoise(Protocol):
    """From the consistent estimate to the next noisy image."""

    def __call__(
        self, estimate: Tensor, predicted_noise: Tensor, fresh: Tensor, sigma: float, target: float
    ) -> Tensor:
        """``estimate`` plus noise of deviation ``target``; ``sigma`` is the level it came from."""


@dataclass(frozen=True)
class DDIM:
    r"""DDIM's law: part predicted, part fresh noise.

    .. math::

        c^2 = \eta^2 s'^2 (1 - s'^2 / s^2), \qquad
        x' = \hat x + \sqrt{s'^2 - c^2}\, \hat n + c\, z

    ``eta = 0`` is the probability-flow path, ``eta = 1`` the ancestral (DDPM) one.

    References
    ----------
    Song, Meng and Ermon 2021, arXiv:2010.02502, equations 12 and 16, in sigma.
    """

    eta: float

    def __call__(
        self, estimate: Tensor, predicted_noise: Tensor, fresh: Tensor, sigma: float, target: float
    ) -> Tensor:
        """See :class:`Renoise`."""
        c = self.eta * target * math.sqrt(max(0.0, 1 - (target / sigma) ** 2))
        return estimate + math.sqrt(target**2 - c**2) * predicted_noise + c * fresh


@dataclass(frozen=True)
class DDS:
    r"""The law of the released DDS code, where eta weighs the two noises at every step.

    .. math:: x' = \hat x + s' (\sqrt{1 - \eta^2}\, \hat n + \eta z)

    Much more stochastic than DDIM at the same eta: its 0.85 exceeds what DDIM's eta can reach at
    most steps.  Never compare the two numbers.

    References
    ----------
    Chung, Lee and Ye 2024, arXiv:2303.05754 (the paper states DDIM's law).
    """

    eta: float

    def __call__(
        self, estimate: Tensor, predicted_noise: Tensor, fresh: Tensor, sigma: float, target: float
    ) -> Tensor:
        """See :class:`Renoise`."""
        mixed = math.sqrt(1 - self.eta**2) * predicted_noise + self.eta * fresh
        return estimate + target * mixed


@dataclass(frozen=True)
class Fresh:
    """All noise is new: the estimate is noised as if it were a clean image."""

    def __call__(
        self, estimate: Tensor, predicted_noise: Tensor, fresh: Tensor, sigma: float, target: float
    ) -> Tensor:
        """See :class:`Renoise`."""
        return estimate + target * fresh
