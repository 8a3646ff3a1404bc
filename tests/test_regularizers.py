"""Total variation: value, proximal map, and what the voxel size does."""

import torch

from medrecon.arrays import Space
from medrecon.operators.difference import Difference
from medrecon.regularizers import TotalVariation


def _tv(shape=(4, 5, 6), spacing=(2.0, 1.0, 1.0), axes=(0, 1, 2), weight=0.7, is_complex=False):
    return TotalVariation(Difference(Space(shape, is_complex), spacing, axes), weight)


def test_the_value_of_a_step_along_z_is_its_height_per_mm_times_its_area():
    x = torch.zeros(4, 5, 6)
    x[2:] = 3.0
    assert abs(_tv().value(x) - 0.7 * 3.0 / 2.0 * 30) < 1e-5


def test_the_prox_minimises_its_own_objective():
    tv = _tv(weight=1.0)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(tv.operator.codomain.shape, generator=generator, dtype=torch.float64)
    d = tv.prox(v, 0.3)

    def objective(d):
        return 0.3 * float(torch.linalg.vector_norm(d, dim=0).sum()) + 0.5 * float(
            (d - v).square().sum()
        )

    best = objective(d)
    for scale in (1e-3, 1e-2, 0.1):
        other = d + scale * torch.randn(d.shape, generator=generator, dtype=torch.float64)
        assert objective(other) > best


def test_the_prox_turns_complex_values_without_changing_their_phase():
    tv = _tv(is_complex=True, axes=(0,), weight=1.0)
    v = torch.full(tv.operator.codomain.shape, 2.0 + 2.0j, dtype=torch.complex64)
    d = tv.prox(v, 1.0)
    assert torch.allclose(d.angle(), v.angle())
    assert torch.allclose(d.abs(), v.abs() - 1)


def test_the_prox_shrinks_small_slopes_to_zero():
    tv = _tv(weight=1.0)
    assert torch.equal(
        tv.prox(torch.full(tv.operator.codomain.shape, 0.01), 1.0),
        torch.zeros(tv.operator.codomain.shape),
    )
