"""Series of images that have locally low rank."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from medrecon.arrays import Space
from medrecon.baselines.regularized import CLOSE, Effort, regularized
from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.operators.patches import SeriesBlocks
from medrecon.regularizers import NuclearNorm
from medrecon.solvers.preconditioner import curvature, diagonal_preconditioner
from medrecon.solvers.progress import Progress

_PENALTY = 2.0
_PARTITIONS = 2


def low_rank(
    data: Sequence[DataTerm],
    *,
    weight: float,
    iterations: int,
    block: int = 8,
    start: Tensor | None = None,
    effort: Effort = CLOSE,
) -> Iterator[Progress]:
    r"""Locally low rank series by ADMM, run until it stands still.

    .. math:: \min_u \sum_t f_t(u_t) + \frac{w}{P} \sum_{p=1}^{P} \sum_b \|B_{pb} u\|_*

    with :math:`B_{pb} u` the matrix of frames times voxels of block b in partition p: what changes
    over time in a few voxels is a mixture of a few courses.

    Parameters
    ----------
    data
        One data term per frame, all of the same image space and unit.
    weight
        w, nats per unit.
    iterations
        Most ADMM iterations; it ends before where the series changes by less than 2e-5 (relative).
    block
        Width of the blocks, voxels: along y and x, and along z where z is encoded.
    start
        First estimate ``(t, z, y, x)``; ``None``: zero.
    effort
        How far to go.

    Yields
    ------
    Progress
        The value is the series ``(t, z, y, x)``.

    Raises
    ------
    InconsistentError
        If there is no frame, or the frames' images differ in shape or scale.

    References
    ----------
    Trzasko and Manduca 2011, ISMRM 19, 4371; Zhang, Pauly and Levesque 2015,
    doi:10.1002/mrm.25161.
    """
    if not data:
        raise InconsistentError("A low-rank reconstruction needs at least one frame, got none.")
    space = data[0].operator.domain
    for index, term in enumerate(data):
        if term.operator.domain != space or (term.scale, term.offset) != (
            data[0].scale,
            data[0].offset,
        ):
            raise InconsistentError(
                f"Frame {index} of the series has images of {term.operator.domain} in units of "
                f"{term.scale:g}, the first frame has {space} in {data[0].scale:g}; give all "
                "frames one grid and one scale."
            )
    depth = 1 if data[0].blocks else min(block, space.shape[-3])
    series = Space((len(data), *space.shape), space.complex)
    K = SeriesBlocks(series, (depth, block, block), _PARTITIONS)
    penalty = _PENALTY * weight
    scaled = [diagonal_preconditioner(curvature(term), penalty, 0) for term in data]

    def gram(u: Tensor) -> Tensor:
        return torch.stack([term.gram(frame) for term, frame in zip(data, u, strict=True)])

    def precondition(r: Tensor) -> Tensor:
        return torch.stack([divide(frame) for divide, frame in zip(scaled, r, strict=True)])

    return regularized(
        gram,
        torch.stack([term.rhs for term in data]),
        NuclearNorm(K, weight / _PARTITIONS**0.5),
        penalty=penalty,
        preconditioner=precondition,
        iterations=iterations,
        start=start,
        effort=effort,
    )
