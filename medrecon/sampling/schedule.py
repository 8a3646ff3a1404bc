"""Noise levels of a sampler: falling grids between two levels."""

from __future__ import annotations

import math
from functools import cache

from medrecon.errors import InconsistentError

_VP_STEPS, _VP_BETA = 1000, (1e-4, 0.02)


def karras_sigmas(steps: int, start: float, end: float, exponent: float = 7.0) -> tuple[float, ...]:
    r"""Return ``steps`` noise levels from ``start`` down to ``end``, crowding towards the end.

    .. math:: s_i = \left(s_0^{1/p} + \tfrac{i}{n-1} (s_{n-1}^{1/p} - s_0^{1/p})\right)^p

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, equation 5.
    """
    _check(steps, start, end)
    if steps == 1:
        return (start,)
    a, b = start ** (1 / exponent), end ** (1 / exponent)
    return tuple((a + i / (steps - 1) * (b - a)) ** exponent for i in range(steps))


def geometric_sigmas(steps: int, start: float, end: float) -> tuple[float, ...]:
    r"""Return ``steps`` noise levels, each the same fraction of the one before.

    Even in :math:`\lambda = -\ln \sigma`, the levels of DPM-Solver and of the variance-exploding
    SDE.

    References
    ----------
    Song et al. 2021, arXiv:2011.13456, appendix C; Lu et al. 2022, arXiv:2211.01095.
    """
    _check(steps, start, end)
    if steps == 1:
        return (start,)
    fall = math.log(end / start) / (steps - 1)
    return (*(start * math.exp(i * fall) for i in range(steps - 1)), end)


def ddim_sigmas(steps: int, start: float, end: float) -> tuple[float, ...]:
    r"""Return ``steps`` noise levels even in the time of the variance-preserving chain.

    The chain has 1000 steps with beta from 1e-4 to 0.02, :math:`\bar\alpha_t = \prod (1 - \beta)`
    and :math:`\sigma_t = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}`, from 0.01 at t = 0 to 157 at
    t = 999; times between its steps are interpolated in :math:`\ln \sigma`.

    References
    ----------
    Ho, Jain and Abbeel 2020, arXiv:2006.11239, section 4; Song, Meng and Ermon 2021,
    arXiv:2010.02502, appendix D.
    """
    _check(steps, start, end)
    if steps == 1:
        return (start,)
    first, last = _vp_time(start), _vp_time(end)
    inner = (first + i / (steps - 1) * (last - first) for i in range(1, steps - 1))
    return (start, *(_vp_sigma(t) for t in inner), end)


@cache
def _vp_logs() -> tuple[float, ...]:
    """``ln sigma`` at the times 0 to 999."""
    low, high = _VP_BETA
    abar, logs = 1.0, []
    for t in range(_VP_STEPS):
        abar *= 1 - (low + t / (_VP_STEPS - 1) * (high - low))
        logs.append(0.5 * math.log((1 - abar) / abar))
    return tuple(logs)


def _vp_time(sigma: float) -> float:
    """Time of a level; outside of the chain its ends are continued in ``ln sigma``."""
    logs, log = _vp_logs(), math.log(sigma)
    k = min(max(sum(value <= log for value in logs) - 1, 0), _VP_STEPS - 2)
    return k + (log - logs[k]) / (logs[k + 1] - logs[k])


def _vp_sigma(time: float) -> float:
    logs = _vp_logs()
    k = min(max(int(time), 0), _VP_STEPS - 2)
    return math.exp(logs[k] + (time - k) * (logs[k + 1] - logs[k]))


def _check(steps: int, start: float, end: float) -> None:
    if not (steps >= 1 and start >= end > 0):
        raise InconsistentError(
            f"Noise levels must fall from start to end: {steps} steps from {start} to {end}."
        )
