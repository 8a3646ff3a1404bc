"""Random choices one at a time, so that a generator moves on by just what was drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from medrecon.anatomy.fields import bumps


class Draw:
    """A generator with a few kinds of draws; :class:`~medrecon.anatomy.dice.Dice` for thousands.

    Parameters
    ----------
    generator
        Source of randomness, on the CPU.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

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
        return bumps(self.generator, (1, *shape), knots, 1.0)[0]
