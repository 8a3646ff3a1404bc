"""Noise levels of a sampler."""

from __future__ import annotations

from medrecon.errors import InconsistentError


def karras_sigmas(steps: int, start: float, end: float, exponent: float = 7.0) -> tuple[float, ...]:
    r"""Return ``steps`` noise levels from ``start`` down to ``end``, crowding towards the end.

    .. math:: s_i = \left(s_0^{1/p} + \tfrac{i}{n-1} (s_{n-1}^{1/p} - s_0^{1/p})\right)^p

    References
    ----------
    Karras et al. 2022, arXiv:2206.00364, equation 5.
    """
    if not (steps >= 1 and start >= end > 0):
        raise InconsistentError(
            f"Noise levels must fall from start to end: {steps} steps from {start} to {end}."
        )
    if steps == 1:
        return (start,)
    a, b = start ** (1 / exponent), end ** (1 / exponent)
    return tuple((a + i / (steps - 1) * (b - a)) ** exponent for i in range(steps))
