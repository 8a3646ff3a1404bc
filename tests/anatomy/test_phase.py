"""Phases are as rough as they promise, go on from slice to slice and have fields of dipoles."""

import math

import pytest
import torch

from medrecon.anatomy.draw import Draw
from medrecon.anatomy.fields import bumps
from medrecon.anatomy.phase import detailed_phase, dipole_field, smooth_phase, sphere_field


def draws(seed=0):
    return Draw(torch.Generator().manual_seed(seed))


def tissue(slices):
    y, x = torch.meshgrid(torch.linspace(0, 6, 64), torch.linspace(0, 6, 64), indexing="ij")
    return (((x.floor() + y.floor()) % 2 + 0.2) / 1.2).expand(slices, 64, 64)


def test_a_detailed_phase_has_what_a_smooth_one_has_not():
    def roughness(phase):
        return float(torch.diff(phase, n=2, dim=2).abs().mean())

    smooth = [roughness(smooth_phase(draws(i), tissue(1))) for i in range(8)]
    detailed = [roughness(detailed_phase(draws(i), tissue(1))) for i in range(8)]
    assert max(smooth) < 0.03
    assert sorted(detailed)[4] > 2 * sorted(smooth)[4]


@pytest.mark.parametrize("kind", [smooth_phase, detailed_phase])
def test_phases_of_near_slices_are_alike_and_of_far_ones_less(kind):
    near, far = 0.0, 0.0
    for seed in range(12):
        phase = kind(draws(seed), tissue(9))
        assert phase.shape == (9, 64, 64)
        shape = phase - phase.mean((1, 2), keepdim=True)
        near += float((shape[1:] - shape[:-1]).square().mean())
        far += float((shape[-1] - shape[0]).square().mean())
    assert 0 < near < 0.2 * far


def test_fields_drawn_for_one_slice_are_those_drawn_for_a_stack_of_one():
    one = draws(3).bumps(5, (20, 30))
    assert torch.equal(one, bumps(draws(3).generator, (1, 20, 30), 5, 4.0)[0])


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_a_sphere_has_the_field_of_a_dipole_far_away(angle):
    def at(distance, turn):
        y, x = distance * math.sin(angle + turn), distance * math.cos(angle + turn)
        place = torch.tensor(y), torch.tensor(x)
        return float(sphere_field(*place, 0.1, angle, torch.tensor(1.0)))

    for distance in (2.0, 4.0):
        unit = (0.1 / distance) ** 3
        assert at(distance, 0.0) == pytest.approx(2 * unit, rel=0.01)
        assert at(distance, math.pi / 2) == pytest.approx(-unit, rel=0.01)
        magic = math.acos(math.sqrt(1 / 3))  # where a dipole has no field
        assert at(distance, magic) == pytest.approx(0, abs=0.01 * unit)


def test_a_cylinder_across_the_field_shifts_it_as_theory_says():
    # long cylinder across B0: inside (1/3 - 1/2) chi; outside (a^2 / 2 r^2) cos(2 phi) chi
    n, a = 256, 20
    at = torch.arange(n) - n / 2
    r2 = at[:, None] ** 2 + at**2
    source = (r2 < a * a).float()[None]
    field = dipole_field(source, 0.0)
    assert float(field[0, n // 2, n // 2]) == pytest.approx(-1 / 6, abs=0.01)
    along, across = field[0, n // 2, n // 2 + 40], field[0, n // 2 + 40, n // 2]
    expected = 0.5 * (a / 40) ** 2
    assert float(along) == pytest.approx(expected, abs=0.015)
    assert float(across) == pytest.approx(-expected, abs=0.015)
