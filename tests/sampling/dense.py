"""A dense matrix as a forward operator, slice by slice."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class Dense(LinearOperator):
    """Apply one matrix to every slice (z, y, x) flattened; measurements (z, m)."""

    matrix: Tensor
    slices: int
    size: tuple[int, int]

    @property
    def domain(self) -> Space:
        return Space((self.slices, *self.size), self.matrix.is_complex())

    @property
    def codomain(self) -> Space:
        return Space((self.slices, self.matrix.shape[0]), self.matrix.is_complex())

    @property
    def blocks(self) -> int:
        return 1

    def _forward(self, x: Tensor) -> Tensor:
        return x.flatten(-2) @ self.matrix.mT.to(x.dtype)

    def _adjoint(self, y: Tensor) -> Tensor:
        x: Tensor = (y @ self.matrix.conj().to(y.dtype)).unflatten(-1, self.size)
        return x


def random_problem(*, slices=2, size=(4, 3), rows=7, is_complex=False, seed=0):
    """An underdetermined system with noisy, unevenly weighted measurements."""
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if is_complex else torch.float64
    matrix = torch.randn(rows, size[0] * size[1], generator=generator, dtype=dtype)
    A = Dense(matrix, slices, size)
    y = torch.randn(A.codomain.shape, generator=generator, dtype=dtype)
    weights = 0.1 + 10 * torch.rand(A.codomain.shape, generator=generator, dtype=torch.float64)
    return A, y, weights
