"""Where a sampler begins."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from medrecon.sampling.loop import Draw


@dataclass(frozen=True, eq=False)
class NoisyStart:
    """A clean image with noise of the first level added to it.

    A classical reconstruction makes a warm start, zeros a start from noise alone. From a warm
    start at a level that drowns its artefacts, but not the anatomy, few steps are left to do.

    Parameters
    ----------
    image
        Clean start ``(z, y, x)`` in the prior's unit.

    References
    ----------
    Chung, Sim and Ye 2022, arXiv:2112.05146 (starting from a noised estimate).
    """

    image: Tensor

    def __call__(self, sigma: float, draw: Draw) -> Tensor:
        """See :class:`~medrecon.sampling.loop.Start`."""
        return self.image + sigma * draw()
