"""Differences: no wrap-around, per mm, exact adjoint."""

import pytest
import torch

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.difference import Difference
from tests.contracts import check_operator


@pytest.mark.parametrize("axes", [(0,), (2, 1), (0, 1, 2)])
@pytest.mark.parametrize("is_complex", [False, True])
def test_differences_keep_the_contract(axes, is_complex):
    check_operator(Difference(Space((4, 5, 3), is_complex), (2.0, 1.0, 0.5), axes))


def test_a_ramp_has_slope_one_everywhere_and_no_wrap_row():
    ramp = (3.0 * torch.arange(6.0)).view(6, 1, 1).expand(6, 2, 2)
    slope = Difference(Space((6, 2, 2)), (3.0, 1.0, 1.0), (0,))(ramp)[0]
    assert torch.equal(slope[:5], torch.ones(5, 2, 2))
    assert torch.equal(slope[5], torch.zeros(2, 2))


def test_flipping_z_flips_the_differences():
    K = Difference(Space((5, 2, 2)), (1.0, 1.0, 1.0), (0,))
    x = torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(K(x.flip(0))[0, :4], -K(x)[0, :4].flip(0))


def test_a_single_slice_has_no_slope():
    K = Difference(Space((1, 3, 3)), (1.0, 1.0, 1.0), (0,))
    assert torch.equal(K(torch.ones(1, 3, 3)), torch.zeros(1, 1, 3, 3))


def test_axes_that_are_not_there_are_refused():
    with pytest.raises(InconsistentError, match="axes"):
        Difference(Space((3, 3, 3)), (1.0, 1.0, 1.0), (3,))
