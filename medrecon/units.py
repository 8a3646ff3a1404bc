"""The only place where units are converted."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import Tensor

_T = TypeVar("_T", float, Tensor)


def hu_to_per_mm(hu: _T, mu_water: float) -> _T:
    """Hounsfield units to linear attenuation, ``mu_water * (1 + HU/1000)``, in 1/mm."""
    return mu_water * (1 + hu / 1000)


def per_mm_to_hu(mu: _T, mu_water: float) -> _T:
    """Linear attenuation in 1/mm to Hounsfield units, ``1000 (mu/mu_water - 1)``."""
    return 1000 * (mu / mu_water - 1)


def degrees_to_radians(angle: float) -> float:
    """Degrees to rad."""
    return math.radians(angle)
