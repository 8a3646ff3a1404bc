"""Batches of noisy patches: a function of the seed and the step, and of nothing else."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - what everybody calls it
from torch.utils.data import Dataset

from medrecon.anatomy.draw import Draw
from medrecon.priors.network import position_channels
from medrecon.training.augment import changes
from medrecon.training.randomness import Stream, draw_of
from medrecon.training.settings import NoiseLaw, Recipe
from medrecon.training.sources import Source
from medrecon.training.stack import Stack, channels

_TRIES = 8  # for a patch that is not mostly air, which teaches nothing
_CONTENT = 0.02  # deviation within a patch that is not


class Batch(NamedTuple):
    """What one step sees, all float32.

    Parameters
    ----------
    clean
        ``(batch, channels, y, x)``.
    noisy
        The same with noise of deviation ``sigma``.
    neighbours
        Noisy slices below and above, ``(batch, 2 channels, y, x)``; ``noisy`` where absent.
    position
        ``(batch, 2, y, x)``.
    sigma
        ``(batch,)``.
    """

    clean: Tensor
    noisy: Tensor
    neighbours: Tensor
    position: Tensor
    sigma: Tensor


class Batches(Dataset[Batch]):
    """The batch of every step, drawn on demand: ``batches[step]``.

    Parameters
    ----------
    source
        Where slices come from.
    recipe
        The run.
    steps
        Of the whole run, of which stages of patches are shares; ``None``: not known yet, the first
        stage.
    """

    def __init__(self, source: Source, recipe: Recipe, steps: int | None) -> None:
        self.source = source
        self.recipe = recipe
        self.steps = steps
        self._changes = changes(recipe.augment, recipe.modality)

    def __getitem__(self, step: int) -> Batch:
        """Draw the batch of a step."""
        draw = draw_of(self.recipe.seed, Stream.BATCH, step)
        size = patch_size(self.recipe, step, self.steps)
        count = max(1, self.recipe.patches.pixels // size**2)
        patches, positions, present = zip(
            *(self._patch(draw, step, size) for _ in range(count)), strict=True
        )
        sigma = noise_levels(self.recipe.noise, count, draw)
        clean = torch.stack(patches)
        noisy, neighbours = add_noise(clean, torch.stack(present), sigma, draw)
        return Batch(clean[:, 1], noisy, neighbours, torch.stack(positions), sigma)

    def _patch(self, draw: Draw, step: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        stack = self.source(draw, step)
        present = stack.present.clone()
        if bool(present.all()) and draw.chance(self.recipe.patches.one_neighbour):
            present[draw.integer(2)] = False
        stack = Stack(stack.values, present)
        for change in self._changes:
            stack = change(stack, draw)
        patch, position = cut(stack, size, draw)
        return patch, position, stack.present


def cut(stack: Stack, size: int, draw: Draw) -> tuple[Tensor, Tensor]:
    """Cut a square patch at random, ``(3, channels, y, x)``, with its position ``(2, y, x)``.

    Slices smaller than the patch are continued by their edge.
    """
    height, width = stack.shape
    tall, wide = min(size, height), min(size, width)
    for _ in range(_TRIES):
        i, j = draw.integer(height - tall + 1), draw.integer(width - wide + 1)
        part = stack.values[:, i : i + tall, j : j + wide]
        if float(part[1].abs().std()) > _CONTENT:
            break
    where = position_channels(height, width)[:, i : i + tall, j : j + wide]
    pad = (0, size - wide, 0, size - tall)
    patch = channels(part)
    if any(pad):
        patch = F.pad(patch, pad, mode="replicate")
        where = F.pad(where[None], pad, mode="replicate")[0]
    return patch, where


def noise_levels(law: NoiseLaw, count: int, draw: Draw) -> Tensor:
    """Draw ``count`` noise levels: log-normal, and some log-uniform so that the ends are seen."""
    normal = (law.log_mean + law.log_std * draw.normal(count)).exp()
    uniform = law.lowest * (law.highest / law.lowest) ** draw.uniforms(count)
    chosen = draw.uniforms(count) < law.uniform
    return torch.where(chosen, uniform, normal.clamp(law.lowest, law.highest))


def add_noise(clean: Tensor, present: Tensor, sigma: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Make stacks noisy, every slice with noise of its own.

    Parameters
    ----------
    clean
        ``(batch, 3, channels, y, x)``.
    present
        Whether there are neighbours, bool ``(batch, 2)``.
    sigma
        Deviation of the noise, ``(batch,)``.
    draw
        Source of randomness.

    Returns
    -------
    noisy : Tensor
        Middle slices, ``(batch, channels, y, x)``.
    neighbours : Tensor
        ``(batch, 2 channels, y, x)``; the middle slice itself where there is none.
    """
    noisy = clean + sigma.view(-1, 1, 1, 1, 1) * draw.normal(*clean.shape)
    middle = noisy[:, 1:2]
    around = torch.where(present[:, :, None, None, None], noisy[:, [0, 2]], middle)
    return middle[:, 0].contiguous(), around.flatten(1, 2).contiguous()


def patch_size(recipe: Recipe, step: int, steps: int | None) -> int:
    """Side of the patches of a step, pixels; the sizes of a stage take turns."""
    done = share_done(step, steps)
    stages = recipe.patches.stages
    stage = next((s for s in stages if done < s.until), stages[-1])
    return stage.sizes[step % len(stage.sizes)]


def share_done(step: int, steps: int | None) -> float:
    """Share of the run before a step; 0 while its length is not known."""
    return 0.0 if steps is None else min(1.0, step / max(1, steps))
