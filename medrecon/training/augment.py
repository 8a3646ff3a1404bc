"""Changes of a drawn stack that leave it a plausible patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.anatomy.draw import Draw
from medrecon.anatomy.phase import detailed_phase, smooth_phase
from medrecon.priors.network import position_channels
from medrecon.training.settings import Augmentation, Modality
from medrecon.training.stack import Stack


class Change(Protocol):
    """One way to change a stack; draws whether and how."""

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return the stack, changed or not."""


def changes(settings: Augmentation, modality: Modality) -> Sequence[Change]:
    """Return the changes of a recipe in the order in which they are made."""
    geometry: list[Change] = [
        Reverse(0.5),
        Mirror(settings.mirror, -1),
        Mirror(settings.flip, -2),
        Coarser(settings.coarser),
        Turn(settings.turn),
    ]
    if modality == "CT":
        return geometry
    return [
        *geometry,
        Contrast(settings.contrast),
        Brightness(settings.brightness),
        Bias(settings.bias),
        Phase(settings.detailed_phase),
    ]


@dataclass(frozen=True)
class Reverse:
    """The slice below becomes the one above."""

    share: float

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return the stack, reversed or not."""
        if not draw.chance(self.share):
            return stack
        return Stack(stack.values.flip(0), stack.present.flip(0))


@dataclass(frozen=True)
class Mirror:
    """The axis ``axis`` runs backwards."""

    share: float
    axis: int

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return the stack, mirrored or not."""
        if not draw.chance(self.share):
            return stack
        return replace(stack, values=stack.values.flip(self.axis))


@dataclass(frozen=True)
class Coarser:
    """The same anatomy on half to all of the pixels, as coarser scans show it."""

    share: float

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return the stack, on as many pixels as before or fewer."""
        if stack.values.is_complex() or not draw.chance(self.share):
            return stack
        kept = (16 + draw.integer(16)) / 32
        height, width = (max(16, 8 * round(n * kept / 8)) for n in stack.shape)
        values = F.interpolate(stack.values[None], (height, width), mode="bilinear", antialias=True)
        return replace(stack, values=values[0])


@dataclass(frozen=True)
class Turn:
    """Rotated about the middle by up to 10 degrees, and 15 % smaller to larger."""

    share: float
    angle: float = math.radians(10)
    zoom: float = 0.15

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return the stack, turned or not; what comes in from outside continues the edge."""
        if stack.values.is_complex() or not draw.chance(self.share):
            return stack
        angle = draw.uniform(-self.angle, self.angle)
        zoom = 1 + draw.uniform(-self.zoom, self.zoom)
        x, y = position_channels(*stack.shape)
        height, width = stack.shape
        aspect = (height - 1) / (width - 1)
        across = zoom * (x * math.cos(angle) - y * aspect * math.sin(angle))
        along = zoom * (x / aspect * math.sin(angle) + y * math.cos(angle))
        values = stack.values
        turned = F.grid_sample(
            values[None],
            torch.stack([across, along], -1)[None],
            mode="bicubic",
            padding_mode="border",
            align_corners=True,
        )[0]
        low, high = float(values.min()), float(values.max())
        return replace(stack, values=turned.clamp(low, high))  # bicubic rings beyond the range


@dataclass(frozen=True)
class Contrast:
    """A random curve of intensities: mostly rising, one in four with any order of tissues."""

    share: float

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return the stack in this or another contrast."""
        if stack.values.is_complex() or not draw.chance(self.share):
            return stack
        return replace(stack, values=_toned(stack.values, _curve(draw)))


def _curve(draw: Draw, knots: int = 6) -> Tensor:
    """Draw values of the curve at ``knots`` intensities from 0 to 1.6."""
    if draw.chance(0.25):
        values = 1.1 * draw.uniforms(knots)
        values[0] = 0  # air stays black
        return values
    rising = (draw.uniforms(knots) ** 2 + 0.05).cumsum(0)
    rising = rising - rising[0]
    return rising / rising[-1] * draw.uniform(1.2, 1.6)


def _toned(values: Tensor, curve: Tensor, top: float = 1.6) -> Tensor:
    at = values.clamp(0, 0.999 * top) * ((len(curve) - 1) / top)
    below = at.long()
    rest = at - below
    return curve[below] * (1 - rest) + curve[below + 1] * rest


@dataclass(frozen=True)
class Brightness:
    """Another scale: what counts as 1 is estimated from undersampled data."""

    by: float

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return the stack, brighter or darker."""
        return replace(stack, values=stack.values * (1 + draw.uniform(-self.by, self.by)))


@dataclass(frozen=True)
class Bias:
    """A smooth field of intensity, as coils leave it."""

    share: float

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return the stack under the field, or unchanged."""
        if not draw.chance(self.share):
            return stack
        field = 0.25 * draw.bumps(3 + draw.integer(3), stack.shape)
        return replace(stack, values=stack.values * field.exp())


@dataclass(frozen=True)
class Phase:
    """A phase for magnitudes; neighbours differ from it by a smooth one."""

    detailed: float

    def __call__(self, stack: Stack, draw: Draw) -> Stack:
        """Return a complex stack; one that is complex already is left alone."""
        if stack.values.is_complex():
            return stack
        middle = stack.values[1]
        drawn = detailed_phase if draw.chance(self.detailed) else smooth_phase
        phase = drawn(draw, stack.values[1:2])[0]
        if not bool(stack.present.any()):
            return replace(stack, values=torch.polar(middle.abs(), phase).expand(3, *stack.shape))
        around = [
            phase + draw.bumps(4, stack.shape) * draw.uniform(0, 0.25) + draw.uniform(-0.15, 0.15)
            for _ in range(2)
        ]
        phases = torch.stack([around[0], phase, around[1]])
        return replace(stack, values=torch.polar(stack.values.abs(), phases))
