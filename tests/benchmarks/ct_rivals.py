"""Projectors of other packages on the benchmark's scans, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from medrecon.geometry.ct import ConeBeam, FanBeam
from medrecon.grid import Grid

Map = Callable[[Tensor], Tensor]
Rival = tuple[str, str, Map, Map, tuple[int, ...]]


def operators(slices: Grid, fan: FanBeam, volume: Grid, cone: ConeBeam) -> Iterator[Rival]:
    """Case, library, forward, adjoint and the shape of what goes in."""
    if importlib.util.find_spec("deepinv"):
        yield ("G2, 1 slice", "deepinv", *_deepinv(slices, fan))
    if importlib.util.find_spec("itk") and hasattr(importlib.import_module("itk"), "RTK"):
        yield ("G3", "RTK Joseph", *_rtk(volume, cone))


def _deepinv(grid: Grid, fan: FanBeam) -> tuple[Map, Map, tuple[int, ...]]:
    """Its fan beam in units of the image; one view after the other (all at once take 4.7 GB)."""
    physics: Any = importlib.import_module("deepinv.physics")
    n = grid.shape[-1]
    size = n * grid.spacing[-1]
    P = physics.Tomography(
        angles=torch.rad2deg(torch.tensor(fan.angles)),
        img_width=n,
        normalize=False,
        fan_beam=True,
        fan_parameters={
            "pixel_spacing": 1.0 / n,
            "source_radius": fan.source_to_axis / size,
            "detector_radius": (fan.source_to_detector - fan.source_to_axis) / size,
            "n_detector_pixels": fan.columns,
            "detector_spacing": fan.column_spacing / size,
        },
    )
    return P.A, P.A_adjoint, (1, 1, n, n)


def _rtk(grid: Grid, cone: ConeBeam) -> tuple[Map, Map, tuple[int, ...]]:
    """Joseph's pair; its rotation axis is y, so the middle axis of the volume stands for z."""
    itk: Any = importlib.import_module("itk")
    rtk: Any = itk.RTK
    itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
    scan = rtk.ThreeDCircularProjectionGeometry.New()
    for angle in cone.angles:
        scan.AddProjection(cone.source_to_axis, cone.source_to_detector, math.degrees(angle))
    image = itk.Image[itk.F, 3]
    measured = (cone.views, cone.rows, cone.columns)

    def put(x: Tensor, spacing: tuple[float, float, float]) -> Any:
        made = itk.image_from_array(x.contiguous().numpy())  # a copy: filters work in place
        made.SetSpacing(spacing)
        made.SetOrigin([-(n - 1) / 2 * d for n, d in zip(reversed(x.shape), spacing, strict=True)])
        return made

    cells = (cone.column_spacing, cone.row_spacing, 1.0)
    voxels = (grid.spacing[2], grid.spacing[1], grid.spacing[0])

    def forward(x: Tensor) -> Tensor:
        projection = rtk.JosephForwardProjectionImageFilter[image, image].New()
        projection.SetGeometry(scan)
        projection.SetInput(0, put(torch.zeros(measured), cells))
        projection.SetInput(1, put(x, voxels))
        projection.Update()
        return torch.from_numpy(itk.array_from_image(projection.GetOutput()))

    def adjoint(y: Tensor) -> Tensor:
        back = rtk.JosephBackProjectionImageFilter[image, image].New()
        back.SetGeometry(scan)
        back.SetInput(0, put(torch.zeros(grid.shape), voxels))
        back.SetInput(1, put(y, cells))
        back.Update()
        return torch.from_numpy(itk.array_from_image(back.GetOutput()))

    return forward, adjoint, grid.shape
