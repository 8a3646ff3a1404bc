"""Where the voxels are: shape, spacing, origin and directions, in LPS mm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError

Triple = tuple[float, float, float]
_ORTHONORMAL_TOLERANCE = 1e-4


def _triple(values: Iterable[float]) -> Triple:
    a, b, c = map(float, values)
    return a, b, c


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A regular voxel grid; index ``(z, y, x)`` to patient coordinates LPS in mm.

    LPS: +x to the patient's Left, +y to Posterior, +z to Superior (DICOM's patient system).

    Parameters
    ----------
    shape
        Number of voxels along ``(z, y, x)``.
    spacing
        Distance of voxel centres along ``(z, y, x)``, mm.
    origin
        LPS position in mm of the *centre* of voxel (0, 0, 0).
    directions
        LPS unit vectors along which the z, the y and the x index grow. Orthonormal; a left-handed
        set is allowed. The default is an axial stack from feet to head.

    Raises
    ------
    InconsistentError
        If a size or spacing is not positive and finite, or the directions are not orthonormal.
    """

    shape: tuple[int, int, int]
    spacing: Triple
    origin: Triple
    directions: tuple[Triple, Triple, Triple] = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.shape):
            raise InconsistentError(f"A grid needs at least one voxel per axis, got {self.shape}.")
        if not all(math.isfinite(d) and d > 0 for d in self.spacing):
            raise InconsistentError(f"Voxel spacing must be positive mm, got {self.spacing}.")
        if not all(math.isfinite(v) for v in self.origin):
            raise InconsistentError(f"The grid's origin must be finite mm, got {self.origin}.")
        axes = np.array(self.directions)
        if not np.allclose(axes @ axes.T, np.eye(3), atol=_ORTHONORMAL_TOLERANCE):
            raise InconsistentError(
                f"Grid directions must be orthonormal, got {self.directions}; a sheared (tilted) "
                "volume has to be resampled first."
            )

    @classmethod
    def centred(
        cls,
        shape: tuple[int, int, int],
        spacing: Triple,
        center: Triple = (0.0, 0.0, 0.0),
    ) -> Grid:
        """Axial grid whose middle, ``index (n-1)/2``, lies at ``center`` (LPS x, y, z in mm)."""
        origin = _triple(
            c - (n - 1) / 2 * d
            for c, n, d in zip(center, reversed(shape), reversed(spacing), strict=True)
        )
        return cls(shape=shape, spacing=spacing, origin=origin)

    @classmethod
    def from_affine(cls, shape: tuple[int, int, int], affine: NDArray[np.float64]) -> Grid:
        """Grid of a 4x4 matrix that maps index ``(z, y, x, 1)`` to LPS mm.

        Raises
        ------
        InconsistentError
            If the matrix is singular, not finite or sheared.
        """
        matrix = np.asarray(affine, dtype=np.float64)
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if not np.all(np.isfinite(matrix)) or np.any(spacing < 1e-9):
            raise InconsistentError("The image's affine is singular or not finite.")
        along_z, along_y, along_x = (matrix[:3, :3] / spacing).T
        return cls(
            shape=shape,
            spacing=_triple(spacing),
            origin=_triple(matrix[:3, 3]),
            directions=(_triple(along_z), _triple(along_y), _triple(along_x)),
        )

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4 matrix from index ``(z, y, x, 1)`` to LPS mm ``(x, y, z, 1)``."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.array(self.directions).T * np.array(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def center(self) -> Triple:
        """LPS position in mm of the middle of the grid, index ``(n-1)/2``."""
        index = [(n - 1) / 2 for n in self.shape] + [1.0]
        return _triple((self.affine @ index)[:3])

    @property
    def is_axial(self) -> bool:
        """Whether index z, y, x grow along LPS +z, +y, +x exactly (what CT scanners use)."""
        return bool(np.allclose(np.array(self.directions), np.eye(3)[::-1], atol=1e-6))

    def slab(self, start: int, stop: int) -> Grid:
        """Cut out slices ``start`` to ``stop`` (exclusive)."""
        first = self.affine @ [start, 0, 0, 1]
        return replace(
            self,
            shape=(stop - start, *self.shape[1:]),
            origin=_triple(first[:3]),
        )

    def shifted(self, by: Triple) -> Grid:
        """Move the grid by ``by`` (LPS x, y, z in mm)."""
        return replace(
            self,
            origin=_triple(o + d for o, d in zip(self.origin, by, strict=True)),
        )
