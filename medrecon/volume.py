"""A reconstructed or given image: voxels, where they are, and their unit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.grid import Grid


class Unit(Enum):
    """What a voxel value means."""

    HU = "HU"
    PER_MM = "1/mm"
    ARBITRARY = "arbitrary"


@dataclass(frozen=True)
class Volume:
    """Real voxels ``(z, y, x)`` on a grid.

    Parameters
    ----------
    data
        Real tensor, shape ``grid.shape``.
    grid
        Where the voxels are (LPS mm).
    unit
        What the values mean.
    """

    data: Tensor
    grid: Grid
    unit: Unit

    def __post_init__(self) -> None:
        if tuple(self.data.shape) != self.grid.shape:
            raise InconsistentError(
                f"Volume data has shape {tuple(self.data.shape)}, its grid {self.grid.shape}."
            )
