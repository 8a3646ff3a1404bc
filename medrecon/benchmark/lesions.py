"""Lesions put into an image, and what reconstructions make of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from medrecon.benchmark.case import Lesion
from medrecon.benchmark.images import ball, scale_of
from medrecon.errors import InconsistentError
from medrecon.grid import Triple
from medrecon.volume import Volume

_CORE = 0.7  # of the radius: what counts as the lesion's inside


@dataclass(frozen=True)
class Placed:
    """A lesion in a patient: its middle in LPS mm, its radius, and its contrast in image units."""

    center: Tensor
    radius_mm: float
    contrast: float

    def insert(self, volume: Volume) -> Volume:
        """Add the lesion to an image."""
        added = self.contrast * ball(volume, self.center, self.radius_mm)
        return Volume(volume.data + added, volume.grid, volume.unit)

    def core(self, volume: Volume) -> Tensor:
        """Voxels well inside the lesion, booleans ``(z, y, x)``.

        Raises
        ------
        InconsistentError
            If the lesion is smaller than the voxels.
        """
        inside = ball(volume, self.center, _CORE * self.radius_mm) > 0.5
        if not bool(inside.any()):
            raise InconsistentError("The lesion lies outside of the volume, or between its voxels.")
        return inside


def place(volume: Volume, lesion: Lesion) -> Placed:
    """Find the widest region of the lesion's tissue, in the middle half of the slices.

    Parameters
    ----------
    volume
        The patient, CT in HU.
    lesion
        What is to be put in.

    Raises
    ------
    InconsistentError
        If the image has no such tissue, or none that is wide enough.
    """
    scale = scale_of(volume)
    tissue = (volume.data >= lesion.low * scale) & (volume.data <= lesion.high * scale)
    distance = _depth(tissue.numpy(), volume.grid.spacing)
    quarter = volume.grid.shape[0] // 4
    distance[:quarter] = distance[volume.grid.shape[0] - quarter :] = 0
    best = np.unravel_index(int(distance.argmax()), distance.shape)
    if distance[best] < lesion.radius_mm:
        raise InconsistentError(
            f"The image has no tissue of {lesion.low:g} to {lesion.high:g} that is wide enough for "
            f"a lesion of {lesion.radius_mm:g} mm; choose another image."
        )
    x, y, z = volume.grid.affine[:3] @ [*map(float, best), 1.0]
    return Placed(
        torch.tensor([x, y, z], dtype=torch.float64), lesion.radius_mm, lesion.contrast * scale
    )


def _depth(tissue: NDArray[np.bool_], spacing: Triple) -> NDArray[np.float64]:
    """Distance from the tissue's border in mm; the first and the last slice go on beyond."""
    # noise makes holes in every tissue, which are no borders
    whole = ndimage.median_filter(tissue.astype(np.uint8), 3)
    more = np.pad(whole, ((2, 2), (0, 0), (0, 0)), mode="edge")
    solid = ndimage.binary_opening(more)[2:-2]
    # what lies beside the image is not known to be tissue
    bordered = np.pad(solid, ((0, 0), (1, 1), (1, 1)))
    depth = ndimage.distance_transform_edt(bordered, sampling=spacing)[:, 1:-1, 1:-1]
    return np.asarray(depth, dtype=np.float64)


def contrast(
    with_lesion: Tensor, without: Tensor, truth_with: Tensor, truth_without: Tensor, core: Tensor
) -> dict[str, float]:
    r"""How much of a lesion is kept where it is, and made up where it is not.

    .. math::

        \text{recovery} = \frac{\langle a - b \rangle}{\langle t_a - t_b \rangle}, \qquad
        \text{invented} = \frac{\langle b - t_b \rangle}{\langle t_a - t_b \rangle}

    with means over the lesion's core, a and b the reconstructions with and without it and t their
    truths: 1 and 0 are perfect. The second is the lesion's contrast that a reconstruction shows
    in the patient who has none.

    Parameters
    ----------
    with_lesion, without, truth_with, truth_without
        ``(z, y, x)``, in one unit.
    core
        Voxels of the lesion.
    """

    def mean(values: Tensor) -> float:
        return float(values[core].double().mean())

    true = mean(truth_with - truth_without)
    return {
        "recovery": round(mean(with_lesion - without) / true, 4),
        "invented": round(mean(without - truth_without) / true, 4),
    }
