"""A series of images cut into blocks: the matrices that local low rank speaks of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class SeriesBlocks(LinearOperator):
    r"""Blocks of a series as matrices, for several partitions: a tight frame, :math:`K^H K = I`.

    A series ``(frames, z, y, x)`` becomes ``(partitions, blocks, frames, voxels)``, divided by
    the root of the number of partitions. Every partition covers the images with blocks that do
    not overlap, each shifted against the last by an equal share of a block, so that no voxel
    stays on an edge. Images are continued by zeros up to whole blocks and then periodically.

    Parameters
    ----------
    space
        The series, ``(frames, z, y, x)``.
    size
        Size of a block along z, y, x, voxels.
    partitions
        How many.

    Raises
    ------
    InconsistentError
        If the space has not four axes, or a size or the number of partitions is below 1.
    """

    space: Space
    size: tuple[int, int, int]
    partitions: int = 2

    def __post_init__(self) -> None:
        if self.space.ndim != 4 or min(*self.size, self.partitions) < 1:
            raise InconsistentError(
                f"SeriesBlocks: blocks of {self.size} in {self.partitions} partitions do not fit "
                f"a series of shape {self.space.shape}, (frames, z, y, x)."
            )

    @property
    def domain(self) -> Space:
        """The series."""
        return self.space

    @property
    def codomain(self) -> Space:
        """The matrices, ``(partitions, blocks, frames, voxels)``."""
        shape = (self.partitions, math.prod(self._counts), self.space.shape[0])
        return Space((*shape, math.prod(self.size)), self.space.complex)

    @property
    def _counts(self) -> tuple[int, ...]:
        """Blocks along z, y, x."""
        return tuple(-(-n // b) for n, b in zip(self.space.shape[1:], self.size, strict=True))

    @property
    def _shifts(self) -> list[tuple[int, ...]]:
        return [tuple(p * b // self.partitions for b in self.size) for p in range(self.partitions)]

    def _forward(self, x: Tensor) -> Tensor:
        counts, size, n = self._counts, self.size, self.space.shape[1:]
        pads = [(c * b - m) for c, b, m in zip(counts, size, n, strict=True)]
        padded = functional.pad(x, [p for m in reversed(pads) for p in (0, m)])
        lead = x.shape[:-4]
        grid = [k for c, b in zip(counts, size, strict=True) for k in (c, b)]
        out = x.new_empty(*lead, *self.codomain.shape)
        for part, shift in zip(out.unbind(-4), self._shifts, strict=True):
            moved = torch.roll(padded, shift, (-3, -2, -1)).reshape(*lead, n0 := x.shape[-4], *grid)
            # (t, Z, z, Y, y, X, x) -> (Z, Y, X, t, z, y, x)
            cut = moved.movedim((-6, -4, -2), (-7, -6, -5))
            part.copy_(cut.reshape(*lead, math.prod(counts), n0, math.prod(size)))
        return out.mul_(self.partitions**-0.5)

    def _adjoint(self, y: Tensor) -> Tensor:
        counts, size, lead = self._counts, self.size, y.shape[:-4]
        frames, whole = y.shape[-2], [c * b for c, b in zip(counts, size, strict=True)]
        total = y.new_zeros(*lead, frames, *whole)
        for part, shift in zip(y.unbind(-4), self._shifts, strict=True):
            cut = part.reshape(*lead, *counts, frames, *size)
            moved = cut.movedim((-7, -6, -5), (-6, -4, -2)).reshape(*lead, frames, *whole)
            total += torch.roll(moved, [-s for s in shift], (-3, -2, -1))
        depth, height, width = self.space.shape[1:]
        return total[..., :depth, :height, :width].mul(self.partitions**-0.5)

    def gram(self, x: Tensor) -> Tensor:
        """``K^H K x = x``."""
        self.domain.check(x, "input of SeriesBlocks.gram")
        return x.clone()
