"""How much two volumes differ: PSNR, SSIM and NRMSE, always with the data range said."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from medrecon.errors import InconsistentError, UsageError
from medrecon.grid import Grid
from medrecon.volume import Volume

PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Plane to the axis of ``(z, y, x)`` along which its slices are stacked."""
SAME_MM = 0.01
"""Grids whose corners lie closer than this are the same."""
_PHASE_VOXELS = 2.0  # deviation of the Gaussian in-plane; slices may have phases of their own
_WINDOW = 11  # pixels, sigma 1.5: Wang et al. 2004


@dataclass(frozen=True)
class Metrics:
    """Agreement of a volume with a reference.

    Parameters
    ----------
    psnr
        Peak signal-to-noise ratio in dB, ``20 log10(data_range / RMSE)``; infinite if equal.
    ssim
        Mean structural similarity of the axial slices (11 x 11 Gaussian window, sigma 1.5).
    nrmse
        ``|a - b| / |b|``, 2-norms over all voxels.
    data_range
        The range used in PSNR and SSIM, in the volumes' unit.
    ssim_per_plane
        SSIM of axial, coronal and sagittal slices; planes thinner than the window are left out.

    References
    ----------
    Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE
    Trans. Image Process. 13, 2004, doi:10.1109/TIP.2003.819861.
    """

    psnr: float
    ssim: float | None
    nrmse: float
    data_range: float
    ssim_per_plane: dict[str, float]

    def as_json(self) -> dict[str, float | dict[str, float] | None]:
        """Return plain values for strict JSON (an infinite PSNR becomes null)."""
        return {
            "psnr": self.psnr if math.isfinite(self.psnr) else None,
            "ssim": self.ssim,
            "nrmse": self.nrmse,
            "data_range": self.data_range,
            "ssim_per_plane": self.ssim_per_plane,
        }


def compare_tensors(image: Tensor, reference: Tensor, data_range: float) -> Metrics:
    """Compare real tensors ``(z, y, x)`` in the same unit.

    Raises
    ------
    InconsistentError
        If the shapes differ or the reference is zero everywhere.
    UsageError
        If the data range is not positive.

    Examples
    --------
    >>> compare_tensors(torch.ones(1, 16, 16), torch.ones(1, 16, 16), 1.0).nrmse
    0.0
    """
    if image.shape != reference.shape:
        raise InconsistentError(
            f"the volumes have shapes {tuple(image.shape)} and {tuple(reference.shape)}; only "
            "equal grids are compared."
        )
    if not (math.isfinite(data_range) and data_range > 0):
        raise UsageError(f"the data range must be a positive number, got {data_range:g}.")
    image, reference = image.double(), reference.double()
    norm = float(torch.linalg.vector_norm(reference))
    if norm == 0:
        raise InconsistentError("the reference is zero everywhere, there is nothing to compare to.")
    error = float(torch.linalg.vector_norm(image - reference))
    rmse = error / math.sqrt(image.numel())
    planes = {
        name: value
        for name, axis in PLANES.items()
        if (value := _ssim(image, reference, data_range, axis)) is not None
    }
    return Metrics(
        psnr=20 * math.log10(data_range / rmse) if rmse > 0 else math.inf,
        ssim=planes.get("axial"),
        nrmse=error / norm,
        data_range=data_range,
        ssim_per_plane=planes,
    )


def complex_nrmse(image: Tensor, reference: Tensor) -> float:
    r"""Error of a complex image, ``|a exp(-i phi) - b| / |b|``, with a smooth phase taken off.

    Coil sensitivities and image are known up to a smooth phase only: the data are the same for
    :math:`s_c e^{i\phi}` and :math:`x e^{-i\phi}`, and every way to estimate maps chooses its own
    :math:`\phi`. So :math:`\phi` is the phase of :math:`a b^*` smoothed by a Gaussian of two
    voxels, in which details of the image cannot hide.

    Parameters
    ----------
    image, reference
        Complex, ``(z, y, x)``, in the same unit.

    Raises
    ------
    InconsistentError
        If the shapes differ or the reference is zero everywhere.

    Examples
    --------
    >>> b = torch.ones(1, 8, 8, dtype=torch.complex64)
    >>> round(complex_nrmse(1j * b, b), 6)
    0.0
    """
    if image.shape != reference.shape:
        raise InconsistentError(
            f"the images have shapes {tuple(image.shape)} and {tuple(reference.shape)}; only "
            "equal grids are compared."
        )
    a, b = image.to(torch.complex128), reference.to(torch.complex128)
    norm = float(torch.linalg.vector_norm(b))
    if norm == 0:
        raise InconsistentError("the reference is zero everywhere, there is nothing to compare to.")
    product = (a * b.conj()).numpy()
    sigma = (0.0, _PHASE_VOXELS, _PHASE_VOXELS)
    smooth = ndimage.gaussian_filter(product.real, sigma) + 1j * ndimage.gaussian_filter(
        product.imag, sigma
    )
    turn = torch.from_numpy(np.exp(-1j * np.angle(smooth)))
    return float(torch.linalg.vector_norm(a * turn - b)) / norm


def _ssim(image: Tensor, reference: Tensor, data_range: float, axis: int) -> float | None:
    a, b = (v.movedim(axis, 0)[:, None] for v in (image, reference))
    if min(a.shape[-2:]) < _WINDOW:
        return None
    return float(structural_similarity_index_measure(a, b, data_range=data_range))


def distance(one: Grid, other: Grid) -> float:
    """Largest distance of two grids' corners, mm; infinite where they differ in shape.

    Examples
    --------
    >>> grid = Grid.centred((2, 4, 4), (1.0, 1.0, 1.0))
    >>> distance(grid, grid.shifted((0.0, 0.0, 2.0)))
    2.0
    """
    if one.shape != other.shape:
        return math.inf
    ends = itertools.product(*((0.0, n - 1.0) for n in one.shape))
    corners = np.array([[*end, 1.0] for end in ends]).T
    apart = (one.affine @ corners - other.affine @ corners)[:3]
    return float(np.linalg.norm(apart, axis=0).max())


def compare(image: Volume, reference: Volume, data_range: float | None = None) -> Metrics:
    """Compare two volumes on the same grid.

    Parameters
    ----------
    image
        What is judged.
    reference
        What counts as true.
    data_range
        Range for PSNR and SSIM in the volumes' unit; by default the reference's maximum minus its
        minimum. Give it (CT: e.g. 2000 HU) wherever numbers are to be compared between scans.

    Raises
    ------
    InconsistentError
        If the grids differ by more than 0.01 mm in any corner.
    """
    apart = distance(image.grid, reference.grid)
    if math.isfinite(apart) and apart > SAME_MM:
        raise InconsistentError(
            f"the volumes lie {apart:.3g} mm apart; only equal grids are compared."
        )
    if data_range is None:
        data_range = float(reference.data.max() - reference.data.min())
    return compare_tensors(image.data, reference.data, data_range)
