"""Coil maps that the user brings."""

from __future__ import annotations

import torch
from torch import Tensor

from medrecon.errors import InconsistentError


def check_maps(maps: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Check that given maps fit the data.

    Parameters
    ----------
    maps
        Complex, of ``shape``, or with a leading axis of map sets.
    shape
        ``(z, coils, y, x)`` for slice-wise, ``(coils, z, y, x)`` for 3D encoding.

    Returns
    -------
    Tensor
        The maps, complex64.

    Raises
    ------
    InconsistentError
        If they are not complex, have another shape, are not finite, or zero everywhere.
    """
    if not maps.is_complex() or maps.ndim not in (4, 5) or tuple(maps.shape[-4:]) != shape:
        raise InconsistentError(
            f"The coil maps have shape {tuple(maps.shape)} ({maps.dtype}), the data need complex "
            f"(z, coils, y, x), in 3D (coils, z, y, x), = {shape}, with the map sets in front "
            "where there are several."
        )
    power = maps.abs().square()
    if not bool(torch.isfinite(power).all()):
        raise InconsistentError("The coil maps have values that are NaN or infinite.")
    if not bool(power.any()):
        raise InconsistentError("The coil maps are zero everywhere.")
    return maps.to(torch.complex64)
