"""Small acquisitions along trajectories, and the direct sums that they have to equal."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.geometry import NonCartesian
from medrecon.operators.noncartesian import NonCartesianSense
from tests.contracts import random

SOME = np.array([True, False, True, True, False])

# Shape of the maps, axes of the trajectory, measured partitions of a stack.
LAYOUTS: dict[str, tuple[tuple[int, ...], int, NDArray[np.bool_] | None]] = {
    "slices even": ((2, 3, 8, 6), 2, None),
    "slices odd": ((3, 2, 7, 5), 2, None),
    "slices mixed": ((1, 2, 6, 9), 2, None),
    "stack": ((2, 5, 6, 7), 2, SOME),
    "stack full": ((2, 4, 7, 6), 2, np.ones(4, dtype=bool)),
    "3d even": ((2, 4, 6, 8), 3, None),
    "3d odd": ((2, 5, 3, 7), 3, None),
}


def scattered(axes: int, shots: int = 5, samples: int = 6, seed: int = 0) -> NDArray[np.float64]:
    """Positions inside, on the border of and beyond what a grid of eight can tell apart."""
    positions = np.random.default_rng(seed).uniform(-6, 6, (shots, samples, axes))
    positions[0, 0], positions[0, 1], positions[0, 2] = 0, -4, 3.5
    return positions


def noncartesian(layout: str) -> NonCartesianSense:
    shape, axes, partitions = LAYOUTS[layout]
    times = np.linspace(1e-3, 2.1e-2, 6)
    geometry = NonCartesian(trajectory=scattered(axes), partitions=partitions, times=times)
    return NonCartesianSense(random(Space(shape, complex=True)), geometry)


def ndft(shape: tuple[int, ...], positions: NDArray[np.float64]) -> Tensor:
    """The transform straight from its definition, ``(samples, voxels)``, complex128."""
    axes = [(np.arange(n) - n // 2) / n for n in shape]
    voxels = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")])
    cycles = torch.from_numpy(positions.reshape(-1, len(shape)) @ voxels)
    return torch.exp(-2j * math.pi * cycles) / math.sqrt(math.prod(shape))


def along_the_stack(layout: str) -> NDArray[np.float64]:
    """A stack's positions as those of a trajectory with three axes, ``(z, shots, samples, 3)``."""
    shape, _, partitions = LAYOUTS[layout]
    plane = scattered(2)
    steps = np.arange(shape[1]) - shape[1] // 2
    assert partitions is not None
    z = np.broadcast_to(steps[:, None, None, None].astype(float), (len(steps), *plane.shape[:2], 1))
    return np.concatenate([z, np.broadcast_to(plane, (len(steps), *plane.shape))], axis=-1)
