"""How far to lean on total variation, given what held-out measurements say."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from medrecon.safety.comparison import Comparison

BIAS = 0.15
"""How far the estimate of the best share is off apart from its standard error (held-out views see
few directions, and noise hides fine detail): doubt is in favour of total variation."""
FULL = 0.85
"""A share from which on the sampler's image is taken as it is."""


@dataclass(frozen=True)
class Leaning:
    """A blend of total variation and the sampler.

    Parameters
    ----------
    share
        Of the sampler's image, 0 to 1.
    expected_db
        How much better than total variation the blend is expected to be.
    """

    share: float
    expected_db: float

    def __call__(self, tv: Tensor, sampled: Tensor) -> Tensor:
        """Blend. The data term is convex: a blend fits no worse than the worse of the two."""
        if self.share == 1.0:
            return sampled
        return tv + self.share * (sampled - tv)


def lean(comparison: Comparison) -> Leaning:
    """Choose the share with the least expected error, its uncertainty on the safe side.

    Where the sampler's image alone is nearly as good as any blend, it stays as it is.
    """
    share = comparison.weight - math.hypot(comparison.deviation, BIAS)
    share = 1.0 if share >= FULL else max(share, 0.0)
    return Leaning(share, comparison.gain_db(share))
