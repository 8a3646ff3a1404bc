"""Measurements in two parts, and which of them a scan can spare."""

import math

import numpy as np
import pytest
import torch

from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, ConeBeam, FanBeam, NonCartesian
from medrecon.geometry.ct import equiangular
from medrecon.safety.groups import group_axes, kind_of_groups, split
from medrecon.safety.held_out import hold_out, measured_groups
from tests.sampling.dense import Dense, random_problem


class _Shaped(Dense):
    """Measurements of any shape, for what only looks at them."""

    def __init__(self, shape, is_complex=False):
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "complex", is_complex)

    @property
    def codomain(self):
        from medrecon.arrays import Space

        return Space(self.shape, self.complex)


def _data(shape, is_complex=False, seen=None):
    y = torch.ones(shape, dtype=torch.complex64 if is_complex else torch.float32)
    if seen is not None:
        y = y * seen
    return DataTerm(_Shaped(tuple(shape), is_complex), y, 1.0)


def _fan(views, arc):
    return FanBeam(
        angles=equiangular(views, arc=arc),
        columns=12,
        column_spacing=1.0,
        source_to_axis=50.0,
        source_to_detector=80.0,
    )


def _mask(lines, size=64):
    mask = np.zeros((size, 4), dtype=bool)
    mask[lines] = True
    return mask


@pytest.mark.parametrize("is_complex", [False, True])
def test_the_two_parts_add_up_to_the_whole(is_complex):
    A, y, weights = random_problem(is_complex=is_complex)
    data = DataTerm(A, y, weights, 0.7, 0.0 if is_complex else 0.3)
    held = hold_out(data, (1,), torch.tensor([0, 1, 0, 0, 1, 0, 0], dtype=torch.bool))
    u = torch.randn(A.domain.shape, dtype=y.dtype)
    assert (held.groups, held.of) == (2, 7)
    whole = held.training.value(u) + held.test.value(u)
    assert whole == pytest.approx(data.value(u), rel=1e-9)
    assert torch.allclose(held.training.gram(u) + held.test.gram(u), data.gram(u))
    freedom = held.training.degrees_of_freedom + held.test.degrees_of_freedom
    assert freedom == data.degrees_of_freedom


def test_what_was_held_out_leaves_no_trace_in_the_training_data():
    A, y, weights = random_problem()
    chosen = torch.zeros(7, dtype=torch.bool)
    chosen[3] = True
    changed = y.clone()
    changed[:, 3] = 1e3
    one, other = (hold_out(DataTerm(A, v, weights), (1,), chosen).training for v in (y, changed))
    assert torch.equal(one.rhs, other.rhs)


def test_sums_over_groups_are_those_of_the_test():
    A, y, weights = random_problem()
    chosen = torch.tensor([1, 0, 0, 0, 0, 0, 1], dtype=torch.bool)
    held = hold_out(DataTerm(A, y, weights), (1,), chosen)
    assert torch.allclose(held.by_group(y), y.sum(0)[[0, 6]])


@pytest.mark.parametrize("chosen", [torch.zeros(7), torch.ones(7), torch.ones(3)])
def test_a_split_with_an_empty_side_or_another_size_is_refused(chosen):
    A, y, weights = random_problem()
    with pytest.raises(InconsistentError, match=r"hold|held"):
        hold_out(DataTerm(A, y, weights), (1,), chosen.bool())


def test_views_of_a_full_turn_are_spared_evenly():
    held = split(_data((3, 32, 12)), _fan(32, 2 * math.pi), torch.Generator().manual_seed(1))
    picked = torch.nonzero(held.chosen).flatten()
    assert len(picked) == 4
    assert bool((picked.diff() == 8).all())


def test_a_limited_arc_is_asked_for_what_lies_beyond_it():
    held = split(_data((1, 40, 12)), _fan(40, math.pi / 2), torch.Generator())
    assert torch.nonzero(held.chosen).flatten().tolist() == [*range(5), *range(35, 40)]


def test_the_middle_of_k_space_is_never_spared_and_what_was_not_measured_neither():
    lines = [1, 7, 12, 20, *range(28, 37), 41, 50, 55, 61]
    seen = torch.zeros(64, 1)
    seen[lines] = 1
    data = _data((2, 3, 64, 4), True, seen)
    for seed in range(5):
        held = split(data, Cartesian(mask=_mask(lines)), torch.Generator().manual_seed(seed))
        picked = set(torch.nonzero(held.chosen).flatten().tolist())
        assert len(picked) == 2
        assert picked <= set(lines) - set(range(28, 37))
        assert held.of == len(lines)


def test_too_few_views_can_spare_none():
    assert split(_data((1, 3, 12)), _fan(3, 2 * math.pi), torch.Generator()) is None


def test_groups_are_named_by_the_kind_of_scan():
    cone = ConeBeam(
        angles=equiangular(4),
        columns=2,
        column_spacing=1.0,
        rows=2,
        row_spacing=1.0,
        source_to_axis=50.0,
        source_to_detector=80.0,
    )
    spokes = NonCartesian(trajectory=np.zeros((5, 8, 2)))
    points = Cartesian(mask=np.ones((4, 4, 4), dtype=bool))
    found = [(kind_of_groups(g), group_axes(g)) for g in (cone, _fan(4, 6.0), spokes, points)]
    assert found == [
        ("views", (0,)), ("views", (1,)), ("shots", (-2,)), ("points of k-space", (-3, -2))
    ]  # fmt: skip


def test_a_group_without_weight_or_value_was_not_measured():
    y = torch.ones(2, 4)
    weights = torch.tensor([1.0, 0.0, 1.0, 1.0])
    data = DataTerm(_Shaped((2, 4)), y, weights)
    assert measured_groups(data, (1,)).tolist() == [True, False, True, True]
