"""Where the rotation axis falls on a parallel-beam detector."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medrecon.geometry import ParallelBeam
from medrecon.physics.rotation_centre import find_rotation_centre


def find_center(
    measurements: Tensor, angles: Sequence[float], *, search: float | None = None
) -> float:
    """Column of the axis; see :func:`medrecon.physics.rotation_centre.find_rotation_centre`."""
    geometry = ParallelBeam(
        angles=tuple(angles), columns=measurements.shape[-1], column_spacing=1.0
    )
    return find_rotation_centre(measurements, geometry, search=search).column
