"""Measurements kept from a reconstruction, to see how well it predicts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A data term in two parts whose values add up to the whole one's.

    Parameters
    ----------
    training
        What reconstructions may see.
    test
        What was kept from them.
    axes
        Axes of the measurements that count groups.
    chosen
        Booleans over these axes: the groups of the test.
    of
        How many groups were measured.
    """

    training: DataTerm
    test: DataTerm
    axes: tuple[int, ...]
    chosen: Tensor
    of: int

    @property
    def groups(self) -> int:
        """How many views, lines or spokes were kept."""
        return int(self.chosen.sum())

    def by_group(self, samples: Tensor) -> Tensor:
        """Sum the real part of a map on the measurements over each group of the test; 1D."""
        kept = {axis % samples.ndim for axis in self.axes}
        rest = tuple(axis for axis in range(samples.ndim) if axis not in kept)
        sums = samples.real.double().sum(rest) if rest else samples.real.double()
        return sums[self.chosen.to(sums.device)].cpu()


def hold_out(data: DataTerm, axes: Sequence[int], chosen: Tensor) -> HeldOut:
    """Split a data term by whole groups of measurements: views, k-space lines, spokes.

    The operator stays; weights become zero where a sample belongs to the other part, so every kind
    of scan is split alike.

    Parameters
    ----------
    data
        All measurements.
    axes
        Axes of the measurements that index groups, rising, from the front or from the end.
    chosen
        Booleans over these axes: which groups are kept for the test.

    Raises
    ------
    InconsistentError
        If nothing is left on either side.
    """
    y = data.measurements
    measured = measured_groups(data, axes)
    if tuple(chosen.shape) != tuple(measured.shape):
        raise InconsistentError(
            f"Groups to hold out have the shape {tuple(chosen.shape)}, those of the measurements "
            f"{tuple(measured.shape)}; give one number for each."
        )
    kept = int((chosen & measured).sum())
    if not 0 < kept < int(measured.sum()):
        raise InconsistentError(
            f"{kept} of {int(measured.sum())} views or lines would be held out, which leaves "
            "nothing on one side; hold out others."
        )
    mask = chosen.to(y.device).reshape(_spread(y.shape, axes))
    precision = torch.as_tensor(data.precision, dtype=y.real.dtype, device=y.device)
    nothing = precision.new_zeros(())
    return HeldOut(
        training=replace(data, precision=torch.where(mask, nothing, precision)),
        test=replace(data, precision=torch.where(mask, precision, nothing)),
        axes=tuple(axes),
        chosen=chosen & measured,
        of=int(measured.sum()),
    )


def measured_groups(data: DataTerm, axes: Sequence[int]) -> Tensor:
    """Tell, on the CPU, which groups hold a measurement: a weight above zero, and a value.

    Only k-space is zero-filled, so only complex measurements need a value.
    """
    y = data.measurements
    seen = torch.as_tensor(data.precision).to(y.device).expand(y.shape) > 0
    if y.is_complex():
        seen = seen & (y != 0)
    kept = {axis % y.ndim for axis in axes}
    rest = tuple(axis for axis in range(y.ndim) if axis not in kept)
    return (seen.sum(rest) > 0).cpu() if rest else seen.cpu()


def _spread(shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """Give a shape that broadcasts over the measurements: their sizes along ``axes``, else 1."""
    kept = {axis % len(shape) for axis in axes}
    return [n if axis in kept else 1 for axis, n in enumerate(shape)]
