"""Off-resonance during the readout, by time segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.arrays import Space
from medrecon.errors import InconsistentError
from medrecon.operators.base import LinearOperator, Wrapped
from medrecon.operators.memory import free_memory
from medrecon.operators.noncartesian import NonCartesianSense
from medrecon.operators.segments import Segments, differences, histogram, segment
from medrecon.operators.toeplitz import ToeplitzSense


@dataclass(frozen=True, eq=False)
class OffResonance(Wrapped):
    """``y_k = sum_j x_j exp(-2 pi i (k j + f_j t_k))``: an acquisition in an uneven field.

    A voxel whose frequency is ``f`` Hz above the demodulation frequency turns by
    ``exp(-2 pi i f t)`` until a sample is taken ``t`` seconds after the excitation. With
    ``exp(-2 pi i f t) ~ sum_l b_l(t) exp(-2 pi i f tau_l)`` this is ``sum_l b_l A c_l``: the
    operator without off-resonance between two diagonals, as often as there are segments.

    Parameters
    ----------
    operator
        The acquisition in an even field; the last axis of its measurements is the readout.
    field_map
        Frequency of every voxel in Hz, ``(z, y, x)``.
    times
        Of the samples of one readout, s, as many as the last axis of the measurements.
    error
        Largest error of the segmentation (root mean square over the field's histogram at the
        worst sample, the exponential has modulus 1); it determines the number of segments.
    support
        Boolean ``(z, y, x)``: the voxels for which the segmentation has to hold; all by default.

    Raises
    ------
    InconsistentError
        If shapes do not fit, values are not finite, or the field is too uneven to be segmented.

    References
    ----------
    Sutton, Noll, Fessler, Fast, iterative image reconstruction for MRI in the presence of field
    inhomogeneities, IEEE Trans Med Imaging 22 (2003), doi:10.1109/TMI.2002.808360.
    """

    operator: LinearOperator
    field_map: Tensor
    times: NDArray[np.float64]
    error: float = 1e-5
    support: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self._volume
        if self.field_map.is_complex() or tuple(self.field_map.shape) != shape:
            raise InconsistentError(
                f"A field map is real with the shape {shape} of the image, got "
                f"{self.field_map.dtype} with shape {tuple(self.field_map.shape)}."
            )
        if self.support is not None and tuple(self.support.shape) != shape:
            raise InconsistentError(
                f"The support of a field map has the image's shape {shape}, got "
                f"{tuple(self.support.shape)}."
            )
        readout = self.operator.codomain.shape[-1]
        if np.shape(self.times) != (readout,):
            raise InconsistentError(
                f"Readouts of {readout} samples need as many times, got {np.shape(self.times)}."
            )
        if not (np.isfinite(self.times).all() and bool(self.field_map.isfinite().all())):
            raise InconsistentError("The field map or the samples' times are not all finite.")
        _ = self.segments  # what cannot be segmented is told now

    @cached_property
    def segments(self) -> Segments:
        """Times and interpolators of the segments, and the error they reach."""
        return segment(*self._histogram, self.times, self.error)

    @cached_property
    def normal(self) -> OffResonanceNormal | None:
        """``A^H A`` as convolutions, where that is possible and there is memory for them.

        Only differences of two voxels' frequencies matter in it, and their exponentials have
        segments of their own: about twice as many, each a convolution (Fessler et al. 2005,
        doi:10.1109/TSP.2005.853152), several times faster than two transforms.
        """
        if not isinstance(self.operator, NonCartesianSense):
            return None
        segments = segment(*differences(*self._histogram), self.times, self.error)
        kernel = 8 * self.operator.nufft.domain.size * 2**self.operator.nufft.axes
        if len(segments) * kernel > free_memory() / 4:
            return None
        return OffResonanceNormal(self.operator, self.field_map, segments)

    def gram(self, x: Tensor) -> Tensor:
        """``A^H A x`` to the error of the segmentation, differentiable."""
        return super().gram(x) if self.normal is None else self.normal(x)

    def _forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(*x.shape[: x.ndim - self.domain.ndim], *self.codomain.shape)
        weights = self._weights.to(y)
        for weight, phase in zip(weights, self._phases(x), strict=True):
            y.addcmul_(self.operator._forward(x * phase), weight)
        return y

    def _adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(*y.shape[: y.ndim - self.codomain.ndim], *self.domain.shape)
        weights = self._weights.to(y)
        for weight, phase in zip(weights, self._phases(x), strict=True):
            x.addcmul_(self.operator._adjoint(y * weight.conj()), phase.conj())
        return x

    @property
    def _volume(self) -> tuple[int, ...]:
        return _volume(self.operator)

    @property
    def _weights(self) -> Tensor:
        return torch.from_numpy(self.segments.weights)

    def _phases(self, like: Tensor) -> Iterator[Tensor]:
        return _phases(self.operator, self.field_map, self.segments, like)

    @cached_property
    def _histogram(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        field = self.field_map.detach().cpu().double()
        if self.support is not None and bool(self.support.any()):
            field = field[self.support.cpu()]
        return histogram(field.numpy(), float(np.ptp(self.times)))


@dataclass(frozen=True, eq=False)
class OffResonanceNormal(LinearOperator):
    """``x -> sum_p conj(c_p) T_p c_p x`` with convolutions ``T_p``: self-adjoint.

    Parameters
    ----------
    operator
        The acquisition in an even field.
    field_map
        Frequency of every voxel in Hz, ``(z, y, x)``.
    segments
        Of the exponential of frequency differences, with real interpolators.
    """

    operator: NonCartesianSense
    field_map: Tensor
    segments: Segments

    @property
    def domain(self) -> Space:
        """As the operator's."""
        return self.operator.domain

    @property
    def codomain(self) -> Space:
        """As the operator's domain."""
        return self.operator.domain

    @property
    def blocks(self) -> int:
        """As the operator's."""
        return self.operator.blocks

    @property
    def H(self) -> LinearOperator:  # noqa: N802
        """Itself."""
        return self

    @cached_property
    def _convolutions(self) -> list[ToeplitzSense]:
        shape = self.operator.geometry.trajectory.shape[:-1]
        weights = [np.broadcast_to(w, shape).copy() for w in self.segments.weights.real]
        return [self.operator.weighted_normal(w) for w in weights]

    def _forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        phases = _phases(self.operator, self.field_map, self.segments, x)
        for convolution, phase in zip(self._convolutions, phases, strict=True):
            total.addcmul_(convolution._forward(x * phase), phase.conj())
        return total

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)


def _volume(operator: LinearOperator) -> tuple[int, ...]:
    """Shape ``(z, y, x)`` of an image, without an axis of map sets."""
    shape = operator.domain.shape
    return shape if len(shape) == 3 else shape[: operator.blocks] + shape[operator.blocks + 1 :]


def _phases(
    operator: LinearOperator, field_map: Tensor, segments: Segments, like: Tensor
) -> Iterator[Tensor]:
    """``exp(-2 pi i f tau)`` segment by segment, shaped to multiply an image."""
    field = field_map.to(device=like.device, dtype=torch.float64)
    if operator.domain.ndim == 4:
        field = field.unsqueeze(operator.blocks)
    one = torch.ones_like(field)
    for centre in segments.centres:
        yield torch.polar(one, -2 * np.pi * float(centre) * field).to(like.dtype)
