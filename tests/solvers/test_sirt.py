"""SIRT and SART against dense solutions, each other, and what theory says of every step."""

from itertools import pairwise

import pytest
import torch

from medrecon.errors import InconsistentError, UsageError
from medrecon.geometry import ConeBeam, FanBeam, ParallelBeam
from medrecon.geometry.ct import equiangular
from medrecon.grid import Grid
from medrecon.operators.ct import projector
from medrecon.solvers.progress import nonnegative
from medrecon.solvers.sirt import Subset, os_sart, sirt
from medrecon.solvers.subsets import (
    as_measured,
    bit_reversed,
    golden_angle,
    split_geometry,
    split_views,
)
from tests.oracles import dense
from tests.sampling.dense import Dense, random_problem

GRID = Grid.centred((1, 8, 8), (1.0, 1.0, 1.0))
FAN = FanBeam(
    angles=equiangular(24),
    source_to_axis=40.0,
    source_to_detector=60.0,
    columns=22,
    column_spacing=0.9,
)
PARALLEL = ParallelBeam(
    angles=equiangular(12, arc=torch.pi), columns=14, column_spacing=0.9, column_offset=0.2
)
HELIX = ConeBeam.helical(
    pitch=6.0,
    turns=2,
    views_per_turn=12,
    source_to_axis=40.0,
    source_to_detector=60.0,
    rows=8,
    columns=14,
    row_spacing=1.4,
    column_spacing=1.4,
)
WIDE = Grid.centred((10, 8, 8), (1.2, 1.0, 1.0))


def last(steps):
    *_, final = steps
    return final.value


def random_image(space, *batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*batch, *space.shape, generator=generator, dtype=torch.float64)


def noisy(A, *batch, level=0.2):
    clean = A(random_image(A.domain, *batch))
    generator = torch.Generator().manual_seed(1)
    return clean + level * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)


def scan(geometry, grid, y, count):
    parts = split_geometry(geometry, count)
    values = split_views(y, geometry, count)
    return [Subset(projector(grid, g), v) for g, v in zip(parts, values, strict=True)]


def weighted_least_squares(A, y, weights):
    M, w = dense(A), weights.flatten()
    return torch.linalg.solve(M.T @ (w[:, None] * M), M.T @ (w * y.flatten())).view(A.domain.shape)


def test_sirt_ends_at_the_least_squares_solution_weighted_by_the_sums_of_rows():
    A = projector(GRID, FAN)
    y = noisy(A)
    sums = dense(A).sum(1)
    weights = torch.where(sums > 0, 1 / sums, 0.0)
    exact = weighted_least_squares(A, y, weights)
    solution = last(sirt(A, y, iterations=6000, relaxation=1.9))
    assert torch.allclose(solution, exact, atol=1e-6)


def test_with_inverse_variances_sirt_ends_at_the_statistical_solution():
    A = projector(GRID, FAN)
    y = noisy(A)
    weights = 0.1 + random_image(A.codomain, seed=3)
    exact = weighted_least_squares(A, y, weights)
    solution = last(sirt(A, y, iterations=8000, relaxation=1.9, weights=weights))
    assert torch.allclose(solution, exact, atol=1e-5)


@pytest.mark.parametrize("relaxation", [0.5, 1.0, 1.9])
@pytest.mark.parametrize("constraint", [None, nonnegative])
def test_sirt_never_fits_the_data_worse(relaxation, constraint):
    A = projector(GRID, FAN)
    y = noisy(A, level=2.0)
    subset = Subset(A, y)
    more = {} if constraint is None else {"constraint": constraint}
    steps = sirt(A, y, iterations=40, relaxation=relaxation, **more)
    misfits = [float((subset.effective_weights * (y - A(p.value)).square()).sum()) for p in steps]
    assert all(a >= b - 1e-10 * a for a, b in pairwise(misfits))
    assert misfits[-1] < misfits[0]


def test_sirt_with_a_constraint_ends_where_no_allowed_move_helps():
    A = projector(GRID, FAN)
    y = noisy(A, level=3.0)
    x = last(sirt(A, y, iterations=4000, relaxation=1.9, constraint=nonnegative))
    slope = Subset(A, y).direction(x)  # downhill
    assert (x >= 0).all()
    assert (x == 0).any()
    assert (slope[x > 1e-9].abs() < 1e-6).all()
    assert (slope[x == 0] < 1e-6).all()


def test_one_subset_is_sirt_itself():
    A = projector(GRID, FAN)
    y = noisy(A)
    subsets = scan(FAN, GRID, y, 1)
    for a, b in zip(
        sirt(A, y, iterations=5, relaxation=0.7),
        os_sart(subsets, iterations=5, relaxation=0.7),
        strict=True,
    ):
        assert torch.equal(a.value, b.value)


@pytest.mark.parametrize("count", [4, 24], ids=["four subsets", "SART"])
@pytest.mark.parametrize("relaxation", [0.6, 1.0, 1.5])
def test_consistent_data_are_solved_exactly(count, relaxation):
    A = projector(GRID, FAN)
    truth = random_image(A.domain)
    subsets = scan(FAN, GRID, A(truth), count)
    found = last(os_sart(subsets, iterations=1200, relaxation=relaxation))
    assert torch.allclose(found, truth, atol=1e-4)


def test_inconsistent_data_converge_where_the_relaxation_falls():
    A = projector(GRID, FAN)
    y = noisy(A)
    subsets = scan(FAN, GRID, y, 6)
    constant = [p.residual for p in os_sart(subsets, iterations=300)]
    falling = [p.residual for p in os_sart(subsets, iterations=300, relaxation=lambda k: 1 / k)]
    assert constant[-1] < 1e-3  # the end of a pass is a fixed point of the cycle ...
    exact = last(sirt(A, y, iterations=6000, relaxation=1.9))
    cycle = last(os_sart(subsets, iterations=2000))
    shrunk = last(os_sart(subsets, iterations=2000, relaxation=lambda k: min(1.0, 60 / k)))
    assert (cycle - exact).norm() > 3 * (shrunk - exact).norm()  # ... but not the solution
    assert falling[-1] < constant[0]


@pytest.mark.parametrize("count", [4, 12])
def test_n_subsets_get_as_far_in_one_pass_as_sirt_in_n_iterations(count):
    grid = Grid.centred((1, 24, 24), (1.0, 1.0, 1.0))
    geometry = FanBeam(
        angles=equiangular(48),
        source_to_axis=120.0,
        source_to_detector=180.0,
        columns=60,
        column_spacing=1.0,
    )
    A = projector(grid, geometry)
    truth = torch.zeros(A.domain.shape, dtype=torch.float64)
    truth[0, 6:16, 8:19] = 1.0
    y = A(truth)

    def error(steps):
        return float((last(steps) - truth).norm() / truth.norm())

    subsets = scan(geometry, grid, y, count)
    for passes in (1, 2):
        fast = error(os_sart(subsets, iterations=passes))
        slow = [
            error(sirt(A, y, iterations=k))
            for k in (passes, round(0.7 * count * passes), count * passes)
        ]
        assert fast < 0.8 * slow[0]  # than as many iterations of SIRT
        assert slow[2] / 1.1 < fast < slow[1] * 1.1  # about n times as far


@pytest.mark.parametrize(
    ("grid", "geometry"), [(GRID, PARALLEL), (WIDE, HELIX)], ids=["parallel", "helix"]
)
def test_a_batch_is_solved_as_its_members_are_alone(grid, geometry):
    A = projector(grid, geometry)
    y = noisy(A, 2, level=0.0)
    together = last(os_sart(scan(geometry, grid, y, 3), iterations=3))
    for k in range(2):
        alone = last(os_sart(scan(geometry, grid, y[k], 3), iterations=3))
        assert torch.allclose(together[k], alone, atol=1e-12)


def test_a_helix_is_reconstructed_by_ordered_subsets():
    A = projector(WIDE, HELIX)
    truth = torch.zeros(A.domain.shape, dtype=torch.float64)
    truth[3:7, 2:6, 3:7] = 1.0
    subsets = scan(HELIX, WIDE, A(truth), 6)
    found = last(os_sart(subsets, iterations=60, constraint=nonnegative))
    assert float((found - truth).norm() / truth.norm()) < 0.1


def test_voxels_that_no_ray_sees_stay_as_they_start():
    matrix = torch.rand(7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix[:, 5] = 0
    matrix[2] = 0  # and a ray that misses the volume
    A = Dense(matrix, 1, (4, 3))
    y = A(torch.ones(A.domain.shape, dtype=torch.float64))
    y[0, 2] = 1e3
    start = torch.full(A.domain.shape, 0.25, dtype=torch.float64)
    x = last(sirt(A, y, iterations=2000, start=start))
    assert x.flatten()[5] == 0.25
    assert (A(x)[0] - y[0])[torch.arange(7) != 2].abs().max() < 1e-3


def test_many_subsets_and_few_take_the_same_steps(monkeypatch):
    A = projector(GRID, FAN)
    subsets = scan(FAN, GRID, noisy(A), 8)
    kept = last(os_sart(subsets, iterations=3))
    monkeypatch.setattr("medrecon.solvers.sirt._KEPT", 3)
    assert torch.equal(last(os_sart(subsets, iterations=3)), kept)


@pytest.mark.parametrize("order", [as_measured, bit_reversed, golden_angle])
@pytest.mark.parametrize("count", [1, 2, 7, 16, 90])
def test_every_order_visits_every_subset_once(order, count):
    assert sorted(order(count)) == list(range(count))


@pytest.mark.parametrize("order", [bit_reversed, golden_angle])
def test_the_first_visits_are_spread_over_the_scan(order):
    for first in (2, 4, 8, 16):
        gaps = [b - a for a, b in pairwise([*sorted(order(64)[:first]), 64])]
        assert max(gaps) <= 2 * 64 / first


def test_subsets_are_the_views_of_their_geometries():
    for grid, geometry in ((GRID, FAN), (WIDE, HELIX)):
        y = projector(grid, geometry)(random_image(projector(grid, geometry).domain, 2))
        for g, part in zip(split_geometry(geometry, 5), split_views(y, geometry, 5), strict=True):
            A = projector(grid, g)
            assert part.shape[-A.codomain.ndim :] == A.codomain.shape
            assert torch.allclose(part, A(random_image(A.domain, 2)), atol=1e-10)


def test_what_cannot_work_is_refused():
    A = projector(GRID, FAN)
    y = noisy(A)
    with pytest.raises(UsageError, match="25"):
        split_geometry(FAN, 25)
    with pytest.raises(InconsistentError, match="NaN"):
        Subset(A, y * float("nan"))
    with pytest.raises(InconsistentError, match="weights"):
        Subset(A, y, -torch.ones_like(y))
    signed, values, _ = random_problem()
    with pytest.raises(UsageError, match="negative entries"):
        last(sirt(signed, values, iterations=1))
    signed, values, _ = random_problem(is_complex=True)
    with pytest.raises(UsageError, match="real"):
        Subset(signed, values)
