"""Echo-planar readouts: samples on the ramps of the gradient, interpolated to the grid.

A trapezoid's ramps take a large part of a short echo, so scanners sample on them too. Samples that
are evenly spaced in time are not so in k-space: their positions are the gradient's integral.

References
----------
Bruder, Fischer, Reinfelder, Schmitt, Image reconstruction for echo planar imaging with
nonequidistant k-space sampling, Magn Reson Med 23 (1992), doi:10.1002/mrm.1910230211.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError

_SMALL = 0.05  # of the largest singular value: directions that the samples do not tell apart


def gradient_area(
    times: NDArray[Any], *, ramp_up: float, flat_top: float, ramp_down: float
) -> NDArray[np.float64]:
    """Integrate a trapezoid of height 1 from its start to ``times``, the same unit."""
    up = np.clip(times, 0, ramp_up)
    flat = np.clip(times - ramp_up, 0, flat_top)
    down = np.clip(times - ramp_up - flat_top, 0, ramp_down)
    area = flat + down
    area += 0.5 * up**2 / ramp_up if ramp_up > 0 else 0.0
    area -= 0.5 * down**2 / ramp_down if ramp_down > 0 else 0.0
    return np.asarray(area, dtype=np.float64)


def ramp_positions(
    samples: int,
    width: int,
    *,
    ramp_up: float,
    flat_top: float,
    ramp_down: float,
    delay: float,
    dwell: float,
    late: float = 0.0,
) -> NDArray[np.float64]:
    """Say where in k-space the samples of an echo lie.

    The centre of k-space is where half of the gradient's area is over, and the readout's window
    spans ``width`` steps.

    Parameters
    ----------
    samples
        Number of samples.
    width
        Size of the encoded matrix along the readout.
    ramp_up, flat_top, ramp_down
        Parts of the gradient, us.
    delay
        Start of the first sample after the start of the ramp, us.
    dwell
        Time per sample, us; a sample stands for the middle of it.
    late
        How much later than said the samples were taken, us.

    Returns
    -------
    NDArray
        float64 ``(samples,)``: cycles per encoded field of view, in the order of acquisition of a
        forward echo.

    Raises
    ------
    InconsistentError
        If a duration is negative or not finite, or the window does not lie in the gradient.
    """
    durations = (ramp_up, flat_top, ramp_down, delay, dwell)
    total = ramp_up + flat_top + ramp_down
    if not all(math.isfinite(t) and t >= 0 for t in durations) or dwell == 0:
        raise InconsistentError(f"The times of an EPI readout (us) cannot be {durations}.")
    if delay + samples * dwell > total * (1 + 1e-6):
        raise InconsistentError(
            f"An EPI readout of {samples} samples of {dwell} us that starts at {delay} us does not "
            f"fit into its gradient of {total} us."
        )
    edges = delay + dwell * np.array([0.0, samples])
    times = delay + dwell * (np.arange(samples) + 0.5) + late
    shape = {"ramp_up": ramp_up, "flat_top": flat_top, "ramp_down": ramp_down}
    start, stop = gradient_area(edges, **shape)
    middle = 0.5 * gradient_area(np.array([total]), **shape)
    return np.asarray((gradient_area(times, **shape) - middle) * width / (stop - start))


def regridding_matrix(positions: NDArray[np.float64], width: int) -> Tensor:
    """Make the matrix that takes samples at ``positions`` to the Cartesian ones.

    Least squares: the object within the field of view that the widest step between samples still
    encodes (all of it, where the readout is oversampled enough) is fitted to the samples, and its
    spectrum is read at the integers. Dense samples on the ramps get their due weight by
    themselves, and white noise keeps its size or shrinks.

    Parameters
    ----------
    positions
        float64 ``(samples,)``, cycles per encoded field of view, ascending.
    width
        Size of the encoded matrix.

    Returns
    -------
    Tensor
        complex128 ``(width, samples)``.

    Raises
    ------
    InconsistentError
        If positions do not ascend.
    """
    steps = np.diff(positions)
    if len(steps) < 1 or not (steps > 0).all():
        raise InconsistentError("The samples of an EPI readout must proceed along k-space.")
    support = min(width, max(1, int(width / float(steps.max()) + 1e-9)))
    voxels = np.arange(support) - support // 2
    sampled = np.exp(-2j * np.pi * np.outer(positions, voxels) / width)
    wanted = np.exp(-2j * np.pi * np.outer(np.arange(width) - width // 2, voxels) / width)
    matrix: Tensor = torch.from_numpy(wanted @ np.linalg.pinv(sampled, rcond=_SMALL))
    return matrix


def regrid(data: Tensor, positions: NDArray[np.float64], width: int) -> Tensor:
    """Interpolate readouts ``(..., samples)`` at ``positions`` to ``(..., width)``.

    See :func:`regridding_matrix`.
    """
    return data @ regridding_matrix(positions, width).T.to(data.device, data.dtype)
