"""Fewer virtual coils that hold nearly all of the signal.

The mixing matrices have orthonormal rows: white noise stays white and of the same strength, so
whiten before compressing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry.kspace import image_to_kspace, kspace_to_image

_WINDOW = 2  # positions on either side whose data count too, lest noise turns the directions


@dataclass(frozen=True, eq=False)
class Compression:
    """How coils are mixed into fewer virtual ones.

    Parameters
    ----------
    matrix
        complex128 ``(virtual, coils)``, or ``(x, virtual, coils)`` with one for every position
        along the readout, the last axis; rows are orthonormal.
    energy
        Share of the calibration data's energy that the virtual coils keep, 0 to 1.
    """

    matrix: Tensor
    energy: float

    def kspace(self, kspace: Tensor, axis: int) -> Tensor:
        """Mix coils that stand along ``axis`` of k-space, fully sampled along its last axis.

        Raises
        ------
        InconsistentError
            If there are other coils or positions than the matrix has.
        """
        if self.matrix.ndim == 2:
            return self._mix(kspace, axis)
        return image_to_kspace(self._mix(kspace_to_image(kspace, (-1,)), axis), (-1,))

    def images(self, images: Tensor, axis: int) -> Tensor:
        """Mix coils that stand along ``axis`` of coil images or sensitivity maps.

        Raises
        ------
        InconsistentError
            If there are other coils or positions than the matrix has.
        """
        return self._mix(images, axis)

    def _mix(self, array: Tensor, axis: int) -> Tensor:
        coils = self.matrix.shape[-1]
        per_position = self.matrix.ndim == 3
        if array.shape[axis] != coils or (per_position and array.shape[-1] != len(self.matrix)):
            positions = f" at {len(self.matrix)} readout positions" if per_position else ""
            raise InconsistentError(
                f"A compression of {coils} coils{positions} does not fit data of shape "
                f"{tuple(array.shape)} with coils along axis {axis}."
            )
        matrix, y = self.matrix.to(array), array.movedim(axis, 0)
        letters = "xvc,c...x->v...x" if per_position else "vc,c...->v..."
        mixed: Tensor = torch.einsum(letters, matrix, y)
        return mixed.movedim(0, axis).contiguous()


def svd_compression(calibration: Tensor, coils: int, axis: int) -> Compression:
    """Find one set of virtual coils for all data: the principal directions of the coils.

    Parameters
    ----------
    calibration
        Complex k-space or its calibration part, any layout; samples that are zero do not matter.
    coils
        Number of virtual coils.
    axis
        Where the coils stand.

    Raises
    ------
    InconsistentError
        If there are not that many coils, or no signal.

    References
    ----------
    Buehrer et al., Array compression for MRI with large coil arrays, Magn Reson Med 57 (2007),
    doi:10.1002/mrm.21237; Huang et al., A software channel compression technique for faster
    reconstruction with many channels, Magn Reson Imaging 26 (2008), doi:10.1016/j.mri.2007.04.010.
    """
    y = calibration.movedim(axis, 0).flatten(1).to(torch.complex128)
    _check(y, coils)
    covariance = y @ y.mH
    rows = _principal(covariance, coils)
    return Compression(rows, _energy(rows, covariance))


def geometric_compression(calibration: Tensor, coils: int, axis: int) -> Compression:
    """Find virtual coils of their own for every position along the readout.

    Where the object is thin fewer coils matter, so fewer virtual ones keep the same energy. The
    directions of neighbouring positions are turned to each other by the nearest unitary matrix,
    so that virtual coils have smooth sensitivities, as parallel imaging needs.

    Parameters
    ----------
    calibration
        Complex k-space, coils along ``axis``, the readout along the last axis fully sampled;
        lines that were not measured are zero.
    coils
        Number of virtual coils.
    axis
        Where the coils stand.

    Raises
    ------
    InconsistentError
        If there are not that many coils, or no signal.

    References
    ----------
    Zhang, Pauly, Vasanawala and Lustig, Coil compression for accelerated imaging with Cartesian
    sampling, Magn Reson Med 69 (2013), doi:10.1002/mrm.24267.
    """
    y = calibration.movedim(axis, 0).flatten(1, -2)
    _check(y, coils)
    y = y[:, (y != 0).any(dim=0).any(dim=-1)]  # the measured lines
    hybrid = kspace_to_image(y.to(torch.complex128), (-1,)).permute(2, 0, 1)
    covariance = hybrid @ hybrid.mH  # (x, coils, coils)
    rows = _principal(_windowed(covariance), coils)
    start = int(covariance.diagonal(dim1=1, dim2=2).real.sum(dim=1).argmax())
    for positions in (range(start + 1, len(rows)), range(start - 1, -1, -1)):
        before = rows[start]
        for x in positions:
            rows[x] = before = _turned(rows[x], before)
    return Compression(rows, _energy(rows, covariance))


def _principal(covariance: Tensor, coils: int) -> Tensor:
    """Rows ``(..., virtual, coils)``: conjugated eigenvectors, the strongest first."""
    vectors = torch.linalg.eigh(covariance).eigenvectors[..., -coils:].flip(-1)
    rows: Tensor = vectors.mH.contiguous()
    return rows


def _turned(rows: Tensor, before: Tensor) -> Tensor:
    """``U rows`` with the unitary ``U`` that brings it nearest to ``before`` (Procrustes)."""
    left, _, right = torch.linalg.svd(before @ rows.mH)
    turned: Tensor = left @ right @ rows
    return turned


def _windowed(covariance: Tensor) -> Tensor:
    """Sum over neighbouring positions; the field of view's ends do not wrap around."""
    total = covariance.clone()
    for d in range(1, min(_WINDOW, len(covariance) - 1) + 1):
        total[d:] += covariance[:-d]
        total[:-d] += covariance[d:]
    return total


def _energy(rows: Tensor, covariance: Tensor) -> float:
    kept = torch.einsum("...vc,...cd,...vd->", rows, covariance, rows.conj()).real
    return float(kept / torch.einsum("...cc->", covariance).real)


def _check(y: Tensor, coils: int) -> None:
    if not 1 <= coils <= len(y):
        raise InconsistentError(
            f"Cannot compress {len(y)} coils to {coils}; give a number between 1 and {len(y)}."
        )
    if not bool(torch.isfinite(torch.view_as_real(y.resolve_conj())).all()) or not bool(y.any()):
        raise InconsistentError(
            "Coils cannot be compressed by calibration data that are zero or not finite."
        )
