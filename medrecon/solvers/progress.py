"""What iterative reconstructions share: a report per iteration, constraints, relaxation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """Estimate of an iterative reconstruction after one iteration, and how much it still moves."""

    iteration: int
    value: Tensor
    residual: float


Constraint = Callable[[Tensor], Tensor]
"""Projection of an image onto the images that are allowed."""

Relaxation = float | Callable[[int], float]
"""Factor on every step, the same for all iterations or by the number of the iteration (from 1)."""


def unconstrained(x: Tensor) -> Tensor:
    """Allow every image."""
    return x


def nonnegative(x: Tensor) -> Tensor:
    """Allow attenuation of zero and more."""
    return x.clamp_min(0)


def relaxation_at(relaxation: Relaxation, iteration: int) -> float:
    """Look up the relaxation of an iteration."""
    return relaxation(iteration) if callable(relaxation) else relaxation


def relative_change(after: Tensor, before: Tensor) -> float:
    """``|after - before| / |after|``."""
    norm = torch.linalg.vector_norm
    tiny = torch.finfo(after.dtype).tiny
    return float(norm(after - before) / norm(after).clamp_min(tiny))
