"""A stack of slices through a kernel that does many slices at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from medrecon.operators.kernels.engine import run

# Slices that go through a kernel together: innermost in memory, so that the weights of a ray
# are worked out once for all of them and each access fills whole cache lines.
CHUNK = 64


def map_slices(
    kernel: Callable[..., None],
    x: Tensor,
    plane: tuple[int, int],
    *tables: NDArray[Any],
    prepare: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Apply ``kernel(source, *tables, target)`` to planes ``(*batch, z, a, b)``.

    Parameters
    ----------
    kernel
        Writes ``target[*plane, slice]`` from ``source[a, b, slice]``.
    x
        Planes, float32 or float64.
    plane
        Shape of a plane of the result.
    tables
        Further arguments of the kernel.
    prepare
        Done to each chunk ``(slices, a, b)`` before, e.g. a filter.

    Returns
    -------
    Tensor
        ``(*batch, z, *plane)`` with the device and precision of the input.
    """
    stack = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    result = stack.new_empty((len(stack), *plane))
    for start in range(0, len(stack), CHUNK):
        some = stack[start : start + CHUNK]
        some = prepare(some) if prepare else some
        target = run(kernel, some.permute(1, 2, 0), *tables, shape=(*plane, len(some)))
        result[start : start + CHUNK] = target.permute(2, 0, 1)
    return result.reshape(*x.shape[:-2], *plane)
