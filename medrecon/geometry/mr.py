"""Cartesian k-space sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError


@dataclass(frozen=True, kw_only=True, eq=False)
class Cartesian:
    """Which samples of a centred Cartesian k-space were measured.

    The sample at index ``n // 2`` of every encoded axis is the centre of k-space.

    Parameters
    ----------
    mask
        Boolean; shape ``(y, x)`` for slice-wise 2D encoding (shared by all slices) or
        ``(z, y, x)`` for 3D encoding.
    """

    mask: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.mask.ndim not in (2, 3) or self.mask.dtype != np.bool_:
            raise InconsistentError(
                f"A Cartesian mask is boolean with 2 or 3 axes, got {self.mask.dtype} with shape "
                f"{self.mask.shape}."
            )
        if not self.mask.any():
            raise InconsistentError("The Cartesian mask is empty: no k-space sample was measured.")

    @property
    def is_3d(self) -> bool:
        """Whether all three axes are encoded (otherwise slice by slice)."""
        return self.mask.ndim == 3

    @property
    def acceleration(self) -> float:
        """Number of samples of full k-space over the number measured."""
        return float(self.mask.size / self.mask.sum())
