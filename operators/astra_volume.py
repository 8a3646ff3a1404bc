"""Volumes by the GPU kernels of the ASTRA toolbox, in place."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import ResourceError
from medrecon.geometry import VolumeGeometry
from medrecon.grid import Grid
from medrecon.operators import rays
from medrecon.operators.astra_toolbox import toolbox_with_gpu
from medrecon.operators.astra_vectors import volume_vectors, volume_window
from medrecon.operators.base import LinearOperator
from medrecon.operators.kernels.compile import LAUNCH


@dataclass(frozen=True, eq=False)
class AstraVolumeProjector(LinearOperator):
    """Parallel and cone beams by ASTRA on an NVIDIA GPU: any path, flat and curved detectors.

    ``(*batch, z, y, x)`` in 1/mm to ``(*batch, views, rows, columns)``, Joseph's interpolation by
    texture units (fractions of 1/256) in single precision.  Tensors on a GPU are handed over by
    DLPack and written in place; tensors of the host travel.  ASTRA orders measurements rows first:
    what comes out is a view of that memory, and goes back in without a copy.

    The back-projection is *not* the exact adjoint: for flat detectors it is voxel-driven; for
    curved ones it is ASTRA's ``matched_bp``, the transpose but for the rounded fractions.

    Parameters
    ----------
    grid
        Axial grid of the volume.
    geometry
        Parallel or cone beam with rows, or per-view vectors.

    Raises
    ------
    MedreconError
        If ASTRA is not installed.
    ResourceError
        If ASTRA sees no GPU.
    UsageError
        If a curved detector is mirrored.
    InconsistentError
        If the grid is not axial or reaches the source.

    References
    ----------
    W. J. Palenstijn et al., J. Struct. Biol. 176 (2011) 250-253, doi:10.1016/j.jsb.2011.07.017.
    """

    grid: Grid
    geometry: VolumeGeometry

    def __post_init__(self) -> None:
        rays.check_scan(self.grid, self.geometry)
        volume_vectors(self.geometry)
        toolbox_with_gpu()

    @property
    def domain(self) -> Space:
        """``(z, y, x)``."""
        return Space(self.grid.shape)

    @property
    def codomain(self) -> Space:
        """``(views, rows, columns)``."""
        return Space((self.geometry.views, self.geometry.rows, self.geometry.columns))

    @property
    def adjoint_is_exact(self) -> bool:
        """Never: see the class."""
        return False

    def _forward(self, x: Tensor) -> Tensor:
        volumes = _on_gpu(x).contiguous().reshape(-1, *self.grid.shape)
        views, rows, columns = self.codomain.shape
        sinograms = volumes.new_zeros(len(volumes), rows, views, columns)
        self._run("FP", volumes, sinograms)
        y = sinograms.transpose(1, 2).reshape(*x.shape[:-3], views, rows, columns)
        return y.to(x.device, x.dtype)

    def _adjoint(self, y: Tensor) -> Tensor:
        views, rows, columns = self.codomain.shape
        sinograms = _on_gpu(y).transpose(-3, -2).contiguous().reshape(-1, rows, views, columns)
        volumes = sinograms.new_zeros(len(sinograms), *self.grid.shape)
        self._run("BP", volumes, sinograms)
        return volumes.reshape(*y.shape[:-3], *self.grid.shape).to(y.device, y.dtype)

    def _run(self, direction: str, volumes: Tensor, sinograms: Tensor) -> None:
        """Let ASTRA read one of every pair and write the other, in place."""
        astra = toolbox_with_gpu()
        experimental = importlib.import_module("astra.experimental")
        apply = getattr(experimental, f"do_composite_{direction}")
        with LAUNCH, _gpu_of(volumes), self._projector(astra) as (number, plane, scan):
            for volume, sinogram in zip(volumes, sinograms, strict=True):
                numbers: list[int] = []
                try:
                    numbers.append(astra.data3d.link("-vol", plane, volume))
                    numbers.append(astra.data3d.link("-sino", scan, sinogram))
                    apply(number, numbers[:1], numbers[1:])
                except astra.log.AstraError as error:
                    raise ResourceError(
                        f"ASTRA's GPU {direction} of {tuple(volume.shape)} voxels and "
                        f"{tuple(sinogram.shape)} samples failed ({error}); use fewer slices at "
                        "a time, or the native backend."
                    ) from error
                finally:
                    astra.data3d.delete(numbers)

    @contextmanager
    def _projector(self, astra: Any) -> Iterator[tuple[int, Any, Any]]:
        """ASTRA's projector and its two geometries, alive for one call."""
        vectors = volume_vectors(self.geometry)
        plane = astra.create_vol_geom(*volume_window(self.grid))
        scan = astra.create_proj_geom(vectors.kind, *vectors.detector, vectors.rows)
        settings = astra.astra_dict("cuda3d") | {
            "ProjectionGeometry": scan,
            "VolumeGeometry": plane,
        }
        if vectors.kind == "cyl_cone_vec":
            settings["ProjectionKernel"] = "matched_bp"
        number = astra.projector3d.create(settings)
        try:
            yield number, plane, scan
        finally:
            astra.projector3d.delete(number)


def _on_gpu(x: Tensor) -> Tensor:
    """Single precision, and on a GPU where torch has one; ASTRA carries host memory itself."""
    device = x.device
    if device.type != "cuda" and torch.cuda.is_available():
        device = torch.device("cuda")
    return x.detach().to(device, torch.float32)


@contextmanager
def _gpu_of(x: Tensor) -> Iterator[None]:
    """Make the tensor's GPU the current one, with all that torch has asked of it done.

    ASTRA works on streams of its own and waits for them before it returns.
    """
    if x.device.type != "cuda":
        yield
        return
    with torch.cuda.device(x.device):
        torch.cuda.current_stream().synchronize()
        yield
