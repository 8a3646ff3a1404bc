"""From slice positions and directions of raw MR files to a :class:`Grid`, and back.

Raw files give the *centre* of every excited slice (or slab), in LPS mm from the isocentre. A grid
begins at the centre of voxel 0. The inverse FFT puts the position at voxel ``n // 2``: the phase
of a centred transform vanishes there. Hence

``origin = position - (X // 2) dx read_dir - (Y // 2) dy phase_dir``

and not ``(X - 1) / 2``, which would be half a voxel off for even ``X``, nor the position itself,
which DICOM readers would take for the corner.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.grid import Grid, Triple

Vector = NDArray[np.float64]

_PARALLEL = 1e-3  # between directions of different slices
_EVEN = 0.01  # deviation of a slice gap, as share of the gap
_SHEAR = 0.05  # sideways drift between neighbouring slices, as share of the pixel


@dataclass(frozen=True)
class SlicePose:
    """Where one excited slice is.

    Parameters
    ----------
    position
        LPS of its centre, mm.
    slice_dir, phase_dir, read_dir
        LPS unit vectors; zero where the file does not say.
    """

    position: Vector
    slice_dir: Vector
    phase_dir: Vector
    read_dir: Vector

    @property
    def directions(self) -> NDArray[np.float64]:
        """Rows: slice, phase, read direction."""
        return np.stack([self.slice_dir, self.phase_dir, self.read_dir])


def stack_grid(
    poses: list[SlicePose],
    shape: tuple[int, int],
    pixel: tuple[float, float],
    thickness: float,
    path: Path,
) -> tuple[Grid, list[int]]:
    """Sort slices along their common normal and make the grid.

    Parameters
    ----------
    poses
        One per slice, in the order of the file.
    shape
        Pixels ``(y, x)``.
    pixel
        Their size ``(y, x)``, mm.
    thickness
        Spacing along z of a single slice, or where positions say nothing, mm.
    path
        The file, named in messages.

    Returns
    -------
    grid : Grid
        Of shape ``(len(poses), *shape)``; z grows along the slice direction.
    order : list of int
        Indices of ``poses``, sorted along z.

    Raises
    ------
    InconsistentError
        If slices are not parallel, coincide, drift sideways or are not evenly spaced.
    """
    axes = _common_directions(poses, path)
    positions = np.stack([pose.position for pose in poses])
    if len(poses) > 1 and not np.ptp(positions, axis=0).any():
        warnings.warn(
            f"{path}: all {len(poses)} slices have the same position; they are taken as adjacent, "
            f"{thickness:g} mm apart, in the order of the file.",
            stacklevel=2,
        )
        positions = positions + np.outer(np.arange(len(poses)), thickness * axes[0])
    heights = positions @ axes[0]
    order = [int(i) for i in np.argsort(heights, kind="stable")]
    spacing = _spacing(heights[order], thickness, path)
    _check_shear(positions[order] @ axes[1:].T, pixel, path)
    first = positions[order[0]]
    return _grid(first, axes, (len(poses), *shape), (spacing, *pixel), centre_z=0), order


def slab_grid(pose: SlicePose, shape: tuple[int, int, int], voxel: Triple, path: Path) -> Grid:
    """Make the grid of a 3D slab, whose position is its centre along z too.

    Parameters
    ----------
    pose
        Centre and directions of the slab.
    shape
        Voxels ``(z, y, x)``.
    voxel
        Their size ``(z, y, x)``, mm.
    path
        The file, named in messages.
    """
    axes = _common_directions([pose], path)
    return _grid(pose.position, axes, shape, voxel, centre_z=shape[0] // 2)


def slice_center(grid: Grid, index: int) -> Vector:
    """Position of slice ``index`` as raw files give it: the voxel ``(index, Y // 2, X // 2)``."""
    voxel = [index, grid.shape[1] // 2, grid.shape[2] // 2, 1]
    center: Vector = (grid.affine @ voxel)[:3]
    return center


def _grid(
    center: Vector,
    axes: NDArray[np.float64],
    shape: tuple[int, int, int],
    voxel: Triple,
    *,
    centre_z: int,
) -> Grid:
    back = np.array([centre_z, shape[1] // 2, shape[2] // 2]) * np.array(voxel)
    origin = center - back @ axes
    return Grid(
        shape=shape,
        spacing=voxel,
        origin=tuple(origin.tolist()),
        directions=tuple(tuple(a) for a in axes.tolist()),  # type: ignore[arg-type]
    )


def _common_directions(poses: list[SlicePose], path: Path) -> NDArray[np.float64]:
    """Directions of all slices as one orthonormal set in double precision."""
    axes = poses[0].directions
    if any(float(np.abs(pose.directions - axes).max()) > _PARALLEL for pose in poses):
        raise InconsistentError(
            f"{path}: the slices have different orientations (a localizer?); reconstruct stacks "
            "of parallel slices only."
        )
    lengths = np.linalg.norm(axes, axis=1)
    if not lengths.any():
        warnings.warn(
            f"{path}: the slice directions are zero; an axial stack is assumed (x to the left, "
            "y to posterior, z to superior).",
            stacklevel=2,
        )
        return np.eye(3)[::-1].copy()
    if not np.allclose(axes @ axes.T, np.eye(3), atol=_PARALLEL):
        raise InconsistentError(
            f"{path}: slice, phase and read directions are not orthonormal: "
            f"{np.round(axes, 4).tolist()}."
        )
    # the nearest orthonormal set takes away the single precision of the file
    u, _, vh = np.linalg.svd(axes)
    nearest: NDArray[np.float64] = u @ vh
    return nearest


def _spacing(heights: Vector, thickness: float, path: Path) -> float:
    if len(heights) == 1:
        return thickness
    gaps = np.diff(heights)
    spacing = float(gaps.mean())
    if gaps.min() <= 1e-3:
        raise InconsistentError(
            f"{path}: two slices stand at the same place along the normal; is this a time series?"
        )
    if float(np.abs(gaps - spacing).max()) > max(_EVEN * spacing, 1e-3):
        raise InconsistentError(
            f"{path}: the slices are not evenly spaced (gaps from {gaps.min():.3f} to "
            f"{gaps.max():.3f} mm); slices may be missing."
        )
    return spacing


def _check_shear(in_plane: Vector, pixel: tuple[float, float], path: Path) -> None:
    drift = np.abs(in_plane - in_plane[0]).max(axis=0)
    allowed = _SHEAR * np.array(pixel) * max(len(in_plane) - 1, 1)
    if (drift > allowed).any():
        raise InconsistentError(
            f"{path}: the slices drift sideways by {drift.max():.2f} mm over the stack; a sheared "
            "volume has no regular grid."
        )
