"""Phantoms of a benchmark that come without a patient."""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from medrecon.errors import UnreadableError
from medrecon.grid import Grid
from medrecon.io.read import read_image
from medrecon.volume import Unit, Volume

# HU, centre (z, y, x) and half axes in mm, from the outside inwards: each replaces what it covers.
_HEAD: tuple[tuple[float, tuple[float, float, float], tuple[float, float, float]], ...] = (
    (40.0, (0, 0, 0), (110, 98, 78)),  # skin and muscle
    (1100.0, (0, 0, 0), (103, 91, 71)),  # skull
    (600.0, (0, 0, 0), (100, 88, 68)),  # its marrow
    (1100.0, (0, 0, 0), (98, 86, 66)),
    (8.0, (0, 0, 0), (95, 83, 63)),  # cerebrospinal fluid
    (36.0, (0, 0, 0), (92, 79, 59)),  # grey matter
    (28.0, (0, -28, -24), (70, 34, 22)),  # white matter
    (28.0, (0, -28, 24), (70, 34, 22)),
    (28.0, (0, 26, -26), (66, 30, 21)),
    (28.0, (0, 26, 26), (66, 30, 21)),
    (6.0, (4, -8, -9), (26, 24, 5)),  # ventricles
    (6.0, (4, -8, 9), (26, 24, 5)),
    (40.0, (0, 0, -18), (20, 14, 7)),  # deep grey matter
    (40.0, (0, 0, 18), (20, 14, 7)),
    (68.0, (2, 22, 34), (13, 12, 9)),  # a bleeding
    (20.0, (-4, 36, -34), (15, 12, 11)),  # an infarct
    (180.0, (6, 6, 0), (3, 4, 3)),  # a calcified pineal gland
    (-950.0, (-10, -76, -10), (16, 9, 9)),  # frontal sinuses
    (-950.0, (-10, -76, 11), (16, 8, 10)),
    (1500.0, (-22, 10, -48), (12, 13, 16)),  # petrous bones
    (1500.0, (-22, 10, 48), (12, 13, 16)),
    (-900.0, (-22, 14, -50), (5, 4, 4)),  # their air cells
    (-900.0, (-22, 14, 50), (5, 4, 4)),
)


def head(slices: int = 32, spacing: tuple[float, float, float] = (2.5, 0.7, 0.7)) -> Volume:
    """Head of ellipsoids in HU: what a prior of chests has not seen, with contrasts of 8 to 60 HU.

    Parameters
    ----------
    slices
        How many, of 256 mm x 256 mm.
    spacing
        Voxel size z, y, x, mm.
    """
    n = round(256.0 / spacing[1])
    grid = Grid.centred((slices, n, n), spacing)
    z, y, x = (
        (torch.arange(count, dtype=torch.float32) - (count - 1) / 2) * step
        for count, step in zip(grid.shape, spacing, strict=True)
    )
    image = torch.full(grid.shape, -1000.0)
    for value, (cz, cy, cx), (az, ay, ax) in _HEAD:
        squared = (
            ((z - cz) / az)[:, None, None] ** 2
            + ((y - cy) / ay)[:, None] ** 2
            + ((x - cx) / ax) ** 2
        )
        image = torch.where(squared <= 1, value, image)
    return Volume(_smooth(image), grid, Unit.HU)


def _smooth(image: Tensor) -> Tensor:
    """Edges a little softer than a voxel, as a scanner shows them."""
    kernel = torch.tensor([0.25, 0.5, 0.25])
    weights = (kernel[:, None] * kernel)[None, None]
    padded = torch.nn.functional.pad(image[:, None], (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, weights)[:, 0]


def catphan() -> Volume:
    """Read the CatPhan cone-beam CT that comes with older pylinac wheels (1.1.1; MIT).

    Raises
    ------
    UnreadableError
        If pylinac is not installed, or its version brings no scan.
    """
    spec = importlib.util.find_spec("pylinac")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = [f for folder in folders for f in (Path(folder) / "demo_files" / "cbct").glob("*.zip")]
    if not files:
        raise UnreadableError(
            "The CatPhan comes with pylinac 1.1.1, which is not installed; give one by --image."
        )
    with tempfile.TemporaryDirectory() as folder:
        for name in _images(files[0]):
            target = Path(folder) / Path(name).name
            with zipfile.ZipFile(files[0]) as archive:
                target.write_bytes(archive.read(name))
        volume, _ = read_image(Path(folder), unit=Unit.HU)
    return volume


def _images(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return sorted(n for n in archive.namelist() if n.lower().endswith(".dcm"))
