"""Slices of bodies that never were look like slices of bodies."""

import math

import pytest
import torch

from medrecon.anatomy.ct import ct_phantom, ct_stack
from medrecon.anatomy.lesion import Lesion
from medrecon.anatomy.mr import _gradient_echo, _inversion, _spin_echo, mr_phantom, mr_stack
from medrecon.anatomy.tissues import ENHANCEMENT, HOUNSFIELD, RELAXATION, Relaxation, Tissue
from medrecon.errors import InconsistentError

REGIONS = ("head", "chest", "abdomen", "pelvis")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(make, seed=0, slices=3, **settings):
    return make(seeded(seed), slices, 96, 3.7, 2.5, **settings)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("seed", range(3))
def test_ct_shows_air_fat_soft_tissue_and_bone(region, seed):
    stack = small(ct_stack, seed, region=region)
    assert stack.shape == (3, 96, 96)
    assert stack.dtype == torch.float32
    assert bool(stack.isfinite().all())
    assert float(stack.min()) >= -1024
    assert float(stack.max()) < 2500
    # between corners of air lies a body of soft tissue with bones in it
    assert float(stack[:, :3, :3].mean()) < -900
    soft = ((stack > -30) & (stack < 150)).float().mean()
    assert 0.03 < float(soft) < 0.6
    assert float((stack > 250).float().mean()) > 0.002


@pytest.mark.parametrize("seed", range(3))
def test_chests_have_lungs_and_bellies_have_none(seed):
    def lung(region):
        middle = small(ct_stack, seed, slices=1, region=region)[:, 32:64, 24:72]  # no table there
        return float(((middle > -950) & (middle < -700)).float().mean())

    assert lung("chest") > 0.15
    assert lung("pelvis") < 0.03


@pytest.mark.parametrize("region", REGIONS)
def test_mr_is_complex_with_its_percentile_at_one(region):
    stack = small(mr_stack, 2, region=region)
    assert stack.shape == (3, 96, 96)
    assert stack.dtype == torch.complex64
    assert float(torch.quantile(stack.abs(), 0.995)) == pytest.approx(1, abs=0.03)
    assert float(stack.abs()[:, :3, :3].mean()) < 0.15
    # a phase of its own: not the real image that a magnitude would be
    assert float(stack.imag.square().mean() / stack.abs().square().mean()) > 1e-3


@pytest.mark.parametrize("make", [ct_stack, mr_stack])
def test_the_same_seed_gives_the_same_stack_and_another_seed_another(make):
    assert torch.equal(small(make, 4), small(make, 4))
    assert not torch.allclose(small(make, 4).abs(), small(make, 5).abs())


@pytest.mark.parametrize("make", [ct_stack, mr_stack])
def test_the_global_generator_is_left_alone(make):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    small(make, 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("region", REGIONS)
def test_near_slices_are_alike_and_far_ones_less(region):
    thin = ct_stack(seeded(6), 5, 96, 3.7, 1.0, region=region)
    thick = ct_stack(seeded(6), 5, 96, 3.7, 20.0, region=region)

    def change(stack):
        return float((stack[1:] - stack[:-1]).square().mean().sqrt())

    assert change(thin) < 0.6 * change(thick)
    assert change(thin) < 0.35 * float(thin.std())


@pytest.mark.parametrize("make", [ct_phantom, mr_phantom])
def test_lesions_are_where_the_mask_says_and_nowhere_else(make):
    found = 0
    for seed in range(6):
        phantom = small(make, seed, region="head" if make is mr_phantom else "chest", lesions=3)
        change = (phantom.image - phantom.healthy).abs()
        mask = phantom.mask()
        assert mask.shape == phantom.image.shape
        if not phantom.lesions:
            assert float(change.max()) == 0
            continue
        found += len(phantom.lesions)
        # blur and a window of k-space reach a little beyond
        near = torch.nn.functional.max_pool2d(mask[:, None], 9, 1, 4)[:, 0] > 0
        assert float(change[~near].max()) <= 0.2 * float(change.max())
        assert float(change[near].max()) == float(change.max()) > 0
    assert found >= 6


def test_no_lesions_on_demand():
    phantom = small(ct_phantom, 3, lesions=0)
    assert phantom.lesions == ()
    assert torch.equal(phantom.image, phantom.healthy)
    assert float(phantom.mask().max()) == 0


def test_a_round_lesion_fills_its_volume_and_adds_its_contrast():
    lesion = Lesion(centre_mm=(1, 5, -4), radii_mm=(9, 9, 9), contrast=40.0)
    mask = lesion.mask((21, 48, 48), pixel_mm=1.0, slice_mm=1.0)
    assert float(mask.sum()) == pytest.approx(4 / 3 * math.pi * 9**3, rel=0.01)
    image = torch.full((21, 48, 48), 7.0)
    added = lesion.insert(image, pixel_mm=1.0, slice_mm=1.0) - image
    assert torch.allclose(added, 40 * mask, atol=1e-5)


def test_a_lesion_in_a_complex_image_keeps_its_phase():
    image = torch.polar(torch.ones(1, 32, 32), torch.full((1, 32, 32), 0.7))
    lesion = Lesion(centre_mm=(0, 0, 0), radii_mm=(5, 5, 5), contrast=0.5)
    out = lesion.insert(image, pixel_mm=1.0, slice_mm=1.0)
    assert torch.allclose(out.angle(), image.angle(), atol=1e-5)
    assert float(out[0, 16, 16].abs()) == pytest.approx(1.5, abs=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ct_stack(seeded(), 0),
        lambda: ct_stack(seeded(), 1, 8),
        lambda: mr_stack(seeded(), 1, 64, -1.0),
        lambda: mr_stack(seeded(), 1, 64, 1.0, float("nan")),
        lambda: Lesion(centre_mm=(0, 0, 0), radii_mm=(0, 1, 1), contrast=1.0).mask(
            (1, 9, 9), pixel_mm=1.0, slice_mm=1.0
        ),
        lambda: Lesion(centre_mm=(0, 0, 0), radii_mm=(1, 1, 1), contrast=1.0).insert(
            torch.zeros(9, 9), pixel_mm=1.0, slice_mm=1.0
        ),
    ],
)
def test_impossible_sizes_are_refused_in_one_sentence(call):
    with pytest.raises(InconsistentError, match=r"^[^\n]+\.$"):
        call()


def test_every_tissue_has_a_value_in_both_modalities():
    assert set(HOUNSFIELD) == set(RELAXATION) == set(Tissue)
    assert set(ENHANCEMENT) < set(Tissue)


def test_sequences_have_the_signals_of_the_bloch_equations():
    fluid, white = RELAXATION[Tissue.FLUID], RELAXATION[Tissue.WHITE]
    grey = RELAXATION[Tissue.GREY]
    t1w, t2w = _spin_echo(500, 12), _spin_echo(5000, 100)
    assert t1w(white) > t1w(grey) > t1w(fluid)
    assert t2w(fluid) > t2w(grey) > t2w(white)
    # long times and no echo: the density
    assert _spin_echo(1e9, 0)(grey) == pytest.approx(grey.density)
    # fluid is nulled at T1 ln 2 when TR is long
    assert _inversion(1e9, fluid.t1 * math.log(2), 0)(fluid) == pytest.approx(0, abs=1e-9)
    # the Ernst angle is the best one
    tissue = Relaxation(1.0, 1000, 80)
    best = math.acos(math.exp(-50 / 1000))
    signals = [_gradient_echo(50, 0, angle)(tissue) for angle in (0.8 * best, best, 1.2 * best)]
    assert max(signals) == signals[1]
