"""Slices by the line kernels of the ASTRA toolbox, on the CPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import UsageError
from medrecon.geometry import SliceGeometry
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.astra_toolbox import toolbox
from medrecon.operators.astra_vectors import plane_window, slice_vectors
from medrecon.operators.base import LinearOperator
from medrecon.operators.kernels.compile import LAUNCH


@dataclass(frozen=True, eq=False)
class AstraProjector(LinearOperator):
    """Line integrals of every slice by ASTRA's ``line`` kernels on the CPU.

    ``(*batch, z, y, x)`` in 1/mm to ``(*batch, z, views, columns)``: the exact length of every
    ray in every pixel (Siddon), in single precision; double precision inputs are rounded to it.
    Back-projection applies the transpose of the same matrix, so the adjoint is exact.  ASTRA has
    no arcs in 2D; here every cell of an arc is a view of its own, with the same rays.  Slices are
    worked out side by side on as many threads as torch may use.

    Parameters
    ----------
    grid
        Axial grid of the volume with square pixels.
    geometry
        Parallel or fan beam, flat or arc.

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
    geometry: SliceGeometry

    def __post_init__(self) -> None:
        rays.check_scan(self.grid, self.geometry)
        _, dy, dx = self.grid.spacing
        if not math.isclose(dy, dx, rel_tol=1e-6):
            raise UsageError(
                f"ASTRA needs square pixels, got {dy} x {dx} mm; use the native backend."
            )
        toolbox()

    @property
    def domain(self) -> Space:
        """``(z, y, x)``."""
        return Space(self.grid.shape)

    @property
    def codomain(self) -> Space:
        """``(z, views, columns)``."""
        return Space((self.grid.shape[0], self.geometry.views, self.geometry.columns))

    @property
    def blocks(self) -> int:
        """One: slices are measured one by one."""
        return 1

    def _forward(self, x: Tensor) -> Tensor:
        return self._each_slice("direct_FP", x, self.codomain)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._each_slice("direct_BP", y, self.domain)

    def _each_slice(self, name: str, source: Tensor, to: Space) -> Tensor:
        """Let ASTRA write every plane ``(*batch, z, ., .)`` straight into the result."""
        vectors = slice_vectors(self.geometry)
        sinogram = (len(vectors.rows), *vectors.detector)
        plane = self.grid.shape[1:]
        inside, outside = (plane, sinogram) if name == "direct_FP" else (sinogram, plane)
        start = source.detach().to("cpu", torch.float32).contiguous().reshape(-1, *inside)
        end = torch.zeros(len(start), *outside)
        astra = toolbox()
        apply = getattr(astra.projector, name)
        with LAUNCH, self._projector(astra) as number:

            def run(k: int) -> None:
                apply(number, start[k], out=end[k])

            with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
                list(pool.map(run, range(len(start))))
        return end.reshape(*source.shape[:-2], *to.shape[-2:]).to(source.device, source.dtype)

    @contextmanager
    def _projector(self, astra: Any) -> Iterator[int]:
        """ASTRA's projector of one slice, alive for one call: it cannot be pickled or shared."""
        vectors = slice_vectors(self.geometry)
        plane = astra.create_vol_geom(*plane_window(self.grid))
        scan = astra.create_proj_geom(vectors.kind, *vectors.detector, vectors.rows)
        kernel = "line_fanflat" if vectors.kind == "fanflat_vec" else "line"
        number = astra.create_projector(kernel, scan, plane)
        try:
            yield number
        finally:
            astra.projector.delete(number)
