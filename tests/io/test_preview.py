"""The preview shows the patient the right way up, to scale, in the given window."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from medrecon.errors import InconsistentError, OutputError
from medrecon.grid import Grid
from medrecon.io.preview import _planes, write_preview
from medrecon.volume import Unit, Volume

GRID = Grid.centred((9, 11, 13), (3.0, 1.0, 2.0))


def marked(direction: str) -> Volume:
    """A volume that is bright on one side of the patient only."""
    data = torch.zeros(GRID.shape)
    slices = {
        "S": (slice(6, None),),
        "P": (slice(None), slice(8, None)),
        "L": (..., slice(9, None)),
    }
    data[slices[direction]] = 1.0
    return Volume(data, GRID, Unit.HU)


@pytest.mark.parametrize(
    ("direction", "axial", "coronal", "sagittal"),
    [("S", None, "top", "top"), ("P", "bottom", None, "right"), ("L", "right", "right", None)],
)
def test_every_side_of_the_patient_is_where_radiologists_look_for_it(
    direction: str, axial: str | None, coronal: str | None, sagittal: str | None
):
    for plane, expected in zip(_planes(marked(direction)), (axial, coronal, sagittal), strict=True):
        pixels = plane.pixels
        bright = {
            "top": pixels[0].min(),
            "bottom": pixels[-1].min(),
            "left": pixels[:, 0].min(),
            "right": pixels[:, -1].min(),
        }
        found = [side for side, value in bright.items() if value == 1]
        assert found == ([expected] if expected else [])


def test_planes_are_to_scale_in_millimetres():
    sizes = [(plane.height, plane.width) for plane in _planes(marked("S"))]
    assert sizes == [(11, 26), (27, 26), (27, 11)]


def test_the_picture_shows_all_methods_in_one_window_and_the_same_bytes_again(tmp_path: Path):
    dark, bright = torch.full(GRID.shape, -2000.0), torch.full(GRID.shape, 2000.0)
    volumes = {
        "FDK $x$": Volume(dark, GRID, Unit.HU),
        "DDS": Volume(bright, GRID, Unit.HU),
    }
    for name in ("a.png", "b.png"):
        write_preview(tmp_path / name, volumes, low=-100, high=100)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = imread(tmp_path / "a.png")[..., :3].mean(-1)
    half = picture.shape[0] // 2
    assert np.median(picture[: half - 40]) == 0
    assert np.mean(picture[half : half + half // 2] == 1) > 0.3


def test_nothing_to_show_is_refused(tmp_path: Path):
    volume = marked("S")
    for volumes, low, high in (({}, 0, 1), ({"a": volume}, 1, 1), ({"a": volume}, 0, np.nan)):
        with pytest.raises(InconsistentError):
            write_preview(tmp_path / "p.png", volumes, low=low, high=high)
    with pytest.raises(OutputError):
        write_preview(tmp_path / "absent" / "p.png", {"a": volume}, low=0, high=1)
    assert list(tmp_path.iterdir()) == []
