r"""Deterministic laws that remember earlier levels: multistep solvers of the probability flow.

In sigma the flow is :math:`dx/d\sigma = (x - \hat x) / \sigma`, with the consistent estimate in
place of the denoised volume: the flow of the posterior, not of the prior. A step of higher order
needs fewer levels for the same error; its memory is passed in and out, never hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from medrecon.sampling.loop import Draw, Memory, Point


@dataclass(frozen=True)
class DPMSolver:
    r"""DPM-Solver++(2M): the estimate is extrapolated linearly in :math:`\lambda = -\ln \sigma`.

    .. math::

        D = \hat x + \frac{h}{2 h_{-1}} (\hat x - \hat x_{-1}), \qquad
        x' = \frac{s'}{s} x + \left(1 - \frac{s'}{s}\right) D

    with :math:`h = \ln(s / s')` and :math:`h_{-1} = \ln(s_{-1} / s)`.

    References
    ----------
    Lu et al. 2022, arXiv:2211.01095, algorithm 2, for alpha = 1.
    """

    def __call__(
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        clean = at.estimate
        if memory:
            (before, earlier), *_ = memory
            ratio = math.log(at.sigma / target) / math.log(before / at.sigma)
            clean = clean + ratio / 2 * (clean - earlier)
        shrink = target / at.sigma
        return shrink * at.x + (1 - shrink) * clean, ((at.sigma, at.estimate),)


@dataclass(frozen=True)
class DEIS:
    r"""DEIS (rho-AB): Adams-Bashforth in sigma on uneven levels.

    .. math:: x' = x + \sum_j c_j \hat n_{-j}, \qquad c_j = \int_s^{s'} \ell_j(\sigma)\, d\sigma

    with Lagrange's polynomials on the last levels and the slopes :math:`\hat n`.

    Parameters
    ----------
    order
        Slopes in use, 1 to 4.

    References
    ----------
    Zhang and Chen 2023, arXiv:2204.13902, section 3.3.
    """

    order: int = 3

    def __call__(
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        slopes = ((at.sigma, at.implied), *memory)[: self.order]
        x = at.x
        for weight, (_, slope) in zip(
            integrated_lagrange([level for level, _ in slopes], target), slopes, strict=True
        ):
            x = x + weight * slope
        return x, slopes


@dataclass(frozen=True)
class Momentum:
    r"""Generalised heavy ball (GHVB): the slope's running mean, extrapolated to the step's middle.

    .. math::

        v_n &= (1 - \beta) v_{n-1} + \beta \hat n_n, \qquad
        m_n = (1 - \beta) m_{n-1} + \beta s_n \\
        x' &= x + (s' - s) \left(v_n + \frac{(s + s') / 2 - m_n}{m_n - m_{n-1}}
        (v_n - v_{n-1})\right)

    The mean damps the oscillations that few large steps excite; :math:`\beta = 1` is the second
    order Adams-Bashforth method. Averaging the levels beside the slopes keeps the step exact for
    slopes that are linear in sigma on any levels; on even ones, once the means have settled, it is
    the published :math:`((2 + \beta) v_n - (2 - \beta) v_{n-1}) / 2 \beta`.

    Parameters
    ----------
    beta
        In (0, 1]; smaller is more damped.

    References
    ----------
    Wizadwongsa, Chinchuthakun, Khungurn, Raj and Suwajanakorn 2023, arXiv:2307.11118.
    """

    beta: float = 0.8

    def __call__(
        self, at: Point, target: float, draw: Draw, memory: Memory
    ) -> tuple[Tensor, Memory]:
        """See :class:`~medrecon.sampling.loop.Renoise`."""
        level, slope = at.sigma, at.implied
        step = target - at.sigma
        if not memory:
            return at.x + step * slope, ((level, slope),)
        (before, earlier), *_ = memory
        level = (1 - self.beta) * before + self.beta * level
        slope = (1 - self.beta) * earlier + self.beta * slope
        reach = ((at.sigma + target) / 2 - level) / (level - before)
        return at.x + step * (slope + reach * (slope - earlier)), ((level, slope),)


def integrated_lagrange(nodes: Sequence[float], end: float) -> list[float]:
    """Integrals from ``nodes[0]`` to ``end`` of Lagrange's polynomials on up to 4 nodes.

    By Gauss' rule with two points, exact for cubics.

    >>> [round(c, 12) for c in integrated_lagrange([0.0, -1.0], 1.0)]  # Adams and Bashforth
    [1.5, -0.5]
    """
    half, middle = (end - nodes[0]) / 2, (end + nodes[0]) / 2
    points = [middle - half / math.sqrt(3), middle + half / math.sqrt(3)]
    return [half * sum(_lagrange(nodes, j, p) for p in points) for j in range(len(nodes))]


def _lagrange(nodes: Sequence[float], j: int, at: float) -> float:
    return math.prod((at - node) / (nodes[j] - node) for k, node in enumerate(nodes) if k != j)
