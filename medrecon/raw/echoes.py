"""Echoes of a train, each for itself: flipped, and put onto the Cartesian grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.preprocessing.epi import ramp_positions, regridding_matrix
from medrecon.raw.scan import RawScan, Readout, Trapezoid

TICK = 0.02
"""Delays are rounded to it (us), so that few interpolations serve all readouts."""


class Echoes:
    """Puts the echoes of one scan onto the grid.

    Parameters
    ----------
    scan
        The scan, whose encodings say how the readouts run.
    """

    def __init__(self, scan: RawScan) -> None:
        self._path = scan.path
        self._encodings = scan.encodings
        self._centres: dict[int, int] = {}
        for readout in (*scan.readouts, *scan.calibration, *scan.navigators):
            if not readout.reverse:
                self._centres.setdefault(readout.encoding, readout.center)
        self._matrices: dict[tuple[int, int, bool, int], Tensor] = {}

    def width(self, readout: Readout) -> int:
        """Size of the encoded matrix along the readout."""
        return self._encodings[readout.encoding].matrix[2]

    def on_ramps(self, readout: Readout) -> bool:
        """Whether it is sampled on the gradient's ramps."""
        return self._encodings[readout.encoding].trapezoid is not None

    def placed(self, readout: Readout, late: float = 0.0) -> Tensor:
        """Give centred k-space ``(coils, x)`` of one readout, running forward.

        Parameters
        ----------
        readout
            The readout.
        late
            By how much its samples were late, us; a multiple of :data:`TICK`. Without sampling on
            ramps a delay is a mere phase and is not looked at here.
        """
        data = torch.from_numpy(np.ascontiguousarray(readout.data))
        trapezoid = self._encodings[readout.encoding].trapezoid
        if trapezoid is not None:
            return data @ self._matrix(readout, trapezoid, late)
        line = torch.zeros(len(data), self.width(readout), dtype=data.dtype)
        line[:, self.columns(readout)] = data.flip(1) if readout.reverse else data
        return line

    def columns(self, readout: Readout) -> slice:
        """Say where the samples belong in the encoded matrix.

        Raises
        ------
        InconsistentError
            If they do not fit.
        """
        width, samples = self.width(readout), readout.data.shape[1]
        if self.on_ramps(readout):
            return slice(0, width)
        centre = samples - 1 - readout.center if readout.reverse else readout.center
        # makers call n // 2 the centre of an even readout in both directions; what one sample
        # makes is a phase, which the correction finds where it matters
        forward = self._centres.get(readout.encoding, samples // 2)
        centre = forward if abs(centre - forward) == 1 else centre
        start = width // 2 - centre
        if start < 0 or start + samples > width:
            raise InconsistentError(
                f"{self._path}: echoes of {samples} samples with the centre at sample {centre} "
                f"do not fit the encoded readout of {width} samples."
            )
        return slice(start, start + samples)

    def delay(self, shift: float, readout: Readout) -> float:
        """Convert a shift between both directions, samples, into the delay that makes it, us."""
        trapezoid = self._encodings[readout.encoding].trapezoid
        if trapezoid is None:
            return 0.0
        return round(shift * self._delay_of_one(readout, trapezoid) / TICK) * TICK

    def shift(self, delay: float, readout: Readout) -> float:
        """Convert a delay, us, into the shift between both directions, samples."""
        trapezoid = self._encodings[readout.encoding].trapezoid
        return 0.0 if trapezoid is None else delay / self._delay_of_one(readout, trapezoid)

    def _delay_of_one(self, readout: Readout, trapezoid: Trapezoid) -> float:
        step = np.diff(self._positions(readout, trapezoid, 0.0)).max(initial=1e-9)
        return float(0.5 * trapezoid.dwell / step)

    def _positions(
        self, readout: Readout, trapezoid: Trapezoid, late: float
    ) -> NDArray[np.float64]:
        samples = readout.data.shape[1]
        return ramp_positions(samples, self.width(readout), **vars(trapezoid), late=late)

    def _matrix(self, readout: Readout, trapezoid: Trapezoid, late: float) -> Tensor:
        key = (readout.encoding, readout.data.shape[1], readout.reverse, round(late / TICK))
        if key not in self._matrices:
            positions = self._positions(readout, trapezoid, late)
            if readout.reverse:  # in the order of acquisition it runs from +k to -k
                positions = -positions[::-1]
            matrix = regridding_matrix(positions, self.width(readout))
            matrix = matrix.flip(1) if readout.reverse else matrix
            self._matrices[key] = matrix.T.contiguous().to(torch.complex64)
        return self._matrices[key]


def stacked(echoes: Echoes, readouts: Sequence[Readout], late: float = 0.0) -> Tensor:
    """Stack several echoes of the same coils, ``(echoes, coils, x)``."""
    return torch.stack([echoes.placed(readout, late) for readout in readouts])
