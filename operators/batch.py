"""A batch through an operator that does one element at a time."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from medrecon.arrays import Space


def each(x: Tensor, inside: Space, outside: Space, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply to every element of a batch ``(*batch, *inside)``, into ``(*batch, *outside)``."""
    batch = x.shape[: x.ndim - inside.ndim]
    result = x.new_empty((math.prod(batch), *outside.shape))
    for element, out in zip(x.reshape(len(result), *inside.shape), result, strict=True):
        out.copy_(apply(element))
    return result.reshape(*batch, *outside.shape)
