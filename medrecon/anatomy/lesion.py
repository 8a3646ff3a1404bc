"""Lesions: where, how large, how different."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.anatomy.canvas import Canvas, Site
from medrecon.anatomy.dice import Dice
from medrecon.anatomy.frame import plain_grid
from medrecon.anatomy.tissues import Tissue
from medrecon.errors import InconsistentError


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """A roundish body that adds a contrast to an image.

    Parameters
    ----------
    centre_mm
        Centre (z, y, x) in mm from the stack's centre.
    radii_mm
        Radii (z, y, x) in mm.
    contrast
        What it adds, in the image's unit (HU, or the unit of an MR image's magnitude).
    lobes, lobe_depth
        The radius changes by ``1 + lobe_depth cos(lobes angle)`` about z; 0 for an ellipsoid.
    edge_mm
        Width of the edge.

    Examples
    --------
    >>> lesion = Lesion(centre_mm=(0, 0, 0), radii_mm=(4, 4, 4), contrast=40.0)
    >>> mask = lesion.mask((1, 9, 9), pixel_mm=2.0, slice_mm=3.0)
    >>> float(mask[0, 4, 4]), float(mask[0, 0, 0])
    (1.0, 0.0)
    """

    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    contrast: float
    lobes: int = 0
    lobe_depth: float = 0.0
    edge_mm: float = 1.0

    def mask(self, shape: tuple[int, int, int], *, pixel_mm: float, slice_mm: float) -> Tensor:
        """Share of each voxel that it fills, ``(slices, y, x)`` in [0, 1].

        Parameters
        ----------
        shape
            ``(slices, y, x)``.
        pixel_mm, slice_mm
            Size of a pixel and distance of slices in mm.

        Raises
        ------
        InconsistentError
            If a size is not positive.
        """
        if min(*shape, pixel_mm, slice_mm, *self.radii_mm, self.edge_mm) <= 0:
            raise InconsistentError(
                f"A lesion of radii {self.radii_mm} mm on {shape} voxels of {pixel_mm} mm, slices "
                f"{slice_mm} mm apart, has a size that is not positive; give sizes above zero."
            )
        grid = plain_grid(shape, pixel_mm, slice_mm)
        z, y, x = (axis - c for axis, c in zip(grid, self.centre_mm, strict=True))
        length = (z.square() + y.square() + x.square()).sqrt()
        scaled = [(axis / r).square() for axis, r in zip((z, y, x), self.radii_mm, strict=True)]
        level = (scaled[0] + scaled[1] + scaled[2]).sqrt()
        if self.lobes:
            level = level / (1 + self.lobe_depth * torch.cos(self.lobes * torch.atan2(y, x)))
        depth = (length * (1 / level.clamp_min(1e-6) - 1)).clamp_max(min(self.radii_mm))
        depth[level < 1e-6] = min(self.radii_mm)
        return (depth / max(self.edge_mm, pixel_mm) + 0.5).clamp(0, 1)

    def insert(self, image: Tensor, *, pixel_mm: float, slice_mm: float) -> Tensor:
        """Image ``(slices, y, x)`` with the lesion in it; complex images keep their phase.

        Parameters
        ----------
        image
            Real or complex stack.
        pixel_mm, slice_mm
            Size of a pixel and distance of slices in mm.

        Raises
        ------
        InconsistentError
            If the image is no stack or a size is not positive.
        """
        if image.ndim != 3:
            raise InconsistentError(
                f"A lesion goes into a stack (slices, y, x), not into a shape {tuple(image.shape)}."
            )
        z, y, x = image.shape
        mask = self.mask((z, y, x), pixel_mm=pixel_mm, slice_mm=slice_mm)
        added = (self.contrast * mask).to(image.device)
        if not image.is_complex():
            return image + added.to(image.dtype)
        return image + added * torch.exp(1j * image.angle())


def how_many(dice: Dice, wanted: int | None, most: int) -> int:
    """Say how many lesions are tried: as many as wanted, or none in half of all bodies."""
    if wanted is not None:
        return wanted
    return dice.integer(1, most) if dice.chance(0.5) else 0


def random_lesions(
    canvas: Canvas,
    sites: Sequence[Site],
    count: int,
    contrast: Callable[[Tissue], float],
    slice_mm: float,
) -> tuple[Lesion, ...]:
    """Draw lesions in organs; one whose organ is not in the stack falls away.

    Parameters
    ----------
    canvas
        The painted body.
    sites
        Organs that can have one.
    count
        How many are tried.
    contrast
        What a lesion of a tissue will add; drawn anew for each.
    slice_mm
        Distance of slices in mm.
    """
    found = []
    for _ in range(count if sites else 0):
        site = sites[canvas.dice.integer(0, len(sites) - 1)]
        lesion = _random_lesion(canvas, site, contrast(site[0]), slice_mm)
        if lesion is not None:
            found.append(lesion)
    return tuple(found)


def with_lesions(
    image: Tensor, lesions: Sequence[Lesion], *, pixel_mm: float, slice_mm: float
) -> Tensor:
    """Insert lesions one after the other; see :meth:`Lesion.insert`."""
    for lesion in lesions:
        image = lesion.insert(image, pixel_mm=pixel_mm, slice_mm=slice_mm)
    return image


def _random_lesion(canvas: Canvas, site: Site, contrast: float, slice_mm: float) -> Lesion | None:
    """Draw a lesion somewhere in an organ, or none where the organ is not in the stack."""
    dice, pixel_mm = canvas.dice, canvas.frame.pixel_mm
    _, box, depth = site
    radius = dice.uniform(2.5, 6) if dice.chance(0.6) else dice.uniform(5, 16)
    radius = max(radius, 1.5 * pixel_mm)
    inside = (depth > 0.5 * radius).nonzero()
    if not len(inside):
        return None
    index = inside[dice.integer(0, len(inside) - 1)].tolist()
    steps = (slice_mm, pixel_mm, pixel_mm)
    centre = [
        ((part.start or 0) + i - (n - 1) / 2) * step
        for part, i, n, step in zip(box, index, canvas.frame.shape, steps, strict=True)
    ]
    irregular = dice.chance(0.5)
    return Lesion(
        centre_mm=(centre[0] + dice.uniform(-0.5, 0.5) * slice_mm, centre[1], centre[2]),
        radii_mm=(radius, radius * dice.uniform(0.7, 1.3), radius * dice.uniform(0.7, 1.3)),
        contrast=contrast,
        lobes=dice.integer(2, 5) if irregular else 0,
        lobe_depth=dice.uniform(0.05, 0.25) if irregular else 0.0,
        edge_mm=math.exp(dice.uniform(math.log(0.5), math.log(4.0))),
    )
