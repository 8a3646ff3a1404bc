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
_COILS = 4  # virtual coils that the search without navigators looks at
_SHIFTS = np.arange(-3.0, 3.01, 0.25)  # samples: where it begins to search
_CONSTANTS = np.linspace(-0.5, 0.5, 8, endpoint=False) * np.pi


@dataclass(frozen=True)
class PhaseError:
    """By what backward echoes differ from forward ones, once they are flipped.

    Parameters
    ----------
    constant
        Phase at the centre of the field of view, rad.
    shift
        Shift in k-space, samples: the phase runs through ``2 pi shift`` over the field of view.
    """

    constant: float = 0.0
    shift: float = 0.0

    def phase(self, n: int) -> NDArray[np.float64]:
        """Phase of backward over forward echoes in ``n`` pixels along the readout, rad."""
        turn = 2 * np.pi * self.shift * (np.arange(n) - n // 2) / n
        return np.asarray(self.constant + turn, dtype=np.float64)

    def taken_off(self, kspace: Tensor, reverse: bool) -> Tensor:
        """Correct centred readouts ``(..., x)`` of one direction.

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
    line through the phase is fitted over all coils and triples together: started by the
    autocorrelation of Ahn and Cho, refined by least squares with the signal as weight, in which
    pixels that disagree count less.

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
        The error.

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
    images = kspace_to_image(navigators.to(torch.complex128), (-1,))
    ratio = torch.zeros(images.shape[-1], dtype=torch.complex128)
    for before, at, after in _triples(reverse):
        other = images[before]
        if after != before:
            drift = 0.5 * float(torch.angle((images[after] * images[before].conj()).sum()))
            back = torch.polar(torch.tensor(1.0), torch.tensor(drift)).to(torch.complex128)
            other = 0.5 * (images[before] * back + images[after] * back.conj())
        pair = (images[at], other) if reverse[at] else (other, images[at])
        ratio += (pair[0] * pair[1].conj()).sum(0).cpu()
    return fit_phase(ratio)


def _triples(reverse: Sequence[bool]) -> list[tuple[int, int, int]]:
    """Echoes with a neighbour of the other direction on both sides; else pairs, time ignored."""
    inner = range(1, len(reverse) - 1)
    found = [(i - 1, i, i + 1) for i in inner if reverse[i - 1] == reverse[i + 1] != reverse[i]]
    if found:
        return found
    first = {flag: list(reverse).index(flag) for flag in (False, True)}
    return [(first[False], first[True], first[False])]


def fit_phase(ratio: Tensor) -> PhaseError:
    """Fit a line to the phase of ``ratio`` ``(x,)``, weighted by its magnitude, robustly.

    ``ratio`` is backward times conjugate forward signal; no phase is ever unwrapped.
    """
    n = len(ratio)
    values = ratio.numpy()
    size = np.abs(values)
    if not size.any():
        return PhaseError()
    x = (np.arange(n) - n // 2) / n
    slope = float(np.angle((values[1:] * values[:-1].conj()).sum())) * n
    constant = float(np.angle((values * np.exp(-1j * slope * x)).sum()))
    design = np.stack([np.ones(n), x], axis=1)
    for _ in range(_ROUNDS):
        misfit = np.angle(values * np.exp(-1j * (constant + slope * x)))
        weight = size / (1 + (misfit / _OUTLIER) ** 2)
        normal = design.T @ (weight[:, None] * design)
        step = np.linalg.lstsq(normal, design.T @ (weight * misfit), rcond=None)[0]
        constant, slope = constant + float(step[0]), slope + float(step[1])
    return PhaseError(math.remainder(constant, 2 * math.pi), slope / (2 * math.pi))


def phase_from_image(kspace: Tensor, reverse: Sequence[bool]) -> PhaseError:
    """Estimate the phase error without navigators: the sharpest image has no ghost.

    Searches the constant and shift with the smallest entropy of the combined magnitude. Half a
    turn more of the constant swaps object and ghost and leaves the entropy as it is, so constants
    beyond a quarter of a turn cannot be found this way.

    Parameters
    ----------
    kspace
        Complex ``(coils, y, x)``, centred, backward lines flipped already, zero where not measured.
    reverse
        Which lines ``y`` ran backwards; lines without samples do not matter.

    Returns
    -------
    PhaseError
        The error, its constant between -pi/2 and pi/2.
    """
    backward = torch.tensor(list(reverse), dtype=torch.bool)[:, None]
    coils = _strongest(kspace.cpu().to(torch.complex64))
    parts = [kspace_to_image(coils * part, (-2, -1)) for part in (~backward, backward)]

    def entropy(parameters: NDArray[np.float64]) -> float:
        turn = torch.from_numpy(PhaseError(*map(float, parameters)).phase(coils.shape[-1]) / 2)
        factor = torch.polar(torch.ones_like(turn), turn).to(coils.dtype)
        image = parts[0] * factor + parts[1] * factor.conj()
        power = image.real.square().add(image.imag.square()).sum(0)
        share = torch.sqrt(power / power.sum()).clamp_min(1e-20)
        return -float((share * share.log()).sum())

    if not float(coils.abs().sum()):
        return PhaseError()
    start = min(((c, s) for s in _SHIFTS for c in _CONSTANTS), key=lambda at: entropy(np.array(at)))
    simplex = np.array(start) + np.array([[0.0, 0.0], [0.2, 0.0], [0.0, 0.12]])
    found = minimize(
        entropy, start, method="Nelder-Mead", options={"initial_simplex": simplex, "xatol": 1e-3}
    )
    return PhaseError(math.remainder(float(found.x[0]), math.pi), float(found.x[1]))


def _strongest(kspace: Tensor) -> Tensor:
    """Reduce coils to the few virtual ones that hold most of the signal."""
    flat = kspace.flatten(1)
    _, vectors = torch.linalg.eigh(flat @ flat.conj().T)
    kept = vectors[:, -_COILS:]
    virtual: Tensor = (kept.conj().T @ flat).reshape(-1, *kspace.shape[1:])
    return virtual
