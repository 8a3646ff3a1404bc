"""What an element of a vector space looks like."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.errors import InconsistentError


@dataclass(frozen=True)
class Space:
    """Shape and kind of a vector; leading batch dimensions are not part of it.

    Parameters
    ----------
    shape
        Sizes, e.g. ``(z, y, x)`` for a volume.
    complex
        Whether elements are complex. Precision is not part of a space: it follows the input.
    """

    shape: tuple[int, ...]
    complex: bool = False

    @property
    def ndim(self) -> int:
        """Number of dimensions, batch excluded."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def dtype(self, precision: torch.dtype = torch.float32) -> torch.dtype:
        """Dtype of an element for a real ``precision`` (float32 or float64)."""
        if not self.complex:
            return precision
        return torch.complex128 if precision == torch.float64 else torch.complex64

    def zeros(self, *batch: int, device: torch.device | str = "cpu") -> Tensor:
        """Zero vector(s), single precision, shape ``(*batch, *shape)``."""
        return torch.zeros(*batch, *self.shape, dtype=self.dtype(), device=device)

    def check(self, x: Tensor, role: str) -> None:
        """Raise :class:`InconsistentError` unless ``x`` is ``(*batch, *shape)`` of this kind."""
        if x.ndim < self.ndim or tuple(x.shape[x.ndim - self.ndim :]) != self.shape:
            raise InconsistentError(
                f"{role} has shape {tuple(x.shape)}, expected (*batch, "
                f"{', '.join(map(str, self.shape))})."
            )
        if x.is_complex() != self.complex:
            kind = "complex" if self.complex else "real"
            raise InconsistentError(f"{role} has dtype {x.dtype}, expected a {kind} tensor.")
