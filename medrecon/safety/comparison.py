"""Which of two images is nearer the truth, as told by measurements that neither has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.safety.held_out import HeldOut
from medrecon.solvers.cg import conjugate_gradients, inner
from medrecon.solvers.preconditioner import curvature, diagonal_preconditioner

_ITERATIONS, _TOLERANCE = 40, 1e-4
_LEAST = 0.01  # share of the first image's error below which the noise hides what is left


@dataclass(frozen=True)
class Comparison:
    r"""What held-out measurements say of the blends ``(1 - w) first + w second``.

    .. math:: E(w) = E_0 - 2 w c + w^2 s

    Parameters
    ----------
    first
        :math:`E_0`, the first image's mean squared error in the prior's unit, as far as the
        measurements see it, with the noise's share taken off.
    cross, spread
        :math:`c` and :math:`s`.
    deviation
        Standard error of :attr:`weight`.
    """

    first: float
    cross: float
    spread: float
    deviation: float

    @property
    def weight(self) -> float:
        """The share of the second image with the least error; not confined to [0, 1]."""
        return self.cross / self.spread if self.spread > 0 else 0.0

    def error(self, share: float) -> float:
        """Error of the blend, at least a hundredth of the first image's."""
        error = self.first - 2 * share * self.cross + share**2 * self.spread
        return max(error, _LEAST * self.first, 1e-30)

    def gain_db(self, share: float = 1.0) -> float:
        """By how much the blend is better than the first image, dB."""
        return 10 * math.log10(self.error(0.0) / self.error(share))


def compare(held: HeldOut, first: Tensor, second: Tensor, generator: torch.Generator) -> Comparison:
    r"""Compare two images by measurements that neither has seen.

    A residual in measurement space would weigh the low frequencies of tomographic views far too
    much. So residuals r become images first, by the best linear estimate of an error that is white
    with the variance :math:`\tau^2` of the images' difference d:

    .. math:: L r = (H + \tau^{-2})^{-1} A^H W r, \qquad H = A^H W A

    Then every frequency that was measured counts alike, and :math:`E_0 = \|L r_0\|^2`,
    :math:`c = \langle L r_0, L A d\rangle`, :math:`s = \|L A d\|^2`, over the number of values and
    the share of d that is seen. The noise of the test is in no image, so it only adds to
    :math:`E_0`; one draw of it is taken off. The standard error of the weight c / s comes from how
    much views or lines differ in it.

    Parameters
    ----------
    held
        Measurements in two parts; only the test is looked at.
    first, second
        Images ``(z, y, x)`` in the prior's unit.
    generator
        Source of the draw of noise, on the CPU.
    """
    d = second - first
    size = d.numel() * (2 if d.is_complex() else 1)
    energy = _square(d)
    if energy == 0:
        return Comparison(0.0, 0.0, 0.0, math.inf)
    test = held.test
    solve = _Visible(test, size / energy)
    before = solve(test.rhs - test.gram(first))
    step = solve(test.gram(d))
    noise = solve(_noise(test, generator))
    spread = _square(step)
    if spread == 0:
        return Comparison(0.0, 0.0, 0.0, math.inf)
    unit = energy / (size * spread)
    cross = float(inner(before, step, 0))
    return Comparison(
        first=max(_square(before) - _square(noise), _LEAST * spread) * unit,
        cross=cross * unit,
        spread=spread * unit,
        deviation=_deviation(held, first, d, solve(step), cross / spread),
    )


def visible_error(held: HeldOut, image: Tensor, variance: float) -> float:
    """Mean squared error of an image as the test sees it, noise included; see :func:`compare`.

    For images that are compared with each other: the noise adds the same to all.
    ``variance`` is that of the error to be expected.
    """
    test = held.test
    size = image.numel() * (2 if image.is_complex() else 1)
    return _square(_Visible(test, 1 / variance)(test.rhs - test.gram(image))) / size


def _deviation(held: HeldOut, first: Tensor, d: Tensor, z: Tensor, weight: float) -> float:
    """Estimate the standard error of a ratio of sums over groups; infinite for a single group.

    As ``L r = (H + a)^{-1} A^H W r``, both sums fall apart into the samples of
    ``W r (A z)`` and ``W (A d) (A z)`` with ``z = (H + a)^{-1} L A d``.
    """
    test = held.test
    probe = _whitened(test, z)
    top = held.by_group(probe.conj() * test.residual(first))
    bottom = held.by_group(probe.conj() * _whitened(test, d))
    count = len(top)
    if count < 2:
        return math.inf
    scatter = float((top - weight * bottom).square().sum()) * count / (count - 1)
    return math.sqrt(scatter) / max(abs(float(bottom.sum())), 1e-30)


def _whitened(test: DataTerm, image: Tensor) -> Tensor:
    """``W^{1/2} A s u`` of an image, on the measured samples."""
    out = test.scale * test.operator(image)
    return out * torch.as_tensor(test.precision).sqrt().to(out.device)


def _square(image: Tensor) -> float:
    return float(inner(image, image, 0))


class _Visible:
    """``(H + a)^{-1}``: a back-projected residual as the image that explains it."""

    def __init__(self, test: DataTerm, added: float) -> None:
        self.test, self.added = test, added
        self.preconditioner = diagonal_preconditioner(curvature(test), added, test.blocks)

    def __call__(self, b: Tensor) -> Tensor:
        return conjugate_gradients(
            lambda v: self.test.gram(v) + self.added * v,
            b,
            blocks=self.test.blocks,
            preconditioner=self.preconditioner,
            max_iterations=_ITERATIONS,
            tolerance=_TOLERANCE,
        ).value


def _noise(test: DataTerm, generator: torch.Generator) -> Tensor:
    """Back-project one draw of the noise: ``A^H W n`` with n ~ N(0, W^{-1}), in image units."""
    y = test.measurements
    channels = (2,) if y.is_complex() else ()
    drawn = torch.randn((*y.shape, *channels), generator=generator, dtype=y.real.dtype)
    n = (torch.view_as_complex(drawn) if y.is_complex() else drawn).to(y.device)
    root = torch.as_tensor(test.precision).to(y.device).sqrt()
    return test.scale * test.operator.adjoint(root * n)
