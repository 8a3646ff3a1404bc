"""Fewer calls of the network: a denoised volume is extrapolated where the last ones agreed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from medrecon.priors.denoiser import Denoiser

_KNOWN = 2  # denoised volumes that a line goes through


@dataclass(eq=False)
class Skipping:
    r"""A denoiser that answers some calls without its network.

    What the network would say is drawn on from its last two answers, in a straight line over
    :math:`\ln \sigma`.  Each answer of the network is first compared with that line: only where the
    mean squared difference stays below ``tolerance`` times the prior's own error variance is the
    next call skipped.  Never two in a row, never before there are two answers, never below
    ``end``, where errors would stay.

    It is for one pass along falling levels; a level above the last begins a new pass.

    Parameters
    ----------
    prior
        The denoiser with the network; one that counts its calls counts what was really asked.
    tolerance
        Share of the error variance; 0 never skips.
    end
        Lowest noise level that may be skipped.

    References
    ----------
    Jiang et al. 2025, arXiv:2507.17135 (SADA: a stability criterion decides what is skipped); here
    the criterion is on the clean estimate and in the prior's unit, as a data step comes between
    two calls.
    """

    prior: Denoiser
    tolerance: float
    end: float
    skipped: int = 0
    _answers: list[tuple[float, Tensor]] = field(default_factory=list, repr=False)
    _stable: bool = False
    _last: float = math.inf

    def error_variance(self, sigma: float) -> float:
        """See :class:`~medrecon.priors.denoiser.Denoiser`."""
        return self.prior.error_variance(sigma)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """See :class:`~medrecon.priors.denoiser.Denoiser`."""
        if sigma > self._last:
            self._answers, self._stable = [], False
        self._last = sigma
        expected = self._extrapolated(sigma)
        if expected is not None and self._stable and sigma >= self.end:
            self.skipped += 1
            self._stable = False
            return expected
        found = self.prior(x, sigma)
        self._stable = expected is not None and self._agree(expected, found, sigma)
        self._answers = [*self._answers[1 - _KNOWN :], (math.log(sigma), found)]
        return found

    def _extrapolated(self, sigma: float) -> Tensor | None:
        """Continue the line through the last two answers to ``sigma``."""
        if len(self._answers) < _KNOWN:
            return None
        (before, older), (after, newer) = self._answers
        if before == after:
            return newer
        share = (math.log(sigma) - after) / (after - before)
        return newer + share * (newer - older)

    def _agree(self, expected: Tensor, found: Tensor, sigma: float) -> bool:
        channels = 2 if found.is_complex() else 1
        error = float((expected - found).abs().square().mean()) / channels
        return error < self.tolerance * self.prior.error_variance(sigma)
