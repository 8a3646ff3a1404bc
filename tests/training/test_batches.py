"""Batches: a function of seed and step, with the noise, neighbours and positions they claim."""

import math

import pytest
import torch
from torch.utils.data import DataLoader

from medrecon.priors.network import position_channels
from medrecon.training.augment import Turn, changes
from medrecon.training.batches import Batches, add_noise, cut, noise_levels, patch_size
from medrecon.training.randomness import Stream, draw_of
from medrecon.training.settings import Augmentation, NoiseLaw
from medrecon.training.sources import source_of
from medrecon.training.stack import Stack, alone


def draws(step=0):
    return draw_of(0, Stream.BATCH, step)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_batch_depends_on_seed_and_step_alone(small, blobs, modality):
    recipe = small(modality, data={"synthetic": 0.3})

    def batches():
        return Batches(source_of(recipe, blobs(modality)), recipe, 8)

    forward, backward = batches(), batches()
    one = [forward[step] for step in range(3)]
    other = [backward[step] for step in reversed(range(3))][::-1]
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(a, b, strict=True))
    assert not torch.equal(one[0].noisy, one[2].noisy)
    assert one[0].clean.shape == (8, 1 if modality == "CT" else 2, 16, 16)
    assert one[1].neighbours.shape == (2, 2 if modality == "CT" else 4, 32, 32)


def test_workers_change_nothing(small, blobs):
    data = Batches(source_of(small(), blobs()), small(), 8)
    plain = [data[step] for step in (4, 5)]
    loader = DataLoader(data, batch_size=None, sampler=range(4, 6), num_workers=1)
    for a, b in zip(plain, loader, strict=True):
        assert all(torch.equal(u, v) for u, v in zip(a, b, strict=True))


def test_the_position_of_a_patch_is_where_it_was_cut():
    position = position_channels(40, 24)
    image = position[0] + 10 * position[1]
    patch, where = cut(alone(image), 16, draws())
    assert patch.shape == (3, 1, 16, 16)
    assert torch.equal(patch[1, 0], where[0] + 10 * where[1])


def test_a_slice_smaller_than_the_patch_is_continued_by_its_edge():
    patch, where = cut(alone(torch.arange(12.0).view(3, 4)), 8, draws())
    assert patch.shape == (3, 1, 8, 8)
    assert where.shape == (2, 8, 8)
    assert torch.equal(patch[1, 0, 2:, 3:], torch.full((6, 5), 11.0))


def test_every_slice_has_noise_of_its_own_and_the_deviation_it_says():
    sigma = torch.tensor([0.1, 2.0])
    clean = torch.zeros(2, 3, 1, 64, 64)
    present = torch.tensor([[True, True], [True, False]])
    noisy, around = add_noise(clean, present, sigma, draws())
    assert noisy.std((1, 2, 3)) == pytest.approx(sigma, rel=0.03)
    assert around[0].std((1, 2)) == pytest.approx(torch.tensor([0.1, 0.1]), rel=0.05)
    together = torch.stack([noisy[0, 0], *around[0]]).flatten(1)
    correlation = torch.corrcoef(together) - torch.eye(3)
    assert correlation.abs().max() < 0.06  # 4096 pixels: deviation 0.016
    assert torch.equal(around[1, 1], noisy[1, 0])  # an absent one is the slice itself
    assert not torch.equal(around[1, 0], noisy[1, 0])


def test_noise_levels_are_log_normal_and_some_are_uniform():
    law = NoiseLaw()
    levels = noise_levels(law, 40000, draws()).log()
    inside = 0.9 * 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))  # below mean + deviation / 2
    low, high = math.log(law.lowest), math.log(law.highest)
    inside += 0.1 * (law.log_mean + law.log_std / 2 - low) / (high - low)
    below = float((levels < law.log_mean + law.log_std / 2).float().mean())
    assert below == pytest.approx(inside, abs=0.01)  # deviation of the share: 0.0025
    assert levels.min() >= low - 1e-6
    assert levels.max() <= high + 1e-6


def test_neighbours_are_shown_as_often_as_the_recipe_says(small, blobs):
    recipe = small(patches={"neighbours": 0.5, "one_neighbour": 0.4})
    batches = Batches(source_of(recipe, blobs(slices=9, patients=1)), recipe, None)
    shown = torch.cat(
        [
            (b.neighbours - b.noisy).abs().amax((2, 3)) > 0
            for b in (batches[2 * i] for i in range(60))
        ]
    )
    both, one = shown.all(1).float().mean(), (shown.any(1) & ~shown.all(1)).float().mean()
    # 7 of 9 slices have neighbours; half of these show them; two in five of those lose one
    assert float(both + one) == pytest.approx(7 / 9 * 0.5, abs=0.07)
    assert float(one / (both + one)) == pytest.approx(0.4, abs=0.11)


def test_patches_follow_the_stages(small):
    stages = [{"until": 0.5, "sizes": [16]}, {"until": 1.0, "sizes": [16, 32]}]
    recipe = small(patches={"stages": stages})
    assert [patch_size(recipe, step, 8) for step in range(8)] == [16] * 5 + [32, 16, 32]
    assert patch_size(recipe, 7, None) == 16


def test_a_turn_moves_the_anatomy_as_a_rotation_does():
    y, x = torch.meshgrid(torch.arange(65.0), torch.arange(65.0), indexing="ij")
    blob = torch.exp(-((x - 48) ** 2 + (y - 32) ** 2) / 30)
    turned = Turn(1.0, zoom=0.0)(alone(blob), draws()).values[1]
    cx, cy = (float((turned * c).sum() / turned.sum()) - 32 for c in (x, y))
    assert math.hypot(cx, cy) == pytest.approx(16, abs=0.05)  # as far from the middle as before
    assert 0.3 < abs(math.degrees(math.atan2(cy, cx))) <= 10
    assert float(turned.max()) <= float(blob.max())


def test_ct_keeps_its_hounsfield_units(blobs):
    stack = blobs().at(2)
    settings = Augmentation(mirror=1.0)
    changed = stack
    for change in changes(settings, "CT"):
        changed = change(changed, draws())
    assert torch.equal(changed.values[1].flatten().sort()[0], stack.values[1].flatten().sort()[0])


def test_mr_becomes_complex_with_the_magnitude_it_had(blobs):
    stack = blobs("MR").at(2)
    settings = Augmentation(mirror=0.0, detailed_phase=1.0)
    changed = stack
    for change in changes(settings, "MR"):
        changed = change(changed, draws(1))
    assert changed.values.is_complex()
    magnitude = changed.values.abs()
    assert torch.allclose(magnitude[1], stack.values[1].abs(), atol=1e-6)
    phases = changed.values[[0, 2]] * changed.values[1].conj()
    assert 1e-3 < float(phases.angle().abs().mean()) < 1.0  # neighbours' phases differ a little


def test_complex_anatomy_keeps_its_phase():
    values = torch.polar(torch.rand(3, 16, 16), torch.rand(3, 16, 16))
    stack = Stack(values, torch.ones(2, dtype=torch.bool))
    settings = Augmentation(mirror=0.0, contrast=1.0, coarser=1.0, turn=1.0, detailed_phase=1.0)
    changed = stack
    for change in changes(settings, "MR")[1:]:
        changed = change(changed, draws())
    assert torch.equal(changed.values, values)
