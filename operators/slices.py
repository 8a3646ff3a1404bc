"""What the fan and the parallel projector share: a stack of slices through one ray table."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels import joseph
from medrecon.operators.kernels.compile import empty, launch, to_array

# Slices that go through a kernel together: innermost in memory, so that the weights of a ray
# are worked out once for all of them and each access fills whole cache lines.
CHUNK = 32


def project(volume: Tensor, rays: NDArray[np.float64]) -> Tensor:
    """Joseph's line integrals, ``(*batch, z, y, x)`` to ``(*batch, z, views, columns)``."""
    views, columns, _ = rays.shape
    slices = volume.reshape(math.prod(volume.shape[:-2]), *volume.shape[-2:])
    result = slices.new_empty((slices.shape[0], views, columns))
    for some, out in _chunks(slices, result):
        source = to_array(some.permute(1, 2, 0))
        target = empty((views, columns, some.shape[0]), source)
        launch(joseph.forward, source, rays, target)
        out.copy_(torch.from_numpy(target).permute(2, 0, 1))
    return result.reshape(*volume.shape[:-2], views, columns)


def backproject(
    sinograms: Tensor,
    rays: NDArray[np.float64],
    views: NDArray[np.float64],
    plane: tuple[int, int],
) -> Tensor:
    """Transpose of :func:`project`, ``(*batch, z, views, columns)`` to ``(*batch, z, y, x)``."""
    stack = sinograms.reshape(math.prod(sinograms.shape[:-2]), *sinograms.shape[-2:])
    result = stack.new_empty((stack.shape[0], *plane))
    for some, out in _chunks(stack, result):
        source = to_array(some.permute(1, 2, 0))
        target = empty((*plane, some.shape[0]), source)
        launch(joseph.transpose, source, rays, views, target)
        out.copy_(torch.from_numpy(target).permute(2, 0, 1))
    return result.reshape(*sinograms.shape[:-2], *plane)


def _chunks(source: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(source), CHUNK):
        yield source[start : start + CHUNK], target[start : start + CHUNK]
