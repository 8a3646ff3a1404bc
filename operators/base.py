"""The contract of every linear operator, and the algebra: adjoint, composition, sum, scaling.

An operator states its two spaces; its adjoint is exact; autograd's backward *is* the adjoint,
once, here.  Leaves implement ``_forward`` and ``_adjoint``; everything else is final.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError


class _Apply(torch.autograd.Function):
    """``y = A x`` with the gradient ``A^H g``; the adjoint of an adjoint is the operator again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: LinearOperator) -> Tensor:
        ctx.operator = operator
        return operator._forward(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _apply(ctx.operator.H, gradients[0]), None


def _apply(operator: LinearOperator, x: Tensor) -> Tensor:
    """Run without autograd's bookkeeping where no gradient is asked for."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _Apply.apply(x, operator)  # type: ignore[no-any-return,no-untyped-call]
    return operator._forward(x)


class LinearOperator(ABC):
    """A linear map between two spaces with its exact adjoint.

    Leaves are frozen dataclasses that implement :attr:`domain`, :attr:`codomain`,
    :meth:`_forward` and :meth:`_adjoint`.  Both methods get any leading batch dimensions, must
    keep the device and the precision of their input and must not change it in place.

    Examples
    --------
    >>> import torch
    >>> A = 2 * Identity(Space((3,)))
    >>> A.gram(torch.ones(3))
    tensor([4., 4., 4.])
    """

    @property
    @abstractmethod
    def domain(self) -> Space:
        """Space of what goes in, batch excluded."""

    @property
    @abstractmethod
    def codomain(self) -> Space:
        """Space of what comes out, batch excluded."""

    @property
    def blocks(self) -> int:
        """Leading axes of domain and codomain along which the operator is block diagonal.

        1 for a stack of slices that are measured one by one, 0 where everything is coupled.
        Solvers take one step length per block.
        """
        return 0

    @property
    def adjoint_is_exact(self) -> bool:
        """Whether ``<Ax, y> = <x, A^H y>`` holds to rounding; False for unmatched backends."""
        return True

    @abstractmethod
    def _forward(self, x: Tensor) -> Tensor:
        """Apply A to a checked input ``(*batch, *domain.shape)``."""

    @abstractmethod
    def _adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint to a checked input ``(*batch, *codomain.shape)``."""

    @final
    def __call__(self, x: Tensor) -> Tensor:
        """Apply A, differentiable; ``x`` has shape ``(*batch, *domain.shape)``.

        Raises
        ------
        InconsistentError
            If the shape or kind (real or complex) of ``x`` is not that of the domain.
        """
        self.domain.check(x, f"input of {type(self).__name__}")
        return _apply(self, x)

    @final
    def forward(self, x: Tensor) -> Tensor:
        """Apply A; the same as calling the operator."""
        return self(x)

    @final
    def adjoint(self, y: Tensor) -> Tensor:
        """Apply the adjoint, differentiable; ``y`` has shape ``(*batch, *codomain.shape)``."""
        self.codomain.check(y, f"input of the adjoint of {type(self).__name__}")
        return _apply(self.H, y)

    @property
    def H(self) -> LinearOperator:  # noqa: N802 - the field's symbol
        """The adjoint as an operator; ``A.H.H is A``."""
        return Adjoint(self)

    def gram(self, x: Tensor) -> Tensor:
        """``A^H A x``; leaves with a shorter way (Toeplitz) override it."""
        return self.adjoint(self(x))

    @final
    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return Composition(self, other)

    @final
    def __add__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, other)

    @final
    def __mul__(self, factor: complex) -> LinearOperator:
        return Scaled(self, factor)

    __rmul__ = __mul__

    @final
    def __neg__(self) -> LinearOperator:
        return Scaled(self, -1.0)

    @final
    def __sub__(self, other: LinearOperator) -> LinearOperator:
        return Sum(self, Scaled(other, -1.0))


class Adjoint(LinearOperator):
    """``A^H`` as an operator."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    @property
    def domain(self) -> Space:
        """The codomain of A."""
        return self.operator.codomain

    @property
    def codomain(self) -> Space:
        """The domain of A."""
        return self.operator.domain

    @property
    def blocks(self) -> int:
        """As A."""
        return self.operator.blocks

    @property
    def adjoint_is_exact(self) -> bool:
        """As A."""
        return self.operator.adjoint_is_exact

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        """A itself."""
        return self.operator

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator._adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._forward(y)


class Identity(LinearOperator):
    """The identity on a space."""

    def __init__(self, space: Space) -> None:
        self.space = space

    @property
    def domain(self) -> Space:
        """The space."""
        return self.space

    @property
    def codomain(self) -> Space:
        """The space."""
        return self.space

    @property
    def blocks(self) -> int:
        """Every axis."""
        return self.space.ndim

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()


class Composition(LinearOperator):
    """``(A B) x = A (B x)``.

    Raises
    ------
    InconsistentError
        If the codomain of B is not the domain of A.
    """

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        if left.domain != right.codomain:
            raise InconsistentError(
                f"Cannot compose {type(left).__name__} (domain {left.domain}) with "
                f"{type(right).__name__} (codomain {right.codomain}): the spaces differ."
            )
        self.left = left
        self.right = right

    @property
    def domain(self) -> Space:
        """The domain of B."""
        return self.right.domain

    @property
    def codomain(self) -> Space:
        """The codomain of A."""
        return self.left.codomain

    @property
    def blocks(self) -> int:
        """What both factors keep apart."""
        return min(self.left.blocks, self.right.blocks)

    @property
    def adjoint_is_exact(self) -> bool:
        """Whether both factors are matched."""
        return self.left.adjoint_is_exact and self.right.adjoint_is_exact

    def _forward(self, x: Tensor) -> Tensor:
        return self.left._forward(self.right._forward(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.right._adjoint(self.left._adjoint(y))

    def gram(self, x: Tensor) -> Tensor:
        """``B^H (A^H A) B x``, with A's own gram."""
        return self.right.adjoint(self.left.gram(self.right(x)))


class Sum(LinearOperator):
    """``(A + B) x = A x + B x``.

    Raises
    ------
    InconsistentError
        If the spaces differ.
    """

    def __init__(self, first: LinearOperator, second: LinearOperator) -> None:
        if first.domain != second.domain or first.codomain != second.codomain:
            raise InconsistentError(
                f"Cannot add {type(first).__name__} and {type(second).__name__}: their spaces "
                "differ."
            )
        self.first = first
        self.second = second

    @property
    def domain(self) -> Space:
        """The common domain."""
        return self.first.domain

    @property
    def codomain(self) -> Space:
        """The common codomain."""
        return self.first.codomain

    @property
    def blocks(self) -> int:
        """What both terms keep apart."""
        return min(self.first.blocks, self.second.blocks)

    @property
    def adjoint_is_exact(self) -> bool:
        """Whether both terms are matched."""
        return self.first.adjoint_is_exact and self.second.adjoint_is_exact

    def _forward(self, x: Tensor) -> Tensor:
        return self.first._forward(x) + self.second._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.first._adjoint(y) + self.second._adjoint(y)


class Wrapped(LinearOperator):
    """An operator that lends its spaces to another one: base of what only acts differently."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator

    @property
    def domain(self) -> Space:
        """As the operator's."""
        return self.operator.domain

    @property
    def codomain(self) -> Space:
        """As the operator's."""
        return self.operator.codomain

    @property
    def blocks(self) -> int:
        """As the operator's."""
        return self.operator.blocks

    @property
    def adjoint_is_exact(self) -> bool:
        """As the operator's."""
        return self.operator.adjoint_is_exact


class Scaled(Wrapped):
    """``(c A) x = c (A x)``; the adjoint conjugates c."""

    def __init__(self, operator: LinearOperator, factor: complex) -> None:
        super().__init__(operator)
        self.factor = factor

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator._forward(x) * self.factor

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._adjoint(y) * self.factor.conjugate()
