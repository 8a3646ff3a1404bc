"""The contract of every linear operator, as checks that anybody can run on a new one.

A test file lists its operators and takes the whole battery::

    @pytest.mark.parametrize("check", CHECKS, ids=name)
    @pytest.mark.parametrize("operator", OPERATORS, ids=repr)
    def test_contract(operator, check):
        check(operator)

or calls :func:`check_operator`, which runs all of it.  The dot test runs twice: with a random
``y`` and with ``y = A x``, because a random ``y`` is nearly orthogonal to everything and hides
most of a mismatch.
"""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator

Check = Callable[[LinearOperator], None]

EXACT = 1e-10  # float64 and complex128
SINGLE = 1e-6  # float32 and complex64, the dot test relative to |Ax| |y|


def random(
    space: Space, *batch: int, seed: int = 0, precision: torch.dtype = torch.float64
) -> Tensor:
    """A standard normal element (or a batch) of the space, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    dtype = space.dtype(precision)
    return torch.randn(*batch, *space.shape, dtype=dtype, generator=generator)


def inner(a: Tensor, b: Tensor) -> complex:
    """``<a, b>``, conjugate in the first, accumulated in double precision."""
    double = torch.complex128 if a.is_complex() else torch.float64
    return complex(torch.vdot(a.to(double).flatten(), b.to(double).flatten()).item())


def norm(a: Tensor) -> float:
    return math.sqrt(inner(a, a).real)


def distance(a: Tensor, b: Tensor) -> float:
    """``|a - b|`` relative to the larger norm; shapes must agree, NaN stays NaN."""
    assert a.shape == b.shape, f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}"
    scale = max(norm(a), norm(b))
    return norm(a - b) / scale if scale else 0.0


def adjoint_error(operator: LinearOperator, x: Tensor, y: Tensor) -> float:
    """``|<Ax, y> - <x, A^H y>| / (|Ax| |y|)``."""
    Ax = operator(x)
    return abs(inner(Ax, y) - inner(x, operator.adjoint(y))) / (norm(Ax) * norm(y))


def it_maps_domain_to_codomain(operator: LinearOperator) -> None:
    Ax = operator(random(operator.domain))
    assert tuple(Ax.shape) == operator.codomain.shape
    assert Ax.is_complex() == operator.codomain.complex
    assert norm(Ax) > 0, "an operator that maps a random vector to zero proves nothing here"
    back = operator.adjoint(random(operator.codomain))
    assert tuple(back.shape) == operator.domain.shape
    assert back.is_complex() == operator.domain.complex


def it_is_linear(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        x, y = random(A.domain, seed=1), random(A.domain, seed=2)
        a, b = (0.3 - 0.8j, 1.7 + 0.4j) if A.domain.complex and A.codomain.complex else (0.3, -1.7)
        assert distance(A(a * x + b * y), a * A(x) + b * A(y)) <= EXACT


def its_adjoint_is_exact(operator: LinearOperator) -> None:
    x, y = random(operator.domain, seed=3), random(operator.codomain, seed=4)
    assert adjoint_error(operator, x, y) <= EXACT
    assert adjoint_error(operator, x, operator(x)) <= EXACT


def its_adjoint_is_exact_in_single_precision(operator: LinearOperator) -> None:
    x = random(operator.domain, seed=5, precision=torch.float32)
    y = random(operator.codomain, seed=6, precision=torch.float32)
    assert adjoint_error(operator, x, y) <= SINGLE
    assert adjoint_error(operator, x, operator(x)) <= SINGLE


def its_backward_is_its_adjoint(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        x = random(A.domain, seed=7).requires_grad_()
        y = random(A.codomain, seed=8)
        objective = (y.conj() * A(x)).sum().real
        (gradient,) = torch.autograd.grad(objective, x)
        assert distance(gradient, A.adjoint(y)) <= EXACT


def its_second_derivative_passes_through_the_adjoint(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        x = random(A.domain, seed=9).requires_grad_()
        y = random(A.codomain, seed=10).requires_grad_()
        (gradient,) = torch.autograd.grad(A(x), x, grad_outputs=y, create_graph=True)
        z = random(A.domain, seed=11)
        (again,) = torch.autograd.grad(gradient, y, grad_outputs=z)
        assert distance(again, A(z)) <= EXACT


def its_gram_is_the_adjoint_after_itself(operator: LinearOperator) -> None:
    x = random(operator.domain, seed=12)
    assert distance(operator.gram(x), operator.adjoint(operator(x))) <= EXACT


def leading_dimensions_are_a_batch(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        for batch in ((1,), (3,), (2, 2)):
            x = random(A.domain, *batch, seed=13)
            together = A(x)
            assert tuple(together.shape) == (*batch, *A.codomain.shape)
            for index in itertools.product(*map(range, batch)):
                assert distance(together[index], A(x[index])) <= EXACT


def wrong_shapes_are_refused(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        shape = A.domain.shape
        longer = (*shape[:-1], shape[-1] + 1)
        for wrong in (longer, shape[1:], (shape[0] + 1, *shape[1:])):
            x = torch.zeros(wrong, dtype=A.domain.dtype())
            with pytest.raises(InconsistentError):
                A(x)


def the_wrong_kind_of_number_is_refused(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        wrong = Space(A.domain.shape, complex=not A.domain.complex)
        with pytest.raises(InconsistentError):
            A(wrong.zeros())


def it_survives_pickling(operator: LinearOperator) -> None:
    twin = pickle.loads(pickle.dumps(operator))
    x = random(operator.domain, seed=14)
    assert distance(twin(x), operator(x)) <= EXACT
    assert twin.blocks == operator.blocks


def precision_follows_the_input(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        double, single = torch.float64, torch.float32
        x = random(A.domain, seed=15, precision=double)
        y = A(x.to(A.domain.dtype(single)))
        assert y.dtype == A.codomain.dtype(single)
        assert A(x).dtype == A.codomain.dtype(double)
        assert distance(y.to(A.codomain.dtype(double)), A(x)) <= 1e-4


def the_device_follows_the_input(operator: LinearOperator) -> None:
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for A, device in itertools.product((operator, operator.H), devices):
        x = random(A.domain, seed=16, precision=torch.float32)
        y = A(x.to(device))
        assert y.device.type == device
        assert distance(y.cpu(), A(x)) <= 1e-4


def the_input_stays_as_it_was(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        x = random(A.domain, seed=17)
        before = x.clone()
        A(x).zero_()  # and the output does not share its memory
        assert torch.equal(x, before)


def strided_inputs_are_fine(operator: LinearOperator) -> None:
    for A in (operator, operator.H):
        x = random(A.domain, 2, seed=18)
        expected = A(x)
        reversed_strides = x.permute(*reversed(range(x.ndim))).contiguous()
        assert distance(A(reversed_strides.permute(*reversed(range(x.ndim)))), expected) <= EXACT
        every_second = torch.stack([x, torch.zeros_like(x)], dim=-1)[..., 0]
        assert distance(A(every_second), expected) <= EXACT
        repeated = x[:1].expand(2, *A.domain.shape)
        assert distance(A(repeated)[1], expected[0]) <= EXACT
        lazily_conjugated = x.conj().resolve_conj().conj()
        assert distance(A(lazily_conjugated), expected) <= EXACT


def its_adjoint_of_the_adjoint_is_itself(operator: LinearOperator) -> None:
    assert operator.H.H is operator
    assert operator.H.domain == operator.codomain
    assert operator.H.codomain == operator.domain
    y = random(operator.codomain, seed=19)
    assert torch.equal(operator.H(y), operator.adjoint(y))


def blocks_do_not_see_each_other(operator: LinearOperator) -> None:
    depth = operator.blocks
    assert 0 <= depth <= min(operator.domain.ndim, operator.codomain.ndim)
    assert operator.domain.shape[:depth] == operator.codomain.shape[:depth]
    assert operator.H.blocks == depth
    if depth == 0:
        return
    for A in (operator, operator.H):
        x = random(A.domain, seed=20)
        y = A(x)
        every = list(itertools.product(*map(range, A.domain.shape[:depth])))
        for block in {every[0], every[len(every) // 2], every[-1]}:
            changed = x.clone()
            changed[block] += 1
            others = (A(changed) - y).abs()
            others[block] = 0
            assert float(others.max()) <= EXACT * float(y.abs().max())


CHECKS: tuple[Check, ...] = (
    it_maps_domain_to_codomain,
    it_is_linear,
    its_adjoint_is_exact,
    its_adjoint_is_exact_in_single_precision,
    its_backward_is_its_adjoint,
    its_second_derivative_passes_through_the_adjoint,
    its_gram_is_the_adjoint_after_itself,
    leading_dimensions_are_a_batch,
    wrong_shapes_are_refused,
    the_wrong_kind_of_number_is_refused,
    it_survives_pickling,
    precision_follows_the_input,
    the_device_follows_the_input,
    the_input_stays_as_it_was,
    strided_inputs_are_fine,
    its_adjoint_of_the_adjoint_is_itself,
    blocks_do_not_see_each_other,
)


def name(value: object) -> str:
    """A readable test id for a check or an operator."""
    return str(getattr(value, "__name__", type(value).__name__))


def check_operator(operator: LinearOperator, checks: tuple[Check, ...] = CHECKS) -> None:
    """Run every check; the first that fails raises ``AssertionError``."""
    for check in checks:
        check(operator)
