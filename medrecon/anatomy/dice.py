"""Random numbers by the thousand, so that drawing one costs no call into torch."""

from __future__ import annotations

import torch

_STOCK = 2048


class Dice:
    """Uniform and normal numbers from a generator.

    Parameters
    ----------
    generator
        Source of randomness, on the CPU. Numbers are drawn in blocks, so it moves on by whole
        blocks.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self._uniform: list[float] = []
        self._normal: list[float] = []

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw evenly from [low, high)."""
        if not self._uniform:
            self._uniform = torch.rand(_STOCK, generator=self.generator).tolist()
        return low + (high - low) * self._uniform.pop()

    def normal(self, mean: float = 0.0, deviation: float = 1.0) -> float:
        """Draw from a normal law cut off at 2.5 standard deviations."""
        if not self._normal:
            self._normal = torch.randn(_STOCK, generator=self.generator).clamp(-2.5, 2.5).tolist()
        return mean + deviation * self._normal.pop()

    def chance(self, probability: float) -> bool:
        """Tell whether an event of this probability happens."""
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """Draw a whole number from [low, high], both ends included."""
        return low + int(self.uniform() * (high - low + 1))
