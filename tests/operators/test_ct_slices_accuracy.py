"""How near the slice projectors come to line integrals known in closed form.

The table of 256 x 256 pixels, 90 views of a fan and three widths of detector cells, for edges (the
Shepp-Logan phantom, which the raster limits) and smooth blobs (which show the projector's own
error), and the width from which footprints do better than rays.
"""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from medrecon.geometry.ct import FanBeam, equiangular
from medrecon.grid import Grid
from medrecon.operators.slice_projector import FOOTPRINT, JOSEPH, Model, SliceProjector
from tests.contracts import distance
from tests.oracles import Body, Ellipsoid, Gaussian, line_integrals, rasterise, sample

N = 256
GRID = Grid.centred((1, N, N), (1.0, 1.0, 1.0))
DISTANCES = {"source_to_axis": 425.0, "source_to_detector": 775.0}
SCALE = 0.72 * N / 2  # of Shepp and Logan's unit circle, mm


def _ellipse(value: float, a: float, b: float, x: float, y: float, degrees: float) -> Ellipsoid:
    center, axes = (SCALE * x, SCALE * y), (SCALE * a, SCALE * b)
    return Ellipsoid(center, axes, value, math.radians(degrees))


SHEPP_LOGAN: tuple[Body, ...] = (
    _ellipse(1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    _ellipse(-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    _ellipse(-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    _ellipse(-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    _ellipse(0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    _ellipse(0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    _ellipse(0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    _ellipse(0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    _ellipse(0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    _ellipse(0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)
BLOBS: tuple[Body, ...] = (
    Gaussian((0.0, 0.0), 30.0),
    Gaussian((25.0, -20.0), 8.0, 0.7),
    Gaussian((-30.0, 15.0), 5.0, -0.4),
    Gaussian((10.0, 45.0), 3.0, 0.5),
)


def fan(width: float, *, arc: bool = False) -> FanBeam:
    """Cells of a width on the detector that cover the same rays."""
    radius = DISTANCES["source_to_detector"] if arc else math.inf
    return FanBeam(
        angles=equiangular(90),
        columns=round(368 * 1.43 / width),
        column_spacing=width,
        detector_radius=radius,
        **DISTANCES,
    )


@cache
def edges() -> Tensor:
    return torch.stack([rasterise(body, GRID, subvoxels=8) for body in SHEPP_LOGAN]).sum(0)


@cache
def smooth() -> Tensor:
    fields = [sample(lambda p, body=body: body.at(p[..., :2]), GRID) for body in BLOBS]  # type: ignore[misc]
    return torch.stack(fields).sum(0)


def truth(bodies: tuple[Body, ...], scanner: FanBeam, subcells: int) -> Tensor:
    return torch.stack([line_integrals(b, scanner, subcells=subcells) for b in bodies]).sum(0)


# Relative errors, per cent: edges against the central ray and the mean over the cell, blobs alike.
TABLE: dict[tuple[float, str], tuple[float, float, float, float]] = {
    (0.715, "joseph"): (1.97, 1.69, 0.0165, 0.0155),
    (1.43, "joseph"): (1.90, 1.26, 0.0166, 0.0111),
    (2.86, "joseph"): (1.83, 0.57, 0.0165, 0.0095),
    (0.715, "footprint"): (1.95, 1.68, 0.0530, 0.0530),
    (1.43, "footprint"): (1.86, 1.24, 0.0225, 0.0195),
    (2.86, "footprint"): (2.28, 0.80, 0.0340, 0.0135),
}


@pytest.mark.parametrize("width", [0.715, 1.43, 2.86])
def test_errors_are_those_of_the_table_or_less(width: float) -> None:
    scanner = fan(width)
    references = [
        *(truth(SHEPP_LOGAN, scanner, rays) for rays in (1, 16)),
        *(truth(BLOBS, scanner, rays) for rays in (1, 8)),
    ]
    for model in (JOSEPH, FOOTPRINT):
        A = SliceProjector(GRID, scanner, model)
        images = (edges(), edges(), smooth(), smooth())
        errors = [100 * distance(A(x)[0], y) for x, y in zip(images, references, strict=True)]
        bounds = TABLE[width, model.name]
        assert all(e <= b for e, b in zip(errors, bounds, strict=True)), (model.name, errors)


@pytest.mark.parametrize("arc", [False, True], ids=["flat", "arc"])
@pytest.mark.parametrize(
    ("pixels", "better"), [(1.0, JOSEPH), (1.5, JOSEPH), (2.0, FOOTPRINT), (3.0, FOOTPRINT)]
)
def test_the_better_model_is_the_one_that_is_chosen(
    pixels: float, better: Model, arc: bool
) -> None:
    scanner = fan(pixels * DISTANCES["source_to_detector"] / DISTANCES["source_to_axis"], arc=arc)
    assert SliceProjector(GRID, scanner).model is better
    for bodies, x in ((SHEPP_LOGAN, edges()), (BLOBS, smooth())):
        measured = truth(bodies, scanner, 16)
        errors = {
            m.name: distance(SliceProjector(GRID, scanner, m)(x)[0], measured)
            for m in (JOSEPH, FOOTPRINT)
        }
        assert min(errors, key=errors.__getitem__) == better.name, errors
