"""One door to the forward operators of multi-coil MR."""

from __future__ import annotations

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry
from medrecon.operators.base import LinearOperator
from medrecon.operators.cartesian import CartesianSense
from medrecon.operators.map_sets import SoftSense
from medrecon.operators.noncartesian import NonCartesianSense
from medrecon.operators.off_resonance import OffResonance


def sense_operator(
    geometry: MRGeometry, maps: Tensor, *, field_map: Tensor | None = None
) -> LinearOperator:
    """Build the forward operator of an acquisition with known coil maps.

    Parameters
    ----------
    geometry
        Sampling; Cartesian or along a trajectory.
    maps
        Complex, ``(z, coils, y, x)`` slice-wise, ``(coils, z, y, x)`` where z is encoded. Several
        sets of maps stand along a leading axis; the image then has an axis of sets where the
        coils stand.
    field_map
        Off-resonance in Hz, ``(z, y, x)``; needs a geometry with times.

    Raises
    ------
    InconsistentError
        If maps, geometry and field map do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> maps = torch.ones(1, 2, 4, 6, dtype=torch.complex64)
    >>> A = sense_operator(Cartesian(mask=np.eye(4, 6, dtype=bool)), maps)
    >>> A.codomain.shape
    (1, 2, 4, 6)
    """
    operator = _even_field(geometry, maps)
    if field_map is None:
        return operator
    if geometry.times is None:
        raise InconsistentError(
            "A field map corrects nothing without the times of the samples, which this geometry "
            "does not hold: give a geometry with times, or leave the field map out."
        )
    seen = maps.abs().sum(dim=geometry.coil_axis + maps.ndim - 4) > 0
    support = seen.any(dim=0) if maps.ndim == 5 else seen
    return OffResonance(operator, field_map, geometry.times, support=support)


def _even_field(geometry: MRGeometry, maps: Tensor) -> LinearOperator:
    if maps.ndim != 5:
        return _one_set(geometry, maps)
    z, y, x = maps.select(1 + geometry.coil_axis, 0).shape[1:]
    one = (z, 1, y, x) if geometry.coil_axis else (1, z, y, x)
    unit = torch.ones(one, dtype=maps.dtype, device=maps.device)
    return SoftSense(maps, _one_set(geometry, unit))


def _one_set(geometry: MRGeometry, maps: Tensor) -> CartesianSense | NonCartesianSense:
    if isinstance(geometry, Cartesian):
        mask = torch.from_numpy(geometry.mask.copy()).to(maps.device)
        return CartesianSense(maps, mask, geometry.encoded)
    return NonCartesianSense(maps, geometry)
