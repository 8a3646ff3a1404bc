"""The images that are measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from medrecon.benchmark.case import SLICE_MM, Case
from medrecon.benchmark.phantoms import catphan, head
from medrecon.errors import UnreadableError
from medrecon.io.orientation import nearest_axial
from medrecon.io.read import read_image
from medrecon.volume import Unit, Volume

_FILES = {"chest": "chest_ct.nii.gz", "brain": "brain_mr.nii.gz"}


@dataclass(frozen=True)
class Image:
    """What is measured, axial, with a name that tells it from every other image."""

    volume: Volume
    name: str


def load_image(case: Case, data: Path, given: Path | None = None) -> Image:
    """Read the image of a case: the caller's, a shipped sample or a phantom.

    Parameters
    ----------
    case
        Whose image.
    data
        Folder of the shipped samples.
    given
        NIfTI file or DICOM folder to take instead; CT in HU.

    Raises
    ------
    UnreadableError
        If the image is not there.
    """
    if given is not None:
        volume = _read(given, case)
    elif case.subject == "head":
        volume = head()
    elif case.subject == "catphan":
        volume = catphan()
    else:
        path = data / _FILES[case.subject]
        if not path.exists():
            raise UnreadableError(
                f"{path} is not there; run in a clone of the repository or give --image."
            )
        volume = _read(path, case)
    volume = nearest_axial(volume)
    return Image(volume, _digest(volume))


def _read(path: Path, case: Case) -> Volume:
    unit = Unit.HU if case.modality == "CT" else Unit.ARBITRARY
    volume, _ = read_image(path, unit=unit)
    return replace(volume, unit=unit) if volume.unit is Unit.ARBITRARY else volume


def _digest(volume: Volume) -> str:
    voxels = volume.data.contiguous().float().numpy().tobytes()
    grid = repr((volume.grid.shape, volume.grid.spacing)).encode()
    return hashlib.sha256(voxels + grid).hexdigest()[:16]


def slices_of(volume: Volume, case: Case, most: int | None) -> int:
    """How many slices are reconstructed: at most the case's, or ``most``, and no more than seen."""
    wanted = case.slices if most is None else most
    if case.modality == "MR":
        return min(wanted, volume.grid.shape[0])
    depth = volume.grid.shape[0] * volume.grid.spacing[0]
    return max(1, min(wanted, int(depth / SLICE_MM + 1e-6)))


def middle(volume: Volume, slices: int) -> Volume:
    """Cut out the middle slices."""
    start = (volume.grid.shape[0] - slices) // 2
    part = volume.data[start : start + slices].clone()
    return Volume(part, volume.grid.slab(start, start + slices), volume.unit)


def scale_of(volume: Volume) -> float:
    """Return what contrasts are relative to: 1 HU, or the 99.5th percentile of an MR image."""
    if volume.unit is Unit.HU:
        return 1.0
    flat = volume.data.float().flatten()
    return float(flat.kthvalue(max(1, round(0.995 * flat.numel()))).values)


def ball(volume: Volume, center: torch.Tensor, radius_mm: float) -> torch.Tensor:
    """Share of every voxel that lies in a ball, from 0 to 1, its edge one voxel wide.

    Parameters
    ----------
    volume
        Whose grid.
    center
        LPS x, y, z, mm.
    radius_mm
        Of the ball.
    """
    grid = volume.grid
    axes = (torch.arange(n, dtype=torch.float64) for n in grid.shape)
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    affine = torch.from_numpy(grid.affine)
    place = index @ affine[:3, :3].T + affine[:3, 3]
    distance = torch.linalg.vector_norm(place - center, dim=-1)
    inside = (radius_mm - distance) / grid.spacing[-1] + 0.5
    share: torch.Tensor = inside.clamp(0, 1).float()
    return share
