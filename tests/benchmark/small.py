"""Small scans of smooth bodies, as cases of a benchmark."""

import nibabel
import numpy as np
import torch

from medrecon.benchmark.case import Case, change
from medrecon.grid import Grid
from medrecon.volume import Unit, Volume

SHAPE, SPACING = (6, 32, 32), (2.5, 8.0, 8.0)


def blob(unit=Unit.HU, shape=SHAPE, spacing=SPACING):
    """A smooth body, a little off the middle."""
    grid = Grid.centred(shape, spacing)
    z, y, x = (torch.linspace(-1, 1, n) if n > 1 else torch.zeros(1) for n in shape)
    r2 = ((y - 0.1) / 0.45)[:, None] ** 2 + ((x + 0.15) / 0.55) ** 2
    body = torch.exp(-(r2**2)) * (1 + 0.2 * z)[:, None, None]
    return Volume(-1000 + 1050 * body if unit is Unit.HU else 800 * body, grid, unit)


def case(kind="fan", *, slices=2, lesion=None, name="small", **scan):
    """A chest scanner with few, wide cells."""
    block = {
        "kind": kind,
        "arc_deg": 360.0,
        "views": 24,
        "photons": 1.0e5,
        "source_to_axis_mm": 1000.0,
        "source_to_detector_mm": 1500.0,
        "columns": 48,
        "column_spacing_mm": 12.0,
        **({"rows": 8, "row_spacing_mm": 3.75} if kind == "cone" else {}),
        **scan,
    }
    formula = "fdk" if kind == "cone" else "fbp"
    return Case(
        name=name,
        suite="ct-sparse",
        subject="chest",
        protocol="ct_cone_sparse",
        changes=(
            change("acquisition", block),
            change("grid", {"shape": [slices, 32, 32], "spacing_mm": list(SPACING)}),
            change(
                "baselines",
                [{"method": formula}, {"method": "tv", "iterations": 20, "weight": 40.0}],
            ),
        ),
        slices=slices,
        lesion=lesion,
    )


def write_image(path, volume):
    """Write a NIfTI file in RAS."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.grid.affine[:, [2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(volume.data.numpy().transpose(2, 1, 0), affine), path)
    return path
