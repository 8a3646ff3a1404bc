"""Positions on trajectories in MRD files: found unit, known unit.

MRD stores positions without a unit, and its writers differ: cycles per sample (-0.5 to 0.5),
radians per sample (-pi to pi) and cycles per field of view (-n/2 to n/2) all occur. Where no user
parameter ``trajectory_unit`` names it, the largest coordinate of an encoding decides:

- up to 0.5: cycles per sample, times the encoded matrix
- up to pi: radians per sample, times the encoded matrix / 2 pi
- above: cycles per encoded field of view

A scan of seven samples or fewer across k-space could be mistaken; every real one is told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.raw.scan import Encoding, Readout

UNIT = "trajectory_unit"
"""User parameter (a string) that names the unit."""

CYCLES_PER_FOV = "cycles/fov"
CYCLES_PER_SAMPLE = "cycles/sample"
RADIANS = "rad/sample"
CYCLES_PER_METRE = "1/m"
UNITS = (CYCLES_PER_FOV, CYCLES_PER_SAMPLE, RADIANS, CYCLES_PER_METRE)

_LENIENT = 1.02  # rounding and a half sample beyond the edge


def in_cycles_per_fov(
    readouts: Sequence[Readout], encodings: Sequence[Encoding], named: str | None, path: Path
) -> tuple[list[Readout], dict[int, str]]:
    """Convert positions to cycles per encoded field of view, last axis ``(kz,) ky, kx``.

    Parameters
    ----------
    readouts
        Positions ``(samples, dimensions)`` as the file has them, x first; further columns than
        three (weights of some writers) are dropped.
    encodings
        Matrix and field of view.
    named
        The unit, where the file names it.
    path
        The file, named in messages.

    Returns
    -------
    readouts : list of Readout
        The same with converted positions.
    units : dict
        The unit found for every encoding that has positions.

    Raises
    ------
    InconsistentError
        If the named unit is not known, or a readout has one coordinate only.
    """
    if named is not None and named not in UNITS:
        raise InconsistentError(
            f"{path}: the user parameter {UNIT} is {ascii(named)[:40]}; it must be one of "
            f"{', '.join(UNITS)}."
        )
    reach: dict[int, float] = {}
    for readout in readouts:
        if readout.trajectory is not None:
            if readout.trajectory.shape[1] < 2:
                raise InconsistentError(f"{path}: positions of readouts have one coordinate only.")
            largest = float(np.abs(readout.trajectory[:, :2]).max())
            reach[readout.encoding] = max(reach.get(readout.encoding, 0.0), largest)
    units = {encoding: named or guessed_unit(largest) for encoding, largest in reach.items()}
    converted = [
        readout
        if readout.trajectory is None
        else replace(
            readout,
            trajectory=_converted(
                readout.trajectory, encodings[readout.encoding], units[readout.encoding]
            ),
        )
        for readout in readouts
    ]
    return converted, units


def guessed_unit(reach: float) -> str:
    """Guess the unit of positions whose largest coordinate is ``reach``; see the module.

    Examples
    --------
    >>> guessed_unit(0.5), guessed_unit(3.14), guessed_unit(128.0)
    ('cycles/sample', 'rad/sample', 'cycles/fov')
    """
    if reach <= 0.5 * _LENIENT:
        return CYCLES_PER_SAMPLE
    return RADIANS if reach <= math.pi * _LENIENT else CYCLES_PER_FOV


def _converted(k: NDArray[np.float64], encoding: Encoding, unit: str) -> NDArray[np.float64]:
    positions = k[:, :3][:, ::-1]
    axes = positions.shape[1]
    matrix = np.array(encoding.matrix[3 - axes :], dtype=float)
    factors: dict[str, NDArray[np.float64]] = {
        CYCLES_PER_FOV: np.ones(axes),
        CYCLES_PER_SAMPLE: matrix,
        RADIANS: matrix / (2 * math.pi),
        CYCLES_PER_METRE: np.array(encoding.fov[3 - axes :]) * 1e-3,
    }
    converted: NDArray[np.float64] = positions * factors[unit]
    return converted
