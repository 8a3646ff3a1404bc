"""Objects wider than the field of view: rows carried on smoothly, as the ramp needs them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from medrecon.errors import InconsistentError, UsageError
from medrecon.geometry.ct import ConeBeam, FanBeam, ParallelBeam, ParallelBeam3D

G = TypeVar("G", ParallelBeam, FanBeam, ParallelBeam3D, ConeBeam)

# An offset from this part of the detector's width on is a half-fan's, whose inner end is open.
OFFSET = 0.1


def extrapolated(measurements: Tensor, geometry: G, columns: int) -> tuple[Tensor, G]:
    """Carry each row on beyond the detector: its mirror image about the last value, faded out.

    A row that ends inside of the object ends in a step, of which the ramp makes a bright rim and a
    wrong level everywhere.  The estimate removes the rim and most of the level's error; it is not
    a measurement, and values outside of the measured field of view are not to be trusted.  Only
    the outer end of an offset detector is carried on::

        volume = analytic(*extrapolated(y, scanner, 100), grid)

    Parameters
    ----------
    measurements
        Line integrals ``(..., columns)``, dimensionless.
    geometry
        The scanner.
    columns
        How many columns to add at an end, at most as many as the object goes on for.

    Returns
    -------
    (Tensor, geometry)
        Wider measurements and the scanner that would have taken them.

    Raises
    ------
    InconsistentError
        If the measurements do not have the scanner's columns, or no detector is so wide.
    UsageError
        If ``columns`` is negative.

    References
    ----------
    B. Ohnesorge et al., Med. Phys. 27 (2000) 39-46, doi:10.1118/1.598855.
    """
    if columns < 0:
        raise UsageError(f"Columns to be added must not be negative, got {columns}.")
    if measurements.shape[-1] != geometry.columns:
        raise InconsistentError(
            f"The measurements have {measurements.shape[-1]} columns and the scanner "
            f"{geometry.columns}."
        )
    offset, most = geometry.column_offset, OFFSET * geometry.columns * geometry.column_spacing
    left, right = columns * (offset <= most), columns * (offset >= -most)
    wider = replace(
        geometry,
        columns=geometry.columns + left + right,
        column_offset=offset + (right - left) / 2 * geometry.column_spacing,
    )
    beyond = _beyond(measurements, right)
    before = _beyond(measurements.flip(-1), left).flip(-1)
    return torch.cat([before, measurements, beyond], -1), wider


def _beyond(rows: Tensor, columns: int) -> Tensor:
    """Carry on the end of rows: ``max(0, 2 y_n - y_(n-k)) cos(pi k / 2m)^2``."""
    k = torch.arange(1, columns + 1)
    fade = (torch.cos(math.pi / 2 * k / (columns + 1)) ** 2).to(rows)
    inner = rows[..., (rows.shape[-1] - 1 - k).clamp(min=0).to(rows.device)]
    return (2 * rows[..., -1:] - inner).clamp(min=0) * fade
