"""Lesions, sweeps and stopping rules."""

import math

import pytest
import torch

from medrecon.benchmark.case import Lesion
from medrecon.benchmark.classical import SETTLED, Method, best_weight, make, sweep
from medrecon.benchmark.images import ball
from medrecon.benchmark.lesions import contrast, place
from medrecon.benchmark.measured import measure
from medrecon.benchmark.memory import Peak
from medrecon.benchmark.scan import Scan
from medrecon.benchmark.score import psnr, quality, score
from medrecon.errors import InconsistentError
from medrecon.grid import Grid
from medrecon.volume import Unit, Volume
from tests.benchmark.small import blob, case


def ended(generator):
    events = []
    while True:
        try:
            events.append(next(generator))
        except StopIteration as end:
            return end.value, events


def two_balls():
    """Lungs of 20 and 30 mm in water, on 4 mm slices."""
    grid = Grid.centred((9, 50, 60), (4.0, 2.0, 2.0))
    data = torch.zeros(grid.shape)
    volume = Volume(data, grid, Unit.HU)
    for x, radius in ((-30.0, 20.0), (25.0, 30.0)):
        data -= 900 * ball(volume, torch.tensor([x, 0.0, 0.0], dtype=torch.float64), radius)
    return Volume(data, grid, Unit.HU)


NODULE = Lesion(low=-1000.0, high=-700.0, contrast=700.0, radius_mm=6.0)


def test_a_lesion_is_put_in_the_middle_of_the_widest_tissue_of_its_kind():
    placed = place(two_balls(), NODULE)
    assert (placed.center - torch.tensor([25.0, 0.0, 0.0])).abs()[:2].max() <= 4
    inserted = placed.insert(two_balls()).data - two_balls().data
    volume = 4 * 2 * 2 * float(inserted.sum()) / 700
    assert volume == pytest.approx(4 / 3 * math.pi * 6**3, rel=0.1)
    assert inserted[placed.core(two_balls())].min() == 700


def test_a_lesion_that_fits_nowhere_is_refused():
    with pytest.raises(InconsistentError, match="wide enough"):
        place(two_balls(), Lesion(low=-1000.0, high=-700.0, contrast=1.0, radius_mm=40.0))


def test_two_slices_are_enough_to_find_a_place():
    thin = two_balls()
    part = Volume(thin.data[4:6], thin.grid.slab(4, 6), Unit.HU)
    assert float(place(part, NODULE).center[0]) == pytest.approx(25.0, abs=4)


@pytest.mark.parametrize(("kept", "made_up"), [(1.0, 0.0), (0.6, 0.0), (1.0, 0.3)])
def test_contrast_tells_what_is_kept_from_what_is_invented(kept, made_up):
    core = torch.zeros(4, 4, 4, dtype=torch.bool)
    core[1:3, 1:3, 1:3] = True
    truth = torch.randn(4, 4, 4)
    lesion = 50.0 * core
    b = truth + made_up * lesion
    found = contrast(b + kept * lesion, b, truth + lesion, truth, core)
    assert found == {"recovery": pytest.approx(kept), "invented": pytest.approx(made_up)}


@pytest.mark.parametrize("optimum", [0.7, 10.0, 400.0])
def test_a_sweep_climbs_to_the_best_weight_and_tries_both_sides(optimum):
    asked = []

    def trial(weight):
        yield
        asked.append(weight)
        return -abs(math.log(weight / optimum))

    found, _ = ended(sweep(10.0, trial))
    best = best_weight(found)
    assert abs(math.log2(best / optimum)) <= 0.5 + 1e-9
    assert best / 2 in found
    assert best * 2 in found
    assert len(asked) == len(set(asked))


def test_a_sweep_ends_where_the_weight_stops_to_matter():
    def trial(weight):
        yield
        return 30.0 - min(weight, 100.0) * 1e-4

    found, _ = ended(sweep(64.0, trial))
    assert sorted(found) == [32.0, 64.0, 128.0]


@pytest.fixture(scope="module")
def scan():
    protocol = case("fan", slices=2).load(2, ("prior=null", "sampler=null"))
    return Scan(measure(blob(), protocol, slices=2, seed=0), protocol, "cpu")


def test_a_converged_method_ends_where_it_stands_still(scan):
    problem = scan.problem()
    made, events = ended(make(Method("tv", 200, 40.0), problem, 40.0, quick=False))
    assert made.facts["settled"]
    assert len(events) < 200
    more, _ = ended(make(Method("tv", 30, 40.0), scan.problem(), 40.0, quick=False))
    assert quality(problem, made.image) >= quality(problem, more.image) - SETTLED


def test_a_method_out_of_iterations_says_that_it_has_not_settled(scan):
    made, events = ended(make(Method("tv", 200, 40.0), scan.problem(), 40.0, quick=True))
    assert len(events) == 6
    assert not made.facts["settled"]


def test_the_best_iterate_counts_where_stopping_early_is_the_method(scan):
    problem = scan.problem()
    made, _ = ended(make(Method("sirt", 40, early=True), problem, None, quick=False))
    seen = []
    for most in (10, 20, 30, 40):
        short, _ = ended(make(Method("sirt", most, early=True), scan.problem(), None, quick=False))
        seen.append(quality(problem, short.image))
    assert quality(problem, made.image) == pytest.approx(max(seen), abs=0.05)


def test_the_best_filter_is_no_worse_than_the_others(scan):
    found = {}
    for window in ("ramlak", "cosine", "hann"):
        problem = scan.problem(window)
        found[window] = quality(problem, problem.direct["fbp"]())
    best = scan.problem(scan.window)
    assert quality(best, best.direct["fbp"]()) >= max(found.values())


def test_figures_are_those_of_their_definitions(scan):
    problem = scan.problem()
    volume = problem.to_volume(problem.direct["fbp"]())
    row = score(volume, scan.study, 2600.0)
    error = (volume.data - scan.study.reference).double()
    assert row["psnr"] == pytest.approx(
        20 * math.log10(2600 / error.square().mean().sqrt()), abs=1e-3
    )
    slices = [psnr(a, b, 2600.0) for a, b in zip(volume.data, scan.study.reference, strict=True)]
    assert row["planes"]["axial"]["psnr"] == pytest.approx(sum(slices) / 2, abs=1e-3)
    assert row["nrmse"] == pytest.approx(
        float(error.norm() / scan.study.reference.norm()), abs=1e-5
    )


def test_peak_memory_is_that_since_the_start():
    first = Peak("cpu")
    if first.megabytes() is None:
        pytest.skip("this system does not tell the peak of a process since a moment")
    before = Peak("cpu").megabytes()
    big = torch.ones(50_000_000)
    during = first.megabytes()
    del big
    after = Peak("cpu").megabytes()
    assert during - before > 150
    assert after < during - 150
