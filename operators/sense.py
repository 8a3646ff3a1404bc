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
    if field_map is not None:
        raise InconsistentError("Off-resonance is not there yet.")
    if maps.ndim == 5:
        z, y, x = maps.select(1 + geometry.coil_axis, 0).shape[1:]
        one = (z, 1, y, x) if geometry.coil_axis else (1, z, y, x)
        unit = torch.ones(one, dtype=maps.dtype, device=maps.device)
        return SoftSense(maps, _one_set(geometry, unit))
    return _one_set(geometry, maps)


def _one_set(geometry: MRGeometry, maps: Tensor) -> CartesianSense | NonCartesianSense:
    if isinstance(geometry, Cartesian):
        mask = torch.from_numpy(geometry.mask.copy()).to(maps.device)
        return CartesianSense(maps, mask, geometry.encoded)
    return NonCartesianSense(maps, geometry)
