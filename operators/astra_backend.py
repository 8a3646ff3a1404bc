"""Slice projectors computed by the ASTRA toolbox on the CPU, behind the same interface.

ASTRA is GPL-3 and imported only where this backend is asked for.  Its ``line`` model takes the
exact length of every ray in every pixel (Siddon); it works in single precision on one thread.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import MedreconError, UsageError
from medrecon.geometry.ct import FanBeam, ParallelBeam
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.base import LinearOperator
from medrecon.operators.kernels.compile import LAUNCH


def _astra() -> Any:
    try:
        return importlib.import_module("astra")
    except ImportError as error:
        raise MedreconError(
            "The ASTRA backend needs the ASTRA toolbox (GPL-3): pip install astra-toolbox, or use "
            "the native backend."
        ) from error


@dataclass(frozen=True, eq=False)
class AstraProjector(LinearOperator):
    """Line integrals of every slice by ASTRA, ``(*batch, z, y, x)`` in 1/mm.

    The result has shape ``(*batch, z, views, columns)``.  Back-projection applies the transpose
    of the same matrix, so the adjoint is exact to single precision; double precision inputs are
    rounded to it.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        Parallel or fan beam.

    Raises
    ------
    MedreconError
        If ASTRA is not installed.
    UsageError
        If pixels are not square.
    InconsistentError
        If the grid is not axial or reaches the source.

    References
    ----------
    W. van Aarle et al., Opt. Express 24 (2016) 25129-25147, doi:10.1364/OE.24.025129.
    R. L. Siddon, Med. Phys. 12 (1985) 252-255, doi:10.1118/1.595715.
    """

    grid: Grid
    geometry: ParallelBeam | FanBeam

    def __post_init__(self) -> None:
        rays.check_scan(self.grid, self.geometry)
        _, dy, dx = self.grid.spacing
        if not math.isclose(dy, dx, rel_tol=1e-6):
            raise UsageError(
                f"ASTRA needs square pixels, got {dy} x {dx} mm; use the native backend."
            )
        _astra()

    @property
    def domain(self) -> Space:
        """``(z, y, x)``."""
        return Space(self.grid.shape)

    @property
    def codomain(self) -> Space:
        """``(z, views, columns)``."""
        return Space((self.grid.shape[0], len(self.geometry.angles), self.geometry.columns))

    @property
    def blocks(self) -> int:
        """One: slices are measured one by one."""
        return 1

    def _forward(self, x: Tensor) -> Tensor:
        with self._matrix() as matrix:
            return _each_slice(x, self.codomain, matrix.FP)

    def _adjoint(self, y: Tensor) -> Tensor:
        with self._matrix() as matrix:
            return _each_slice(y, self.domain, matrix.BP)

    @contextmanager
    def _matrix(self) -> Iterator[Any]:
        """ASTRA's object for one slice, alive for one call: it cannot be pickled or shared."""
        astra = _astra()
        _, ny, nx = self.grid.shape
        _, dy, dx = self.grid.spacing
        left, top = self.grid.origin[0] - dx / 2, self.grid.origin[1] - dy / 2
        # ASTRA's y grows from the last row of pixels to the first: our y with the other sign.
        plane = astra.create_vol_geom(ny, nx, left, left + nx * dx, -top - ny * dy, -top)
        fan = isinstance(self.geometry, FanBeam)
        scan = astra.create_proj_geom(
            "fanflat_vec" if fan else "parallel_vec", self.geometry.columns, _vectors(self.geometry)
        )
        with LAUNCH:
            number = astra.create_projector("line_fanflat" if fan else "line", scan, plane)
            try:
                yield astra.OpTomo(number)
            finally:
                astra.projector.delete(number)


def _vectors(geometry: ParallelBeam | FanBeam) -> NDArray[np.float64]:
    """Source (or ray), middle of the detector and step of a column per view, ``(views, 6)``."""
    a = np.array(geometry.angles)
    u = np.stack([np.cos(a), -np.sin(a)], -1)
    w = np.stack([-np.sin(a), -np.cos(a)], -1)
    middle = geometry.column_offset * u
    start = w
    if isinstance(geometry, FanBeam):
        start = -geometry.source_to_axis * w
        middle = middle + (geometry.source_to_detector - geometry.source_to_axis) * w
    return np.concatenate([start, middle, geometry.column_spacing * u], -1)


def _each_slice(x: Tensor, outside: Space, apply: Any) -> Tensor:
    """Apply ASTRA to slices ``(*batch, z, ., .)`` one by one, in single precision."""
    planes = x.detach().reshape(-1, *x.shape[-2:]).to("cpu", torch.float32).contiguous()
    results = [torch.from_numpy(apply(plane.numpy())) for plane in planes]
    stacked = torch.stack(results).to(x.device, x.dtype)
    return stacked.reshape(*x.shape[:-2], *outside.shape[-2:])
