"""What projectors from volumes to detectors with rows share: spaces, batches, memory order."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.geometry.ct import VolumeGeometry
from medrecon.grid import Grid
from medrecon.operators.base import LinearOperator
from medrecon.operators.kernels.engine import run


@dataclass(frozen=True, eq=False)
class VolumeOperator(LinearOperator):
    """``(*batch, z, y, x)`` to ``(*batch, views, rows, columns)`` by a pair of kernels.

    Kernels take and give ``[y, x, z]`` and ``[view, column, row]``, whose last axis lies side by
    side in memory; a subclass names them and makes their tables.
    """

    KERNELS: ClassVar[tuple[Callable[..., None], Callable[..., None]]]
    """Forward and transpose, ``(source, *tables, target)``."""

    grid: Grid
    geometry: VolumeGeometry

    @property
    def domain(self) -> Space:
        """``(z, y, x)``."""
        return Space(self.grid.shape)

    @property
    def codomain(self) -> Space:
        """``(views, rows, columns)``."""
        return Space((self.geometry.views, self.geometry.rows, self.geometry.columns))

    @property
    @abstractmethod
    def _tables(self) -> tuple[NDArray[Any], ...]:
        """As the kernels take them."""

    def _forward(self, x: Tensor) -> Tensor:
        return _each(x, self.domain, self.codomain, self._project)

    def _adjoint(self, y: Tensor) -> Tensor:
        return _each(y, self.codomain, self.domain, self._backproject)

    def _project(self, volume: Tensor) -> Tensor:
        views, rows, columns = self.codomain.shape
        shape = (views, columns, rows)
        y = run(self.KERNELS[0], volume.permute(1, 2, 0), *self._tables, shape=shape)
        return y.permute(0, 2, 1)

    def _backproject(self, scan: Tensor) -> Tensor:
        depth, height, width = self.grid.shape
        shape = (height, width, depth)
        x = run(self.KERNELS[1], scan.permute(0, 2, 1), *self._tables, shape=shape)
        return x.permute(2, 0, 1)


def _each(x: Tensor, inside: Space, outside: Space, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply to every element of a batch ``(*batch, *inside)``, into ``(*batch, *outside)``."""
    batch = x.shape[: x.ndim - inside.ndim]
    result = x.new_empty((math.prod(batch), *outside.shape))
    for element, out in zip(x.reshape(len(result), *inside.shape), result, strict=True):
        out.copy_(apply(element))
    return result.reshape(*batch, *outside.shape)
