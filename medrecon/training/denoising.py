"""How well a network denoises clean slices that it has not seen."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.anatomy.draw import Draw
from medrecon.anatomy.phase import detailed_phase, smooth_phase
from medrecon.priors.card import Level
from medrecon.priors.network import EDM, position_channels
from medrecon.training.randomness import Stream, draw_of
from medrecon.training.settings import Recipe
from medrecon.training.slices import Slices
from medrecon.training.sources import Anatomy
from medrecon.training.stack import Stack, channels

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Levels of the scores while a network trains."""
LEVELS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Levels of a card."""
_BATCH = 4
_RANGE = 2.0  # of the data, for PSNR


@dataclass(frozen=True)
class CleanSet:
    """Clean slices with their neighbours, always the same.

    Parameters
    ----------
    slices
        ``(batch, 3, channels, y, x)`` in the prior's unit.
    present
        Whether there are neighbours, bool ``(batch, 2)``.
    """

    slices: Tensor
    present: Tensor


def patients_set(images: Slices, count: int, recipe: Recipe, *, detailed: bool = False) -> CleanSet:
    """Take ``count`` slices, evenly from all; MR magnitudes get phases that are always the same."""
    count = min(count, len(images))
    chosen = [int((k + 0.5) * len(images) / count) for k in range(count)]
    draw = draw_of(recipe.seed, Stream.VALIDATION, int(detailed))
    stacks = [_with_phase(images.at(i), draw, detailed, recipe) for i in chosen]
    return _set(stacks)


def anatomy_set(anatomy: Anatomy, count: int) -> CleanSet:
    """Take the middle slices of bodies that training never draws."""
    stacks = []
    for number in range(count):
        body = anatomy.unseen(number)
        middle = len(body) // 2
        stacks.append(Stack(body[middle - 1 : middle + 2], torch.ones(2, dtype=torch.bool)))
    return _set(stacks)


def _with_phase(stack: Stack, draw: Draw, detailed: bool, recipe: Recipe) -> Stack:
    if recipe.modality == "CT" or stack.values.is_complex():
        return stack
    phase = (detailed_phase if detailed else smooth_phase)(draw, stack.values[1:2])
    return Stack(torch.polar(stack.values.abs(), phase.expand_as(stack.values)), stack.present)


def _set(stacks: Sequence[Stack]) -> CleanSet:
    return CleanSet(
        torch.stack([channels(stack.values) for stack in stacks]),
        torch.stack([stack.present for stack in stacks]),
    )


@torch.no_grad()
def errors(
    model: EDM, clean: CleanSet, sigmas: Sequence[float], *, neighbours: bool
) -> dict[float, float]:
    """Mean squared error per real channel of the denoised slices at every noise level.

    The noise is the same in every call. With ``neighbours`` they are in view where there are any.
    """
    position = position_channels(clean.slices.shape[-2], clean.slices.shape[-1])
    found = {}
    for sigma in sigmas:
        noise = torch.Generator().manual_seed(1)
        noisy = clean.slices + sigma * torch.randn(clean.slices.shape, generator=noise)
        total = 0.0
        for first in range(0, len(noisy), _BATCH):
            part = slice(first, first + _BATCH)
            error = _denoised(model, noisy[part], clean.present[part], sigma, position, neighbours)
            total += float((error - clean.slices[part, 1]).square().sum())
        found[sigma] = total / clean.slices[:, 1].numel()
    return found


def _denoised(
    model: EDM, noisy: Tensor, present: Tensor, sigma: float, position: Tensor, neighbours: bool
) -> Tensor:
    device = next(model.parameters()).device
    x = noisy[:, 1].contiguous().to(device)
    around = None
    if neighbours and model.network.neighbours:
        there = present[:, :, None, None, None]
        around = torch.where(there, noisy[:, [0, 2]], noisy[:, 1:2]).flatten(1, 2).to(device)
    level = torch.full((len(x),), sigma, device=device)
    where = position.to(device).expand(len(x), -1, -1, -1)
    result: Tensor = model(x, level, where, around)
    return result.float().cpu()


def psnr(error: float) -> float:
    """PSNR in dB for a data range of 2, two digits."""
    return round(10 * math.log10(_RANGE**2 / error), 2)


def table(model: EDM, clean: CleanSet, *, neighbours: bool) -> tuple[Level, ...]:
    """Rows of a card for one set of slices."""
    measured = errors(model, clean, LEVELS, neighbours=neighbours)
    return tuple(
        Level(sigma=sigma, psnr_db=psnr(error), mse=float(f"{error:.4e}"))
        for sigma, error in measured.items()
    )


@torch.no_grad()
def seconds_per_slice(model: EDM, size: int, *, repeats: int = 3) -> float:
    """Time of the network on one slice of ``size`` x ``size`` pixels: the fastest of a few."""
    parameter = next(model.parameters())
    x = torch.zeros(_BATCH, model.network.channels, size, size, device=parameter.device)
    position = position_channels(size, size).to(x).expand(_BATCH, -1, -1, -1)
    level = torch.ones(_BATCH, device=x.device)
    times = []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        float(model(x, level, position).sum())  # waits for a GPU
        times.append(time.perf_counter() - begin)
    return min(times[1:]) / _BATCH
