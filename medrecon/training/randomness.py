"""Random choices of a run: every step has a seed of its own, so a restart cannot change it."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - what everybody calls it


class Stream(IntEnum):
    """What a seed is for; streams never share numbers."""

    WEIGHTS = 0
    BATCH = 1
    VALIDATION = 2
    BODY = 3


def seed_of(seed: int, stream: Stream, step: int = 0) -> int:
    """Return the 63-bit seed of a step, independent of those of all other steps and streams."""
    words = np.random.SeedSequence((seed, int(stream), step)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


class Draw:
    """A generator with the few kinds of draws that training needs.

    Parameters
    ----------
    generator
        Source of randomness, on the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    @classmethod
    def of(cls, seed: int, stream: Stream, step: int = 0) -> Draw:
        """Make the draws of one step."""
        return cls(torch.Generator().manual_seed(seed_of(seed, stream, step)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw a number between ``low`` and ``high``."""
        return low + (high - low) * float(torch.rand(1, generator=self.generator))

    def chance(self, share: float) -> bool:
        """Draw True in a ``share`` of all cases."""
        return self.uniform() < share

    def integer(self, count: int) -> int:
        """Draw one of 0 to ``count - 1``."""
        return int(torch.randint(0, count, (1,), generator=self.generator))

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers."""
        return torch.randn(shape, generator=self.generator)

    def uniforms(self, *shape: int) -> Tensor:
        """Draw numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator)

    def bumps(self, knots: int, shape: tuple[int, int]) -> Tensor:
        """Draw a smooth field ``(y, x)`` through ``knots`` x ``knots`` standard normal numbers."""
        coarse = self.normal(1, 1, knots, knots)
        smooth = F.interpolate(coarse, shape, mode="bicubic", align_corners=True)
        return smooth[0, 0]
