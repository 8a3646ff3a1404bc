"""Volumes for the tests of this folder: nothing symmetric, every voxel different."""

import numpy as np
import torch
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medrecon.grid import Grid
from medrecon.volume import Unit, Volume


def random_volume(seed: int, unit: Unit = Unit.HU, *, axial: bool = False) -> Volume:
    """Odd sizes, unequal spacing, a random rotation, left-handed half the time."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.choice([3, 4, 5, 7, 9], 3, replace=False))
    axes = np.eye(3) if axial else Rotation.random(random_state=seed).as_matrix()
    if not axial and rng.random() < 0.5:
        axes[2] *= -1
    grid = Grid(
        shape=shape,  # type: ignore[arg-type]
        spacing=tuple(rng.uniform(0.3, 6.0, 3).tolist()),
        origin=tuple(rng.uniform(-300.0, 300.0, 3).tolist()),
        directions=tuple(tuple(a) for a in axes[::-1].tolist()),  # type: ignore[arg-type]
    )
    high = 1500.0 if unit is Unit.HU else 300.0
    low = -1000.0 if unit is Unit.HU else 0.0
    return Volume(torch.from_numpy(rng.uniform(low, high, shape)).float(), grid, unit)


volumes = st.integers(0, 2**31 - 1).map(random_volume)


def values_at(volume: Volume) -> dict[tuple[float, float, float], float]:
    """Every voxel as (LPS mm rounded to 1e-2) -> value; equal dicts are equal images in space."""
    index = np.stack(np.meshgrid(*map(np.arange, volume.grid.shape), indexing="ij"), -1)
    index = np.concatenate([index.reshape(-1, 3), np.ones((index.size // 3, 1))], 1)
    where = np.round(index @ volume.grid.affine.T[:, :3], 2) + 0.0
    return dict(zip(map(tuple, where.tolist()), volume.data.flatten().tolist(), strict=True))
