"""Quarter turns: views that see the turned image as earlier views see the image itself.

On a square, centred grid the view at angle ``a + 90 degrees`` weighs the pixels of the turned
image as the view at ``a`` weighs those of the image.  Where the second half, or each quarter, of a
scan repeats the first one turned by 90 degrees, the turned copies of a slice go through the first
views together, as more slices do: fewer weights, fuller vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medrecon.geometry.ct import SliceGeometry
from medrecon.grid import Grid

TOLERANCE = 1e-9  # rad and pixels: far below what any scanner knows of its angles


@dataclass(frozen=True)
class Turns:
    """A scan as ``count`` parts of ``views`` views, each a quarter turn after the one before.

    Parameters
    ----------
    count
        1 (nothing repeats), 2 or 4.
    views
        Views in a part.
    sense
        +1 where angles grow, -1 where they fall.
    """

    count: int
    views: int
    sense: int = 1

    def stack_images(self, images: Tensor) -> Tensor:
        """Turn images ``(n, y, x)`` for every part: ``(count * n, y, x)``."""
        return torch.cat([torch.rot90(images, self.sense * k, (1, 2)) for k in range(self.count)])

    def add_images(self, images: Tensor) -> Tensor:
        """Turn back and add: the transpose of :meth:`stack_images`."""
        parts = images.chunk(self.count)
        turned = [torch.rot90(part, -self.sense * k, (1, 2)) for k, part in enumerate(parts)]
        return torch.stack(turned).sum(0)

    def join_views(self, scans: Tensor) -> Tensor:
        """Join the parts' measurements ``(count * n, views, columns)`` along the views."""
        return torch.cat(scans.chunk(self.count), 1)

    def split_views(self, scans: Tensor) -> Tensor:
        """Split measurements ``(n, count * views, columns)``: undoes :meth:`join_views`."""
        return torch.cat(scans.chunk(self.count, 1))


def turns(grid: Grid, geometry: SliceGeometry) -> Turns:
    """Find the quarter turns of a scan.

    Examples
    --------
    >>> from medrecon.geometry.ct import ParallelBeam, equiangular
    >>> scanner = ParallelBeam(angles=equiangular(360), columns=64, column_spacing=1.0)
    >>> turns(Grid.centred((1, 64, 64), (1, 1, 1)), scanner)
    Turns(count=4, views=90, sense=1)
    """
    views = geometry.views
    if not _is_square(grid):
        return Turns(1, views)
    for count in (4, 2):
        if views % count:
            continue
        parts = np.array(geometry.angles).reshape(count, -1)
        step = math.remainder(float(parts[1, 0] - parts[0, 0]), 2 * math.pi)
        sense = 1 if step > 0 else -1
        off = np.diff(parts, axis=0) - sense * math.pi / 2
        if (np.abs(np.angle(np.exp(1j * off))) <= TOLERANCE).all():
            return Turns(count, views // count, sense)
    return Turns(1, views)


def _is_square(grid: Grid) -> bool:
    (_, ny, nx), (_, dy, dx) = grid.shape, grid.spacing
    off = max(abs(grid.center[0]), abs(grid.center[1]))
    return ny == nx and abs(dy - dx) <= TOLERANCE * dx and off <= TOLERANCE * dx
