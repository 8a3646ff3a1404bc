"""How an estimate is noised again: memoryless laws from one noise level to the next.

Only fresh noise is unbiased: with a white Gaussian prior its samples average to the posterior mean.
DDIM's and DDS's laws reuse the noise that the network predicted, which belongs to its estimate
before the data step, so their average is drawn off (``tests/sampling/test_oracle.py``).  DiffPIR's
law takes the noise that the consistent estimate implies instead.

All are written for ``x = x0 + sigma n`` (variance exploding).  A variance-preserving sampler is
the same thing in other variables: ``sigma^2 = (1 - abar) / abar``.  Laws that remember earlier
levels are in :mod:`medrecon.sampling.multistep`; :class:`Extrapolated` carries a memoryless one on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from medrecon.sampling.loop import Draw, Memory, Point, Renoise


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
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        c = self.eta * target * math.sqrt(max(0.0, 1 - (target / at.sigma) ** 2))
        return at.estimate + math.sqrt(target**2 - c**2) * at.predicted + c * draw(), memory


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
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        mixed = math.sqrt(1 - self.eta**2) * at.predicted + self.eta * draw()
        return at.estimate + target * mixed, memory


@dataclass(frozen=True)
class DiffPIR:
    r"""DiffPIR's law: as DDS's, with the noise that the consistent estimate implies.

    .. math:: x' = \hat x + s' (\sqrt{1 - \zeta}\, (x - \hat x) / s + \sqrt{\zeta} z)

    ``zeta = 0`` is one Euler step of the probability flow of the posterior.

    References
    ----------
    Zhu et al. 2023, arXiv:2305.08995, algorithm 1.
    """

    zeta: float

    def __call__(
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        mixed = math.sqrt(1 - self.zeta) * at.implied + math.sqrt(self.zeta) * draw()
        return at.estimate + target * mixed, memory


@dataclass(frozen=True)
class Fresh:
    """All noise is new: the estimate is noised as if it were a clean image."""

    def __call__(
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        return at.estimate + target * draw(), memory


@dataclass(frozen=True)
class Extrapolated:
    r"""A memoryless law around an estimate that is carried on along its last change.

    .. math:: x_{k+1} = \mathrm{law}(\hat x_k) + \beta (\hat x_k - \hat x_{k-1})

    Where the data say little, as between the few views of a sparse scan, an estimate moves by small
    steps that all go the same way; this is the heavy ball on that path.

    Parameters
    ----------
    law
        Noises the estimate; may not have a memory of its own.
    share
        Beta, of the last change; 0 is the law alone, 1 and above runs away.

    References
    ----------
    Polyak 1964, doi:10.1016/0041-5553(64)90137-5.
    """

    law: Renoise
    share: float

    def __call__(
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        x, _ = self.law(at, target, draw, ())
        for _, before in memory:
            x = x + self.share * (at.estimate - before)
        return x, ((at.sigma, at.estimate),)
