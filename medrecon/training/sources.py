"""Where slices come from: patients, procedural anatomy, or a mixture of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from medrecon.anatomy.ct import ct_stack
from medrecon.anatomy.draw import Draw
from medrecon.anatomy.mr import mr_stack
from medrecon.training.randomness import Stream, draw_of
from medrecon.training.settings import WINDOW_HU, Modality, Recipe
from medrecon.training.slices import Slices
from medrecon.training.stack import Stack, alone

_SLICES = 6
_FIELD_MM = (320.0, 400.0)  # of a CT slice, where the pixel is free
_SLICE_MM = (1.0, 5.0)
_NEVER_DRAWN = 2**40  # no run has so many steps


class Source(Protocol):
    """Draws stacks; the same step and draws give the same stack."""

    def __call__(self, draw: Draw, step: int) -> Stack:
        """Draw a stack of slices for a step."""


@dataclass(frozen=True)
class Patients:
    """Slices of patients; ``neighbours`` is the share that shows its neighbours."""

    slices: Slices
    neighbours: float

    def __call__(self, draw: Draw, step: int) -> Stack:
        """Draw a slice of a patient."""
        return self.slices.draw(draw, self.neighbours)


@dataclass(frozen=True)
class Anatomy:
    """Procedural bodies, a few at a time.

    A body costs as much as a step of training, so a window of bodies moves on by one every few
    steps: nothing is seen for long, and what a step sees depends on the step only.

    Parameters
    ----------
    modality
        What to show.
    size
        Pixels a side.
    pixel_mm
        Pixel; ``None``: any that shows the body.
    neighbours
        Share that shows its neighbours.
    seed
        Seed of all bodies.
    window
        Bodies that can be drawn in a step.
    refresh
        Steps after which the oldest body is replaced.
    """

    modality: Modality
    size: int
    pixel_mm: float | None
    neighbours: float
    seed: int
    window: int = 24
    refresh: int = 8
    _bodies: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, draw: Draw, step: int) -> Stack:
        """Draw a slice of a body."""
        oldest = step // self.refresh
        for gone in [number for number in self._bodies if number < oldest]:
            del self._bodies[gone]
        number = oldest + draw.integer(self.window)
        if number not in self._bodies:
            self._bodies[number] = self.body(number)
        body = self._bodies[number]
        z = 1 + draw.integer(len(body) - 2)
        if not draw.chance(self.neighbours):
            return alone(body[z])
        return Stack(body[z - 1 : z + 2], torch.ones(2, dtype=torch.bool))

    def unseen(self, number: int) -> Tensor:
        """Body that no step of training draws; see :meth:`body`."""
        return self.body(_NEVER_DRAWN + number)

    def body(self, number: int) -> Tensor:
        """Slices ``(z, y, x)`` of a body in the prior's unit: CT real, MR complex."""
        draw = draw_of(self.seed, Stream.BODY, number)
        slice_mm = draw.uniform(*_SLICE_MM)
        if self.modality == "MR":
            return mr_stack(draw.generator, _SLICES, self.size, self.pixel_mm, slice_mm)
        pixel = self.pixel_mm or draw.uniform(*_FIELD_MM) / self.size
        values = ct_stack(draw.generator, _SLICES, self.size, pixel, slice_mm)
        low, high = WINDOW_HU
        return (values.clamp(low, high) - low) / ((high - low) / 2) - 1


@dataclass(frozen=True)
class Mixture:
    """Procedural anatomy in a ``share`` of the draws, patients in the others."""

    patients: Source
    anatomy: Source
    share: float

    def __call__(self, draw: Draw, step: int) -> Stack:
        """Draw from one of both."""
        chosen = self.anatomy if draw.chance(self.share) else self.patients
        return chosen(draw, step)


def source_of(recipe: Recipe, patients: Slices | None) -> Source:
    """Return the source of a recipe: what of it there is."""
    shown = recipe.patches.neighbours if recipe.network.neighbours else 0.0
    anatomy = anatomy_of(recipe, shown)
    if patients is None:
        return anatomy
    real = Patients(patients, shown)
    share = recipe.data.synthetic
    return Mixture(real, anatomy, share) if share else real


def anatomy_of(recipe: Recipe, neighbours: float) -> Anatomy:
    """Return the procedural anatomy of a recipe."""
    data = recipe.data
    return Anatomy(recipe.modality, data.size, data.pixel_mm, neighbours, recipe.seed)
