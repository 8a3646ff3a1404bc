"""Transmission likelihoods: descent, stationarity, exact counts, and no counts at all."""

from itertools import pairwise

import pytest
import torch

from medrecon.arrays import Space
from medrecon.errors import InconsistentError, UsageError
from medrecon.operators import Identity
from medrecon.operators.ct import projector
from medrecon.solvers.subsets import split_geometry, split_views
from medrecon.solvers.transmission import Transmission, os_transmission
from tests.sampling.dense import random_problem
from tests.solvers.test_sirt import FAN, GRID, HELIX, WIDE, last, random_image

BLANK = 2000.0
SCATTER = 15.0


def expected(A, x, blank=BLANK, background=SCATTER):
    return blank * torch.exp(-A(x)) + background


def poisson(mean, seed=0):
    return torch.poisson(mean, generator=torch.Generator().manual_seed(seed))


def phantom(A, scale=0.1):
    return scale * random_image(A.domain)


def whole(A, counts, blank=BLANK, background=SCATTER):
    return Transmission(A, counts, torch.full_like(counts, blank), background)


def parts(geometry, grid, counts, count, blank=BLANK, background=SCATTER):
    return [
        whole(projector(grid, g), c, blank, background)
        for g, c in zip(
            split_geometry(geometry, count), split_views(counts, geometry, count), strict=True
        )
    ]


@pytest.mark.parametrize("background", [0.0, SCATTER, 500.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_parabola_touches_the_loss_and_lies_above_it(background, dtype):
    here = torch.tensor([0.0, 1e-7, 1e-4, 3e-3, 0.1, 1.0, 4.0, 9.0], dtype=dtype)[:, None]
    there = torch.linspace(0, 12, 200, dtype=dtype).expand(8, 200)
    cells = Identity(Space((8, 200)))
    for count in (0.0, 1.0, 30.0, 1900.0, 4000.0):
        scan = whole(cells, torch.full((8, 200), count, dtype=dtype), BLANK, background)
        lines = here.expand(8, 200)
        step = there - lines
        bend = scan.curvature(lines) * step.square() / 2
        room = scan.loss(lines) + scan.slope(lines) * step + bend - scan.loss(there)
        rounding = (1e-9 if dtype == torch.float64 else 1e-4) * float(scan.loss(there).abs().max())
        assert float(room.min()) > -rounding
        tight = scan.loss(lines) + scan.slope(lines) * step + 0.9 * bend - scan.loss(there)
        assert float(tight[5:, 0].min()) < -rounding or background > SCATTER  # at l = 0 they meet


def test_the_slope_is_the_derivative_of_the_loss():
    A = projector(GRID, FAN)
    counts = poisson(expected(A, phantom(A)))
    scan = whole(A, counts)
    lines = A(phantom(A)).requires_grad_()
    (gradient,) = torch.autograd.grad(scan.loss(lines).sum(), lines)
    assert torch.allclose(scan.slope(lines), gradient, rtol=1e-9)


@pytest.mark.parametrize("background", [0.0, SCATTER, 800.0])
def test_with_one_subset_the_likelihood_never_falls(background):
    A = projector(GRID, FAN)
    counts = poisson(expected(A, phantom(A, 0.3), BLANK, background))
    scan = whole(A, counts, BLANK, background)
    values = [scan.value(p.value) for p in os_transmission([scan], iterations=60)]
    assert all(b <= a + 1e-12 * abs(a) for a, b in pairwise(values))
    assert values[-1] < values[0]


def test_at_its_end_no_allowed_move_makes_the_counts_more_likely():
    A = projector(GRID, FAN)
    counts = poisson(expected(A, phantom(A, 0.05), 200.0, 5.0))
    scan = whole(A, counts, 200.0, 5.0)
    x = last(os_transmission([scan], iterations=4000))
    gradient = A.adjoint(scan.slope(A(x)))
    typical = float(A.adjoint(scan.slope(A(x)).abs()).mean())
    assert (x == 0).any()  # else the constraint proves nothing
    assert (x >= 0).all()
    assert (gradient[x > 1e-6].abs() < 1e-5 * typical).all()
    assert (gradient[x == 0] > -1e-5 * typical).all()


@pytest.mark.parametrize("count", [1, 6])
def test_exact_counts_give_the_exact_image(count):
    A = projector(GRID, FAN)
    truth = phantom(A)
    subsets = parts(FAN, GRID, expected(A, truth), count)
    x = last(os_transmission(subsets, iterations=3000 // count))
    assert torch.allclose(x, truth, atol=1e-3 * 0.1)


def test_rays_without_a_single_count_leave_a_finite_image():
    A = projector(GRID, FAN)
    truth = phantom(A, 0.2)
    truth[0, 3:5, 3:5] = 6.0  # metal
    counts = poisson(expected(A, truth, 300.0, 0.0))
    assert (counts == 0).any()
    scan = whole(A, counts, 300.0, 0.0)
    steps = list(os_transmission([scan], iterations=200))
    values = [scan.value(p.value) for p in steps]
    assert torch.isfinite(steps[-1].value).all()
    assert all(b <= a + 1e-12 * abs(a) for a, b in pairwise(values))
    inside = steps[-1].value[0, 3:5, 3:5].mean()
    outside = steps[-1].value[truth < 1]
    assert inside > 1.0
    assert abs(float(outside.mean() - truth[truth < 1].mean())) < 0.05
    several = last(os_transmission(parts(FAN, GRID, counts, 6, 300.0, 0.0), iterations=50))
    assert torch.isfinite(several).all()


def test_nothing_counted_anywhere_still_gives_numbers():
    A = projector(GRID, FAN)
    scan = whole(A, torch.zeros(A.codomain.shape, dtype=torch.float32), 100.0, 0.0)
    x = last(os_transmission([scan], iterations=300))
    assert torch.isfinite(x).all()
    assert x.mean() > 0.1


def test_dead_cells_are_left_out():
    A = projector(GRID, FAN)
    truth = phantom(A)
    counts = expected(A, truth)
    blank = torch.full_like(counts, BLANK)
    blank[..., 7] = 0
    counts[..., 7] = 1e6
    x = last(os_transmission([Transmission(A, counts, blank)], iterations=5))
    clean = counts.clone()
    clean[..., 7] = 0
    same = last(os_transmission([Transmission(A, clean, blank, 0.0)], iterations=5))
    assert torch.equal(x, same)


def test_six_subsets_get_as_far_in_one_pass_as_one_in_about_six():
    A = projector(GRID, FAN)
    truth = phantom(A)
    counts = expected(A, truth)
    scan, subsets = whole(A, counts), parts(FAN, GRID, counts, 6)
    best = scan.value(truth)

    def left(steps):
        return scan.value(last(steps)) - best

    fast = left(os_transmission(subsets, iterations=2))
    assert fast < 0.5 * left(os_transmission([scan], iterations=2))
    assert fast < left(os_transmission([scan], iterations=8))


def test_it_works_on_batches_and_helices():
    A = projector(WIDE, HELIX)
    truth = 0.1 * random_image(A.domain, 2)
    counts = expected(A, truth)
    together = last(os_transmission(parts(HELIX, WIDE, counts, 4), iterations=4))
    for k in range(2):
        alone = last(os_transmission(parts(HELIX, WIDE, counts[k], 4), iterations=4))
        assert torch.allclose(together[k], alone, atol=1e-12)
    start = (together - truth).norm()
    more = last(os_transmission(parts(HELIX, WIDE, counts, 4), iterations=4, start=together))
    assert (more - truth).norm() < start


def test_impossible_counts_are_refused():
    A = projector(GRID, FAN)
    counts = expected(A, phantom(A))
    with pytest.raises(InconsistentError, match="counts"):
        whole(A, -counts)
    with pytest.raises(InconsistentError, match="blank"):
        whole(A, counts, -1.0)
    with pytest.raises(InconsistentError, match="zero everywhere"):
        whole(A, counts, 0.0)
    with pytest.raises(InconsistentError, match="background"):
        whole(A, counts, background=float("nan"))
    signed, values, _ = random_problem()
    with pytest.raises(UsageError, match="negative entries"):
        last(os_transmission([whole(signed, values.abs())], iterations=1))
