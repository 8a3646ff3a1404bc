"""Echo-planar readouts: forward and backward echoes that disagree, brought into line.

An echo train reads k-space forth and back. What the readout gradient does late (eddy currents,
delays) shifts forward and backward echoes in opposite directions, so even and odd lines disagree
by a phase ``constant + 2 pi shift x / FOV`` along the readout. Left alone, every object gets a
ghost half a field of view away along the phase encoding.

References
----------
Ahn, Cho, A new phase correction method in NMR imaging based on autocorrelation and histogram
analysis, IEEE Trans Med Imaging 6 (1987), doi:10.1109/TMI.1987.4307795.
Heid, Method for the phase correction of nuclear magnetic resonance signals, US patent 6043651
(2000): three navigator echoes.
Clare, Iterative Nyquist ghost correction for single and multi-shot EPI using an entropy measure,
Proc ISMRM 16 (2008) 1041.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image

_ROUNDS = 20  # of reweighted least squares
_OUTLIER = 0.5  # rad: misfit from which on a pixel counts less
_COILS = 4  # virtual coils that the search in images looks at
_SHIFTS = np.arange(-3.0, 3.01, 0.25)  # samples: where it begins to search
_CONSTANTS = np.linspace(-0.5, 0.5, 8, endpoint=False) * np.pi

Parameter = float | NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PhaseError:
    """By what backward echoes differ from forward ones, once they are flipped.

    Parameters
    ----------
    constant
        Phase at the centre of the field of view, rad; one for all coils, or ``(coils,)``.
    shift
        Shift in k-space, samples: the phase runs through ``2 pi shift`` over the field of view;
        one for all coils, or ``(coils,)``.
    """

    constant: Parameter = 0.0
    shift: Parameter = 0.0

    def __add__(self, other: PhaseError) -> PhaseError:
        return PhaseError(self.constant + other.constant, self.shift + other.shift)

    def phase(self, n: int) -> NDArray[np.float64]:
        """Phase of backward over forward echoes in ``n`` pixels along the readout, rad.

        ``(n,)``, or ``(coils, n)``.
        """
        x = (np.arange(n) - n // 2) / n
        turn = 2 * np.pi * np.asarray(self.shift)[..., None] * x
        return np.asarray(np.asarray(self.constant)[..., None] + turn, dtype=np.float64)

    def taken_off(self, kspace: Tensor, reverse: bool) -> Tensor:
        """Correct centred readouts ``(..., coils, x)`` of one direction.

        Forward and backward echoes take half of the error each: a delay moves both away from
        where the gradient means them to be, in opposite directions.
        """
        phase = torch.from_numpy(self.phase(kspace.shape[-1])) * (-0.5 if reverse else 0.5)
        factor = torch.polar(torch.ones_like(phase), phase).to(kspace.device, kspace.dtype)
        return image_to_kspace(kspace_to_image(kspace, (-1,)) * factor, (-1,))


def phase_correction(navigators: Tensor, reverse: Sequence[bool]) -> PhaseError:
    """Estimate the phase error from navigator echoes, that were not phase-encoded.

    Every echo between two of the other direction is compared with the mean of the two, which
    takes off-resonance (a phase that grows with time) out; with two echoes only, it stays in. The
    line through the phase is fitted over all triples together: started by the autocorrelation of
    Ahn and Cho, refined by least squares with the signal as weight, in which pixels that disagree
    count less.

    Where the error changes along the phase encoding too, coils see different parts of it. Each
    coil gets its own line, drawn to that of all coils together by as much as its noise is larger
    than the spread between coils.

    Parameters
    ----------
    navigators
        Complex ``(echoes, coils, x)``, centred k-space, backward echoes flipped already, in the
        order of acquisition.
    reverse
        Which of them ran backwards.

    Returns
    -------
    PhaseError
        The error of every coil.

    Raises
    ------
    InconsistentError
        If there are not echoes of both directions.
    """
    if len(set(reverse)) < 2 or len(reverse) != len(navigators):
        raise InconsistentError(
            f"A phase correction needs navigator echoes of both directions, got {len(reverse)} "
            f"flags for {len(navigators)} echoes, {sum(reverse)} of them backward."
        )
    images = kspace_to_image(navigators.to(torch.complex128), (-1,)).cpu()
    ratio = torch.zeros(images.shape[1:], dtype=torch.complex128)
    for before, at, after in _triples(reverse):
        other = images[before]
        if after != before:
            drift = 0.5 * float(torch.angle((images[after] * images[before].conj()).sum()))
            back = torch.polar(torch.tensor(1.0), torch.tensor(drift)).to(torch.complex128)
            other = 0.5 * (images[before] * back + images[after] * back.conj())
        pair = (images[at], other) if reverse[at] else (other, images[at])
        ratio += pair[0] * pair[1].conj()
    return _drawn_together(ratio.numpy())


def _triples(reverse: Sequence[bool]) -> list[tuple[int, int, int]]:
    """Echoes with a neighbour of the other direction on both sides; else pairs, time ignored."""
    inner = range(1, len(reverse) - 1)
    found = [(i - 1, i, i + 1) for i in inner if reverse[i - 1] == reverse[i + 1] != reverse[i]]
    if found:
        return found
    first = {flag: list(reverse).index(flag) for flag in (False, True)}
    return [(first[False], first[True], first[False])]


def _drawn_together(ratio: NDArray[np.complex128]) -> PhaseError:
    """Combine the lines of single coils with that of all, by their variances (empirical Bayes)."""
    together = ratio.sum(axis=0)
    common, _ = _line(together, _autocorrelation(together))
    fits = [_line(row, common) for row in ratio]  # begun there: noise alone cannot lead far away
    away = np.array([line for line, _ in fits]) - common
    variance = np.array([variance for _, variance in fits])
    precision = 1 / np.maximum(variance, 1e-12)
    excess = (precision * (away**2 - variance)).sum(axis=0) / precision.sum(axis=0)
    spread = np.maximum(excess, 0)
    own = common + away * spread / np.maximum(spread + variance, 1e-12)
    constant = np.remainder(own[:, 0] + np.pi, 2 * np.pi) - np.pi
    return PhaseError(constant, own[:, 1] / (2 * np.pi))


def _autocorrelation(ratio: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Constant and slope of the phase of ``ratio`` ``(x,)`` from its neighbours (Ahn and Cho)."""
    slope = float(np.angle((ratio[1:] * ratio[:-1].conj()).sum())) * len(ratio)
    x = (np.arange(len(ratio)) - len(ratio) // 2) / len(ratio)
    return np.array([np.angle((ratio * np.exp(-1j * slope * x)).sum()), slope])


def _line(
    ratio: NDArray[np.complex128], start: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit a line to the phase of ``ratio`` without ever unwrapping it; its variances too."""
    n, size, line = len(ratio), np.abs(ratio), start
    if not size.any():
        return start, np.full(2, 1e6)
    design = np.stack([np.ones(n), (np.arange(n) - n // 2) / n], axis=1)
    for _ in range(_ROUNDS):
        misfit = np.angle(ratio * np.exp(-1j * design @ line))
        weight = size / (1 + (misfit / _OUTLIER) ** 2)
        inverse = np.linalg.pinv(design.T @ (weight[:, None] * design))
        line = line + inverse @ (design.T @ (weight * misfit))
    inverse = np.linalg.pinv(design.T @ (size[:, None] * design))
    scatter = design.T @ ((size * misfit)[:, None] ** 2 * design)
    return line, np.diag(inverse @ scatter @ inverse)


def phase_from_image(
    kspace: Tensor, reverse: Sequence[bool], *, within: tuple[float, float] | None = None
) -> PhaseError:
    """Estimate the phase error from the image: the sharpest one has no ghost.

    Searches the constant and shift with the smallest entropy of the combined magnitude. Half a
    turn more of the constant swaps object and ghost and leaves the entropy as it is, so constants
    beyond a quarter of a turn cannot be found this way.

    Parameters
    ----------
    kspace
        Complex ``(coils, y, x)``, centred, backward lines flipped already, zero where not measured.
    reverse
        Which lines ``y`` ran backwards; lines without samples do not matter.
    within
        Largest constant (rad) and shift (samples) that are looked at, for what a correction by
        navigators has left; ``None``: all constants, and shifts up to 3 samples.

    Returns
    -------
    PhaseError
        The error, one for all coils; its constant lies between -pi/2 and pi/2.
    """
    backward = torch.tensor(list(reverse), dtype=torch.bool)[:, None]
    coils = _strongest(kspace.cpu().to(torch.complex64))
    if not float(coils.abs().sum()):
        return PhaseError()
    parts = [kspace_to_image(coils * part, (-2, -1)) for part in (~backward, backward)]

    def entropy(at: NDArray[np.float64]) -> float:
        turn = torch.from_numpy(PhaseError(float(at[0]), float(at[1])).phase(coils.shape[-1]) / 2)
        factor = torch.polar(torch.ones_like(turn), turn).to(coils.dtype)
        image = parts[0] * factor + parts[1] * factor.conj()
        power = image.real.square().add(image.imag.square()).sum(0)
        share = torch.sqrt(power / power.sum()).clamp_min(1e-20)
        return -float((share * share.log()).sum())

    start, bounds = np.zeros(2), None
    if within is None:
        starts = [np.array([c, s]) for s in _SHIFTS for c in _CONSTANTS]
        start = min(starts, key=entropy)
        first = np.array([0.2, 0.12])
    else:
        bounds = [(-most, most) for most in within]
        first = np.array(within) / 4
    options = {"initial_simplex": start + np.stack([0 * first, *np.diag(first)]), "xatol": 1e-3}
    found = minimize(entropy, start, method="Nelder-Mead", bounds=bounds, options=options).x
    return PhaseError(math.remainder(float(found[0]), math.pi), float(found[1]))


def _strongest(kspace: Tensor) -> Tensor:
    """Reduce coils to the few virtual ones that hold most of the signal."""
    flat = kspace.flatten(1)
    _, vectors = torch.linalg.eigh(flat @ flat.conj().T)
    kept = vectors[:, -_COILS:]
    virtual: Tensor = (kept.conj().T @ flat).reshape(-1, *kspace.shape[1:])
    return virtual
