"""What training draws: a slice with the ones below and above it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stack:
    """Three clean slices in the prior's unit.

    Parameters
    ----------
    values
        Slice below, slice, slice above; ``(3, y, x)``, real or complex.
    present
        Whether there is a slice below and one above, bool ``(2,)``; the values of an absent one
        mean nothing.
    """

    values: Tensor
    present: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along y and x."""
        return self.values.shape[-2], self.values.shape[-1]


def alone(image: Tensor) -> Stack:
    """Stack of a slice ``(y, x)`` without neighbours."""
    return Stack(image.expand(3, *image.shape), torch.zeros(2, dtype=torch.bool))


def channels(values: Tensor) -> Tensor:
    """Real channels of slices: ``(..., y, x)`` to ``(..., 1 or 2, y, x)``."""
    if values.is_complex():
        return torch.view_as_real(values).movedim(-1, -3)
    return values.unsqueeze(-3)
