"""Objects wider than the field of view."""

from __future__ import annotations

import pytest
import torch

from medrecon.analytic import analytic
from medrecon.analytic.truncation import extrapolated
from medrecon.errors import InconsistentError, UsageError
from medrecon.geometry.ct import FanBeam, equiangular
from medrecon.grid import Grid
from tests.contracts import distance
from tests.oracles import Ellipsoid, centres, line_integrals

WIDE = FanBeam(
    angles=equiangular(180),
    source_to_axis=200.0,
    source_to_detector=300.0,
    columns=150,
    column_spacing=1.5,
)
NARROW = FanBeam(**vars(WIDE) | {"columns": 70})
GRID = Grid.centred((1, 40, 40), (1.0, 1.5, 1.5))
BODY = Ellipsoid((4.0, -3.0), (55.0, 48.0), 0.02)
SEEN = torch.from_numpy(Ellipsoid((0.0, 0.0), (28.0, 28.0)).at(centres(GRID)[..., :2])) > 0


def test_the_level_inside_a_truncated_object_is_nearly_right() -> None:
    y = line_integrals(BODY, NARROW, subcells=2)[None]
    cut = analytic(y, NARROW, GRID)[SEEN] / BODY.value - 1
    carried = analytic(*extrapolated(y, NARROW, 40), GRID)[SEEN] / BODY.value - 1
    assert float(cut.mean()) > 0.2
    assert abs(float(carried.mean())) < 0.05
    assert float(carried.std()) < 0.3 * float(cut.std())


def test_measured_columns_stay_where_they_are() -> None:
    y = line_integrals(BODY, NARROW)
    more, scan = extrapolated(y, NARROW, 40)
    assert scan == WIDE
    assert distance(more[:, 40:110], y) == 0
    assert (more[:, 110:].diff(dim=1) <= 0).all()
    assert float(more[:, -1].max()) < 0.01 * float(y.max())


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_half_fan_is_carried_on_at_its_outer_end(side: float) -> None:
    half = FanBeam(**vars(WIDE) | {"columns": 60, "column_offset": side * 30.0})
    full = FanBeam(**vars(WIDE) | {"columns": 120})
    small = Ellipsoid((4.0, -3.0), (20.0, 17.0), 0.02)
    y = line_integrals(small, half)
    more, scan = extrapolated(y, half, 20)
    assert scan.columns == 80
    assert scan.column_offset == side * 45.0
    image = analytic(more[None], scan, GRID)
    assert distance(image, analytic(line_integrals(small, full)[None], full, GRID)) < 0.05


def test_measurements_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InconsistentError, match="69 columns"):
        extrapolated(torch.zeros(180, 69), NARROW, 4)
    with pytest.raises(UsageError, match="negative"):
        extrapolated(torch.zeros(180, 70), NARROW, -1)
