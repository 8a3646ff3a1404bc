"""Whether an encoded space can be, and what of it is kept."""

from __future__ import annotations

import math
from pathlib import Path

from medrecon.errors import InconsistentError
from medrecon.grid import Triple
from medrecon.preprocessing.oversampling import kept_size
from medrecon.raw.scan import MAX_MATRIX, Encoding

_LONGEST_MM = 10_000


def check_encoding(encoding: Encoding, path: Path) -> None:
    """Refuse an encoded space that is empty, absurdly large or not finite.

    Raises
    ------
    InconsistentError
        Names what is wrong.
    """
    if not all(1 <= n <= MAX_MATRIX for n in encoding.matrix):
        raise InconsistentError(
            f"{path}: the encoded matrix (z, y, x) is {encoding.matrix}; every size must lie "
            f"between 1 and {MAX_MATRIX}."
        )
    lengths = (*encoding.fov, encoding.readout_fov, *(encoding.recon_fov or ()))
    if not all(math.isfinite(d) and 0 < d < _LONGEST_MM for d in lengths):
        raise InconsistentError(
            f"{path}: the encoded field of view (z, y, x) is {encoding.fov} mm and "
            f"{encoding.readout_fov} mm along the reconstructed readout; both must be positive."
        )


def kept_width(encoding: Encoding) -> int:
    """Columns that are left once the readout's oversampling is taken off."""
    return kept_size(encoding.matrix[2], encoding.fov[2], encoding.readout_fov)


def voxel_size(encoding: Encoding) -> Triple:
    """Size (z, y, x) of what the encoding resolves, mm; slice-wise z is the slice thickness."""
    z, y, x = (d / n for d, n in zip(encoding.fov, encoding.matrix, strict=True))
    return (z if encoding.is_3d else encoding.fov[0], y, x)
