"""A reconstructed or given image: voxels, where they are, and their unit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.grid import Grid


class Unit(Enum):
    """What a voxel value means."""

    HU = "HU"
    PER_MM = "1/mm"
    ARBITRARY = "arbitrary"
    RADIAN = "rad"


@dataclass(frozen=True)
class Volume:
    """Real voxels ``(z, y, x)`` on a grid; of a complex image the magnitude, with its phase.

    Parameters
    ----------
    data
        Real tensor, shape ``grid.shape``.
    grid
        Where the voxels are (LPS mm).
    unit
        What the values mean.
    phase
        Phase of a complex image in rad, in (-pi, pi], shape of ``data``; ``None``: a real image.

    Raises
    ------
    InconsistentError
        If a shape is not the grid's.
    """

    data: Tensor
    grid: Grid
    unit: Unit
    phase: Tensor | None = None

    def __post_init__(self) -> None:
        for name, values in (("data", self.data), ("phase", self.phase)):
            if values is not None and tuple(values.shape) != self.grid.shape:
                raise InconsistentError(
                    f"Volume {name} has shape {tuple(values.shape)}, its grid {self.grid.shape}."
                )

    @classmethod
    def of(cls, image: Tensor, grid: Grid, unit: Unit) -> Volume:
        """Make a volume of an image, real or complex.

        Examples
        --------
        >>> grid = Grid.centred((1, 1, 1), (1.0, 1.0, 1.0))
        >>> Volume.of(torch.full((1, 1, 1), 2j), grid, Unit.ARBITRARY).phase.item()
        1.5707963705062866
        """
        if not image.is_complex():
            return cls(image, grid, unit)
        return cls(image.abs(), grid, unit, image.angle())

    @property
    def complex(self) -> Tensor:
        """Complex voxels; with phase 0 where none is known."""
        phase = torch.zeros_like(self.data) if self.phase is None else self.phase
        return torch.polar(self.data, phase)
