"""From the noise scan of a raw file to the matrix that whitens the coils of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.calibration.prewhitening import (
    apply_to_coils,
    bandwidth_scale,
    noise_covariance,
    whitening_matrix,
)
from medrecon.errors import InconsistentError
from medrecon.raw.scan import Complex, RawScan, Readout


@dataclass(frozen=True, kw_only=True)
class Coils:
    """Which coils of the file are used, and how they are mixed.

    Parameters
    ----------
    live
        Indices of the coils that received anything.
    total
        How many coils the readouts have.
    matrix
        complex128 ``(live, live)`` after which noise is white with unit variance per sample;
        ``None`` where no noise was measured.
    """

    live: NDArray[np.intp]
    total: int
    matrix: Tensor | None

    def apply(self, samples: Complex, axis: int) -> Tensor:
        """Choose and whiten the coils along ``axis``."""
        kept = samples if len(self.live) == self.total else samples.take(self.live, axis=axis)
        data = torch.from_numpy(kept)
        return data if self.matrix is None else apply_to_coils(self.matrix, data, axis)


def coils_of(scan: RawScan, readouts: Sequence[Readout], live: NDArray[np.intp]) -> Coils:
    """Set up the coils of one image.

    Its own bandwidth counts: echoes of one file may be sampled at different rates.

    Raises
    ------
    InconsistentError
        If the noise scan has another number of coils, or its covariance is singular.
    """
    total = readouts[0].data.shape[0]
    noise = scan.noise
    if noise is None:
        return Coils(live=live, total=total, matrix=None)
    if len(noise.data) != total:
        raise InconsistentError(
            f"{scan.path}: the noise scan has {len(noise.data)} coils, the images have {total}."
        )
    dwell, first = readouts[0].dwell, scan.readouts[0].dwell
    imaging = noise.imaging_dwell * (dwell / first if dwell > 0 and first > 0 else 1.0)
    scale = bandwidth_scale(noise.dwell, imaging, noise.relative_bandwidth)
    covariance = noise_covariance(torch.from_numpy(noise.data[live]))
    return Coils(live=live, total=total, matrix=whitening_matrix(covariance, scale))
