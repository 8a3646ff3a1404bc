"""Non-Cartesian trajectories to simulate with: spokes, spirals, and stacks of them.

All reach the edge of what the image grid can tell apart, ``|k| = n / 2`` cycles per field of view
along every axis, and pass the centre of k-space exactly.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import NonCartesian

GOLDEN_ANGLE = math.pi * (math.sqrt(5) - 1) / 2
"""111.246 degrees: any number of successive spokes is spread evenly."""

# Steps of the polar cosine and of the azimuth that spread spokes evenly over the sphere.
_GOLDEN_MEANS = (0.46557123187676802, 0.68232780382801932)


def radial(
    shape: tuple[int, int], spokes: int, samples: int, *, golden: bool = False
) -> NonCartesian:
    """Spokes through the centre of the plane.

    Parameters
    ----------
    shape
        Image grid ``(y, x)``.
    spokes
        How many; spread evenly over half a turn, or every one at the golden angle to the last.
    samples
        Per spoke, from ``-n/2`` to just below ``n/2``; twice the grid's size is common.
    golden
        Whether to step by the golden angle.

    Raises
    ------
    InconsistentError
        If a number is below 1.

    References
    ----------
    Winkelmann et al., An optimal radial profile order based on the golden ratio for time-resolved
    MRI, IEEE Trans Med Imaging 26 (2007), doi:10.1109/TMI.2006.885337.
    """
    _positive(spokes=spokes, samples=samples)
    angles = np.arange(spokes) * (GOLDEN_ANGLE if golden else math.pi / spokes)
    direction = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    return NonCartesian(trajectory=_spokes(direction, samples, shape))


def spiral(
    shape: tuple[int, int],
    interleaves: int,
    samples: int,
    *,
    turns: float | None = None,
    density: float = 1.0,
    duration: float | None = None,
) -> NonCartesian:
    """Spirals from the centre outwards, run at constant speed along a track of ``density`` 1.

    Parameters
    ----------
    shape
        Image grid ``(y, x)``.
    interleaves
        How many, turned against each other.
    samples
        Per interleave.
    turns
        Of each interleave; ``None``: as many as leave no gap wider than 1 cycle per field of view
        between neighbouring windings at ``density`` 1.
    density
        Exponent of the radius over the angle: 1 is Archimedes' spiral, above 1 is denser in the
        middle.
    duration
        Of the readout, s, for the times of the samples; ``None``: no times.

    Raises
    ------
    InconsistentError
        If a number is not positive.

    References
    ----------
    Glover, Simple analytic spiral k-space algorithm, Magn Reson Med 42 (1999).
    """
    turns = max(shape) / 2 / interleaves if turns is None else turns
    _positive(interleaves=interleaves, samples=samples, turns=turns, density=density)
    part = np.sqrt(np.arange(samples) / max(samples - 1, 1))  # of the angle: constant speed
    angle = 2 * math.pi * turns * part
    start = 2 * math.pi * np.arange(interleaves)[:, None] / interleaves
    direction = np.stack([np.sin(angle + start), np.cos(angle + start)], axis=-1)
    k = direction * (part**density)[:, None] * np.array(shape) / 2
    times = None if duration is None else np.arange(samples, dtype=np.float64) * duration / samples
    return NonCartesian(trajectory=k, times=times)


def koosh(shape: tuple[int, int, int], spokes: int, samples: int) -> NonCartesian:
    """Spokes through the centre in all directions of space, by the golden means.

    Parameters
    ----------
    shape
        Image grid ``(z, y, x)``.
    spokes, samples
        How many spokes, and samples on each, from ``-n/2`` to just below ``n/2``.

    Raises
    ------
    InconsistentError
        If a number is below 1.

    References
    ----------
    Chan et al., Temporal stability of adaptive 3D radial MRI using multidimensional golden means,
    Magn Reson Med 61 (2009), doi:10.1002/mrm.21837.
    """
    _positive(spokes=spokes, samples=samples)
    step = np.arange(spokes)
    up = np.mod(step * _GOLDEN_MEANS[0], 1.0)
    azimuth = 2 * math.pi * np.mod(step * _GOLDEN_MEANS[1], 1.0)
    aside = np.sqrt(1 - up**2)
    direction = np.stack([up, aside * np.sin(azimuth), aside * np.cos(azimuth)], axis=-1)
    return NonCartesian(trajectory=_spokes(direction, samples, shape))


def stack(in_plane: NonCartesian, partitions: NDArray[np.bool_]) -> NonCartesian:
    """Stack a trajectory of the plane along z by Cartesian steps: stack of stars, of spirals.

    Parameters
    ----------
    in_plane
        The trajectory of every partition.
    partitions
        Boolean ``(z,)``: which steps are measured.

    Raises
    ------
    InconsistentError
        If the trajectory is not one of the plane, or nothing is measured.
    """
    return replace(in_plane, partitions=partitions)


def _spokes(
    direction: NDArray[np.float64], samples: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    along = (np.arange(samples) - samples // 2) / samples
    return along[:, None] * direction[:, None, :] * np.array(shape, dtype=np.float64)


def _positive(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (math.isfinite(value) and value > 0):
            raise InconsistentError(f"A trajectory needs {name} above 0, got {value}.")
