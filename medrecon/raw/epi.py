"""From echo trains to plain Cartesian readouts that run forward: the first step with a scan.

Backward echoes are flipped, samples on ramps are interpolated to the grid, and forward and
backward echoes are brought into line: by navigator echoes where the scan has them, by the sharpest
image where not. Navigators are the first echoes of a train, when eddy currents have not settled;
where the image is not folded, what they leave is looked for there too, within narrow bounds.

A delay between gradient and samples is no linear phase on the ramps, where the gradient is weaker
than on its flat top. So the shift that navigators show is read as a delay first, the samples are
interpolated from where they really were, and only what is left is a phase.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from statistics import median
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.preprocessing.epi_phase import PhaseError, phase_correction, phase_from_image
from medrecon.raw.echoes import Echoes, stacked
from medrecon.raw.navigators import NavigatorSet, navigator_sets
from medrecon.raw.scan import RawScan, Readout

_REST = (0.3, 0.3)  # rad and samples: what navigators may have left


def corrected(scan: RawScan) -> RawScan:
    """Turn echo trains into plain Cartesian readouts.

    Parameters
    ----------
    scan
        What a reader found. Scans without backward echoes and without sampling on ramps come back
        as they are.

    Returns
    -------
    RawScan
        All readouts run forward on the Cartesian grid; no navigators are left where they have
        been used. Noise of unit variance is, after interpolation, of unit variance or a little
        less, and no longer quite white along the readout.

    Raises
    ------
    InconsistentError
        If the gradient's times, the readouts and the encoding do not fit each other, or a
        navigator holds NaN.

    Warns
    -----
    UserWarning
        Where images mix both directions and have no navigators, so that the correction is
        estimated from the image.
    """
    trains = {number for number in range(len(scan.encodings)) if _is_train(scan, number)}
    if not trains:
        return scan
    estimates = _Estimates(scan, trains)

    def straight(readouts: Sequence[Readout]) -> list[Readout]:
        corrections = estimates.of(readouts)
        return [
            _straight(r, estimates.echoes, corrections.get(i)) if r.encoding in trains else r
            for i, r in enumerate(readouts)
        ]

    readouts, calibration = straight(scan.readouts), straight(scan.calibration)
    encodings = tuple(
        replace(e, trajectory="cartesian", trapezoid=None) if number in trains else e
        for number, e in enumerate(scan.encodings)
    )
    return replace(
        scan,
        encodings=encodings,
        readouts=readouts,
        calibration=calibration,
        navigators=(),
        facts=MappingProxyType({**scan.facts, "epi": estimates.facts()}),
    )


def _is_train(scan: RawScan, number: int) -> bool:
    encoding = scan.encodings[number]
    if encoding.trajectory == "epi" or encoding.trapezoid is not None:
        return True
    everything = (*scan.readouts, *scan.calibration)
    return encoding.trajectory == "cartesian" and any(
        readout.reverse and readout.encoding == number for readout in everything
    )


@dataclass(frozen=True)
class _Correction:
    """A delay of the samples, us (0 without ramps), and the phase that is left after it."""

    late: float = 0.0
    error: PhaseError = field(default_factory=PhaseError)


def _corrected(readout: Readout, echoes: Echoes, correction: _Correction | None) -> Tensor:
    line = echoes.placed(readout, correction.late if correction else 0.0)
    return line if correction is None else correction.error.taken_off(line, readout.reverse)


def _straight(readout: Readout, echoes: Echoes, correction: _Correction | None) -> Readout:
    columns = echoes.columns(readout)
    return replace(
        readout,
        data=_corrected(readout, echoes, correction)[:, columns].numpy(),
        center=echoes.width(readout) // 2 - columns.start,
        reverse=False,
    )


class _Estimates:
    """The corrections of one scan, every one estimated once."""

    def __init__(self, scan: RawScan, trains: Set[int]) -> None:
        self._scan = scan
        self._trains = trains
        self.echoes = Echoes(scan)
        self._sets = navigator_sets(scan)
        self._by_navigators: dict[int, _Correction] = {}
        self._found: list[_Correction] = []
        self._how: set[str] = set()

    def of(self, readouts: Sequence[Readout]) -> dict[int, _Correction]:
        """Find the correction of every readout whose image mixes both directions."""
        found: dict[int, _Correction] = {}
        # the error of a scanner hardly changes: one look at an image serves all repetitions of it
        rest: dict[tuple[int, ...], PhaseError] = {}
        alike: dict[tuple[int, ...], _Correction] = {}
        for key, members in _mixed(readouts, self._trains).items():
            slice_key = key[:4]
            navigators = {i: self._sets.of(readouts[i]) for i in members}
            lost = [i for i in members if navigators[i] is None]
            told = {i: self._from_navigators(n) for i, n in navigators.items() if n is not None}
            if lost and slice_key not in alike:
                alike[slice_key] = self._from_image([readouts[i] for i in lost])
            if told and slice_key not in rest:
                rest[slice_key] = self._rest({i: readouts[i] for i in told}, told)
            for i, correction in told.items():
                error = correction.error + rest[slice_key]
                found[i] = replace(correction, error=error)
            found.update({i: alike[slice_key] for i in lost})
        if alike:
            warnings.warn(
                f"{self._scan.path}: echoes run both ways without navigator echoes in "
                f"{len(alike)} slices; the phase correction is estimated from the images, so look "
                "for ghosts half a field of view away.",
                stacklevel=4,
            )
        self._found.extend(found.values())
        return found

    def facts(self) -> dict[str, Any]:
        """Tell what was done, in plain values."""
        facts: dict[str, Any] = {
            "ramp_sampling": any(e.trapezoid is not None for e in self._scan.encodings),
            "phase_correction": sorted(self._how),
        }
        if self._found:
            errors = [correction.error for correction in self._found]
            middle = {
                "constant_rad": median(float(np.mean(e.constant)) for e in errors),
                "shift_samples": median(float(np.mean(e.shift)) for e in errors),
                "delay_us": median(correction.late for correction in self._found),
            }
            facts |= {name: round(value, 4) for name, value in middle.items()}
        return facts

    def _from_navigators(self, navigators: NavigatorSet) -> _Correction:
        if navigators.number not in self._by_navigators:
            lines = navigators.echoes
            if not all(np.isfinite(echo.data).all() for echo in lines):
                raise InconsistentError(
                    f"{self._scan.path}: a navigator echo of slice {lines[0].slice} holds NaN or "
                    "infinite samples; repair the file or leave it out."
                )
            reverse = [echo.reverse for echo in lines]
            error = phase_correction(stacked(self.echoes, lines), reverse)
            late = self.echoes.delay(float(np.mean(error.shift)), lines[0])
            if late:
                error = phase_correction(stacked(self.echoes, lines, late), reverse)
            self._by_navigators[navigators.number] = _Correction(late, error)
            self._how.add("navigators")
        return self._by_navigators[navigators.number]

    def _rest(self, readouts: dict[int, Readout], told: dict[int, _Correction]) -> PhaseError:
        """Find what the image shows that navigators, at the beginning of the train, did not.

        Undersampled images are folded and are left as navigators have made them.
        """
        lines = [(r, told[i]) for i, r in readouts.items()]
        image, reverse = self._image(lines)
        measured = image.abs().sum(dim=(0, 2)).nonzero().flatten()
        if len(measured) < 2 or int(measured.diff().max()) > 1:
            return PhaseError()
        self._how.add("entropy")
        return phase_from_image(image, reverse, within=_REST)

    def _from_image(self, readouts: Sequence[Readout]) -> _Correction:
        error = phase_from_image(*self._image([(readout, None) for readout in readouts]))
        late = self.echoes.delay(float(error.shift), readouts[0])
        rest = error.shift - self.echoes.shift(late, readouts[0])
        self._how.add("entropy")
        return _Correction(late, PhaseError(error.constant, rest))

    def _image(
        self, lines: Sequence[tuple[Readout, _Correction | None]]
    ) -> tuple[Tensor, list[bool]]:
        """Make k-space ``(coils, y, x)`` of one image; of a slab, its central partition."""
        encoding = self._scan.encodings[lines[0][0].encoding]
        nearest = min(abs(r.partition - encoding.center[0]) for r, _ in lines)
        height, width = encoding.matrix[1:]
        kspace = torch.zeros(len(lines[0][0].data), height, width, dtype=torch.complex64)
        reverse = [False] * height
        for readout, correction in lines:
            y = height // 2 + readout.line - encoding.center[1]
            if abs(readout.partition - encoding.center[0]) == nearest and 0 <= y < height:
                kspace[:, y] = _corrected(readout, self.echoes, correction)
                reverse[y] = readout.reverse
        return kspace, reverse


def _mixed(readouts: Sequence[Readout], trains: Set[int]) -> dict[tuple[int, ...], list[int]]:
    """Find images that mix both directions; their key begins with what the error hangs on."""
    images: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, r in enumerate(readouts):
        if r.encoding not in trains:
            continue
        images[r.encoding, r.slice, r.contrast, r.set, r.repetition, r.phase].append(i)
    return {
        key: members
        for key, members in images.items()
        if len({readouts[i].reverse for i in members}) > 1
    }
