"""Slices side by side: as many as vector registers take, through lists of weights together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medrecon.operators.kernels.compile import inner
from medrecon.operators.kernels.simd import gather, scatter

Array = NDArray[Any]


@inner
def gather_all(
    target: Array,
    at: int,
    source: Array,
    index: Array,
    weight: Array,
    first: int,
    last: int,
    lanes: int,
) -> None:
    """Add entries ``first`` to ``last`` of a list to one element, for all slices."""
    if lanes % 16 == 0:
        for s in range(0, lanes, 16):
            gather(target, at + s, source, s, lanes, index, weight, first, last, 16)
    elif lanes == 4:
        gather(target, at, source, 0, lanes, index, weight, first, last, 4)
    else:
        gather(target, at, source, 0, lanes, index, weight, first, last, 1)


@inner
def scatter_all(
    target: Array, index: Array, weight: Array, count: int, source: Array, at: int, lanes: int
) -> None:
    """Add one element to those of a list, for all slices."""
    if lanes % 16 == 0:
        for s in range(0, lanes, 16):
            scatter(target, s, lanes, index, weight, count, source, at + s, 16)
    elif lanes == 4:
        scatter(target, 0, lanes, index, weight, count, source, at, 4)
    else:
        scatter(target, 0, lanes, index, weight, count, source, at, 1)


def lanes_for(slices: int) -> int:
    """Slices rounded up to what the vector loops take: 1, 4 or a multiple of 16."""
    if slices <= 1:
        return slices
    return 4 if slices <= 4 else math.ceil(slices / 16) * 16


def padded(values: Array) -> Array:
    """Values with as many slices as the vector loops take."""
    extra = lanes_for(values.shape[2]) - values.shape[2]
    return np.pad(values, ((0, 0), (0, 0), (0, extra))) if extra else values


def room(like: Array, lanes: int) -> Array:
    """Room for a result of so many slices: the result itself, if it has them."""
    return like if like.shape[2] == lanes else np.empty((*like.shape[:2], lanes), like.dtype)


def strip(padded: Array, target: Array) -> None:
    """Copy the slices that count, unless they are there already."""
    if padded is not target:
        target[:] = padded[:, :, : target.shape[2]]
