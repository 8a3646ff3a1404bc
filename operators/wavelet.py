"""Orthonormal wavelets of images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from types import EllipsisType

import pywt
import torch
from torch import Tensor
from torch.nn import functional

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class Wavelet(LinearOperator):
    r"""Separable periodised orthonormal wavelet transform of an image, real or complex.

    One level splits every axis into a smooth and a detailed half,

    .. math:: a[k] = \sum_i h[i]\, x[(2k + L/2 - i) \bmod n], \qquad
              d[k] = \sum_i g[i]\, x[(2k + L/2 - i) \bmod n],

    and the next level splits what is smooth along all axes. Coefficients stand in one array, the
    coarsest in the corner at index 0.

    Any size is taken: zeros are appended until every axis can be halved as often as it has levels.
    So :math:`W^H W = I` always, and :math:`W W^H = I` where nothing had to be appended.

    Parameters
    ----------
    space
        What is transformed.
    axes
        Its axes, counted from the end (negative): ``(-2, -1)`` slice by slice, ``(-3, -2, -1)``
        for volumes.
    wavelet
        An orthogonal wavelet by PyWavelets' name: ``haar``, ``db2`` ... ``db20``, ``sym4`` ...
    levels
        Most levels; an axis has fewer where its smooth half would be shorter than the filter.

    Raises
    ------
    InconsistentError
        If the axes are not in the space, the wavelet is not orthogonal, or no axis is long enough.

    References
    ----------
    Daubechies 1988, doi:10.1002/cpa.3160410705; Mallat 1989, doi:10.1109/34.192463.

    Examples
    --------
    >>> W = Wavelet(Space((2, 16, 20)), (-2, -1), "haar", 2)
    >>> x = torch.ones(2, 16, 20)
    >>> bool((W.adjoint(W(x)) - x).abs().max() < 1e-5)
    True
    """

    space: Space
    axes: tuple[int, ...] = (-2, -1)
    wavelet: str = "db4"
    levels: int = 4

    def __post_init__(self) -> None:
        if not self.axes or any(not -self.space.ndim <= a < 0 for a in self.axes):
            raise InconsistentError(
                f"Wavelet: axes {self.axes} are not axes of a space of {self.space.ndim}, counted "
                "from the end."
            )
        if self.wavelet not in pywt.wavelist(kind="discrete") or not self._bank.orthogonal:
            raise InconsistentError(
                f"Wavelet: {self.wavelet!r} is no orthogonal wavelet; use haar, db2 to db20, sym2 "
                "to sym20 or coif1 to coif17."
            )
        if self.levels < 1 or max(self._depths) == 0:
            raise InconsistentError(
                f"Wavelet: {self.levels} levels of {self.wavelet} do not fit a size of "
                f"{self.space.shape} along {self.axes}; use a shorter wavelet."
            )

    @property
    def domain(self) -> Space:
        """The image."""
        return self.space

    @property
    def codomain(self) -> Space:
        """The coefficients: the image's shape, or a little more."""
        return Space(self._padded, self.space.complex)

    @property
    def blocks(self) -> int:
        """The axes before the first transformed one."""
        return self.space.ndim + min(self.axes)

    @cached_property
    def details(self) -> Tensor:
        """Boolean, of the codomain's shape: False for the coarsest, smooth coefficients."""
        smooth = torch.ones(self._padded, dtype=torch.bool)
        for axis, depth in zip(self.axes, self._depths, strict=True):
            n = self._padded[axis]
            smooth.narrow(axis, n >> depth, n - (n >> depth)).fill_(False)
        return ~smooth

    @property
    def _bank(self) -> pywt.Wavelet:
        return pywt.Wavelet(self.wavelet)

    @cached_property
    def _analysis(self) -> Tensor:
        """Smooth and detail filter, reversed: ``(2, 1, L, 1)``, as correlations want them."""
        bank = torch.tensor([self._bank.dec_lo, self._bank.dec_hi], dtype=torch.float64)
        return bank.flip(-1)[:, None, :, None]

    @cached_property
    def _synthesis(self) -> Tensor:
        """What even and odd samples take from both halves: ``(parity, half, taps, 1)``.

        Sample ``2q + r`` takes ``f[r + p - 2t]`` from place ``q + t``, with f the analysis filter
        and ``p = L/2 - 1`` the samples it reaches back.
        """
        f = self._analysis[:, 0, :, 0]
        p = f.shape[1] // 2 - 1
        reach = (p + 1) // 2
        taps = torch.zeros(2, 2, 2 * reach + 1, dtype=f.dtype)
        for r, t in product(range(2), range(-reach, reach + 1)):
            if 0 <= r + p - 2 * t < f.shape[1]:
                taps[r, :, t + reach] = f[:, r + p - 2 * t]
        return taps[..., None]

    @property
    def _depths(self) -> tuple[int, ...]:
        length = self._bank.dec_len
        return tuple(min(self.levels, _deepest(self.space.shape[a], length)) for a in self.axes)

    @cached_property
    def _padded(self) -> tuple[int, ...]:
        shape = list(self.space.shape)
        for axis, depth in zip(self.axes, self._depths, strict=True):
            shape[axis] += -shape[axis] % (1 << depth)
        return tuple(shape)

    def _regions(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Per level: the axes that are split, and the shape of what they are split of."""
        shape, regions = list(self._padded), []
        for level in range(max(self._depths)):
            split = tuple(a for a, d in zip(self.axes, self._depths, strict=True) if d > level)
            regions.append((split, tuple(shape)))
            for axis in split:
                shape[axis] //= 2
        return regions

    def _forward(self, x: Tensor) -> Tensor:
        missing = [p - n for p, n in zip(self._padded, self.space.shape, strict=True)]
        pads = [n for m in reversed(missing) for n in (0, m)]
        y = functional.pad(x.resolve_conj(), pads)
        for axes, shape in self._regions():
            corner = y[_corner(shape)]
            part = corner
            for axis in axes:
                part = self._split(part, axis)
            corner.copy_(part)
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.resolve_conj().clone()
        for axes, shape in reversed(self._regions()):
            corner = x[_corner(shape)]
            part = corner
            for axis in reversed(axes):
                part = self._merge(part, axis)
            corner.copy_(part)
        return x[_corner(self.space.shape)].clone()

    def _split(self, x: Tensor, axis: int) -> Tensor:
        """One level along one axis: the smooth half, then the detailed one."""
        lines, filters = _as_lines(x, axis), self._analysis.to(x.device, x.real.dtype)
        lines = _wrapped(lines, filters.shape[2] // 2 - 1)
        return _from_lines(functional.conv2d(lines, filters, stride=(2, 1)), x)

    def _merge(self, y: Tensor, axis: int) -> Tensor:
        """Adjoint and inverse of :meth:`_split`."""
        lines, filters = _as_lines(y, axis), self._synthesis.to(y.device, y.real.dtype)
        halves = lines.reshape(lines.shape[0], 2, -1, lines.shape[3])
        parities = functional.conv2d(_wrapped(halves, filters.shape[2] // 2), filters)
        return _from_lines(parities.transpose(1, 2), y)

    def gram(self, x: Tensor) -> Tensor:
        """``W^H W x = x``."""
        self.domain.check(x, "input of Wavelet.gram")
        return x.clone()


def _corner(shape: tuple[int, ...]) -> tuple[EllipsisType | slice, ...]:
    """Index of the first ``shape`` elements of the last axes."""
    sizes: list[EllipsisType | slice] = [slice(n) for n in shape]
    return (..., *sizes)


def _deepest(n: int, length: int) -> int:
    """How often ``n`` samples can be halved until they are fewer than a filter of ``length``."""
    depth = 0
    while -(-n // (1 << depth + 1)) >= max(length - 1, 2):
        depth += 1
    return depth


def _as_lines(x: Tensor, axis: int) -> Tensor:
    """View as real ``(before, 1, n, after)``; real and imaginary part are neighbours in after."""
    flat = torch.view_as_real(x) if x.is_complex() else x
    place = axis + x.ndim
    after = flat.shape[place + 1 :].numel()
    return flat.reshape(-1, 1, x.shape[axis], after)


def _wrapped(lines: Tensor, count: int) -> Tensor:
    """Continue axis 2 periodically by ``count`` samples on both sides."""
    if count == 0:
        return lines
    n = lines.shape[2]
    return torch.cat([lines.narrow(2, n - count, count), lines, lines.narrow(2, 0, count)], dim=2)


def _from_lines(lines: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`_as_lines`; channels and positions together are the axis."""
    if not like.is_complex():
        return lines.reshape(like.shape)
    return torch.view_as_complex(lines.reshape(*like.shape, 2))
