"""Trees of vessels that fork at random, drawn all at once."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from medrecon.anatomy.frame import Frame, Point

_THINNER = 0.794
"""Two equal branches carry the cube of their stem's radius together: 2^(-1/3)."""
_PIECE_MM = 7.0


class Rods(NamedTuple):
    """Straight pieces of vessels in mm: ends ``(n, 3)`` in order z, y, x, and radii ``(n,)``."""

    start: Tensor
    stop: Tensor
    radius: Tensor


def random_tree(
    generator: torch.Generator,
    root: Point,
    directions: list[Point],
    *,
    radius: float,
    length: float,
    levels: int,
    thinnest: float = 0.4,
    spread: float = 0.45,
) -> Rods:
    """Grow a tree of vessels in which every branch ends in two.

    Branches thin by Murray's law, Proc. Natl. Acad. Sci. 12 (1926), doi:10.1073/pnas.12.3.207:
    the cubes of their radii add up.

    Parameters
    ----------
    generator
        Source of randomness; how much is drawn does not depend on what a stack will show.
    root
        Where the tree starts, mm (z, y, x).
    directions
        Directions of the first branches.
    radius, length
        Radius and mean length of the first branches in mm.
    levels
        How often branches fork, the first ones included.
    thinnest
        Radius in mm below which a branch is not drawn.
    spread
        Standard deviation of a branch's turn, as the tangent of an angle per axis.

    Returns
    -------
    Rods
        All branches, in pieces of a few mm.
    """
    place = torch.tensor(root).expand(len(directions), 3)
    way = torch.nn.functional.normalize(
        torch.tensor(directions) + 0.2 * _normal(generator, len(directions), 3)
    )
    r = torch.full((len(directions),), radius)
    grown = []
    for level in range(levels):
        along = length * 0.84**level * (0.6 + 0.6 * torch.rand(len(r), generator=generator))
        end = place + along[:, None] * way
        grown.append(Rods(place, end, r))
        place, way, r = (t.repeat_interleave(2, 0) for t in (end, way, r))
        way = _unit(way + spread * _normal(generator, *way.shape))
        r = r * _THINNER * (0.72 + 0.33 * torch.rand(len(r), generator=generator))
    start, stop, r = (torch.cat(parts) for parts in zip(*grown, strict=True))
    kept = r >= thinnest
    return _pieces(Rods(start[kept], stop[kept], r[kept]))


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator).clamp_(-2.5, 2.5)


def _unit(ways: Tensor) -> Tensor:
    return torch.nn.functional.normalize(ways)


def _pieces(rods: Rods) -> Rods:
    """Cut rods into pieces of at most a few mm."""
    length = (rods.stop - rods.start).norm(dim=1)
    count = (length / _PIECE_MM).ceil().long().clamp_min(1)
    owner = torch.arange(len(count)).repeat_interleave(count)
    first = count.cumsum(0) - count
    index = torch.arange(len(owner)) - first[owner]
    step = (rods.stop - rods.start)[owner] / count[owner][:, None]
    start = rods.start[owner] + index[:, None] * step
    return Rods(start, start + step, rods.radius[owner])


def depth_of(frame: Frame, rods: Rods, wider_mm: float = 0.0) -> Tensor:
    """Depth in mm below the surface of the nearest rod, for every pixel.

    Parameters
    ----------
    frame
        Coordinates of the pixels.
    rods
        Short rods; each is looked for in a patch of pixels about it only.
    wider_mm
        Added to every radius.

    Returns
    -------
    Tensor
        Millimetres ``(slices, y, x)``; far from every rod a large negative number.
    """
    slices, height, width = frame.shape
    depth = torch.full((slices * height * width,), -1e3)
    middle = (rods.start + rods.stop) / 2
    heights = frame.places.z[:, 0, 0]
    reach = (rods.start[:, 0] - rods.stop[:, 0]).abs() / 2 + rods.radius + wider_mm + 0.5
    near = (heights[:, None] - middle[:, 0]).abs() <= reach
    layer, rod = near.nonzero(as_tuple=True)
    if len(rod) == 0:
        return depth.view(frame.shape)
    row, column = _pixels(frame, layer, middle[rod])
    span = float((_PIECE_MM / 2 + rods.radius.max() + wider_mm) / frame.pixel_mm) + 1.5
    offsets = torch.arange(-math.ceil(span), math.ceil(span) + 1)
    rows = row[:, None, None] + offsets[:, None]
    columns = column[:, None, None] + offsets
    seen = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    flat = (layer[:, None, None] * height + rows.clamp(0, height - 1)) * width
    flat = (flat + columns.clamp(0, width - 1))[seen]
    owner = rod[:, None, None].expand(seen.shape)[seen]
    at = torch.stack([axis.reshape(-1)[flat] for axis in frame.places], 1)
    along = rods.stop - rods.start
    offset = at - rods.start[owner]
    share = (offset * along[owner]).sum(1) / along.square().sum(1).clamp_min(1e-6)[owner]
    gap = (offset - share.clamp(0, 1)[:, None] * along[owner]).norm(dim=1)
    inside = rods.radius[owner] + wider_mm - gap
    return depth.scatter_reduce_(0, flat, inside, "amax").view(frame.shape)


def _pixels(frame: Frame, layer: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column where a place of the body lies in a slice, by a few fixed-point steps."""
    _, height, width = frame.shape
    row = places[:, 1] / frame.pixel_mm + (height - 1) / 2
    column = places[:, 2] / frame.pixel_mm + (width - 1) / 2
    for _ in range(4):
        i = row.round().long().clamp(0, height - 1)
        j = column.round().long().clamp(0, width - 1)
        row = i + (places[:, 1] - frame.places.y[layer, i, j]) / frame.pixel_mm
        column = j + (places[:, 2] - frame.places.x[layer, i, j]) / frame.pixel_mm
    return row.round().long(), column.round().long()
