"""TIFF stacks: images in the order of their numbers, none missing, none of another kind."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from medrecon.errors import InconsistentError, ResourceError, UnreadableError
from medrecon.geometry import CTGeometry, ParallelBeam, ParallelBeam3D
from medrecon.geometry.ct import equiangular
from medrecon.io.read import read_study
from medrecon.io.tiff_pages import read_pages
from medrecon.io.tiff_stack import TiffStack, read_tiff_stack

VIEWS, ROWS, COLUMNS = 12, 3, 7
SLICES = ParallelBeam(angles=equiangular(VIEWS), columns=COLUMNS, column_spacing=0.5)
PANEL = ParallelBeam3D(
    angles=equiangular(VIEWS), rows=ROWS, columns=COLUMNS, row_spacing=0.5, column_spacing=0.5
)
LINES = np.random.default_rng(0).uniform(0.1, 2, (VIEWS, ROWS, COLUMNS))
FLAT = 5e4 + 1e3 * np.arange(COLUMNS)
GREY: dict[str, Any] = {"photometric": "minisblack"}
COUNTS = (100 + FLAT * np.exp(-LINES)).astype(np.uint16)


def folder(path: Path, images: Any, name: str = "view{:d}.tif") -> Path:
    """Numbers without leading zeros: their order is not that of the names."""
    path.mkdir()
    for k, image in enumerate(images):
        tifffile.imwrite(path / name.format(k), image, **GREY)
    return path


def scan(tmp_path: Path, **changes: Any) -> TiffStack:
    fields: dict[str, Any] = {
        "images": folder(tmp_path / "views", COUNTS),
        "flats": folder(tmp_path / "flats", np.tile(100 + FLAT, (2, ROWS, 1)).astype(np.float32)),
        "darks": folder(tmp_path / "darks", np.full((2, ROWS, COLUMNS), 100, np.uint16)),
    }
    return TiffStack(**(fields | changes))


def test_counts_become_line_integrals_in_the_layout_of_the_geometry(tmp_path: Path):
    stack = scan(tmp_path)
    study = read_tiff_stack(stack, PANEL)
    np.testing.assert_allclose(study.measurements, LINES, atol=3e-4)
    assert study.weights is not None
    np.testing.assert_allclose(study.weights, FLAT * np.exp(-LINES), atol=1.1)
    study = read_tiff_stack(stack, SLICES)
    np.testing.assert_allclose(study.measurements, LINES.transpose(1, 0, 2), atol=3e-4)
    assert study.weights is not None
    assert study.weights.shape == (ROWS, VIEWS, COLUMNS)


def test_numbers_may_stand_for_flats_and_darks(tmp_path: Path):
    images = folder(tmp_path / "v", (100 + 4e4 * np.exp(-LINES)).astype(np.uint16))
    study = read_tiff_stack(TiffStack(images=images, flats=40_100.0, darks=100.0), PANEL)
    np.testing.assert_allclose(study.measurements, LINES, atol=3e-4)
    with pytest.raises(InconsistentError, match="without flats"):
        TiffStack(images=images)


@pytest.mark.parametrize(
    ("axes", "order"),
    [
        (("views", "rows", "columns"), (0, 1, 2)),
        (("rows", "views", "columns"), (1, 0, 2)),
        (("views", "columns", "rows"), (0, 2, 1)),
    ],
)
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
def test_line_integrals_of_any_order_and_turned_round(
    tmp_path: Path, axes: Any, order: Any, flips: tuple[bool, bool]
):
    turned = LINES[:, :: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, turned.transpose(order).astype(np.float32), **GREY, bigtiff=flips[0])
    stack = TiffStack(
        images=path,
        values="line_integrals",
        axes=axes,
        flip_rows=flips[0],
        flip_columns=flips[1],
    )
    study = read_tiff_stack(stack, PANEL)
    np.testing.assert_allclose(study.measurements, LINES, rtol=1e-6)
    assert study.weights is None


def test_axes_are_named_once_each():
    with pytest.raises(InconsistentError, match="once each"):
        TiffStack(images=Path("x"), flats=1.0, axes=("views", "views", "rows"))


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}])
def test_39_images_come_in_the_order_of_their_numbers(tmp_path: Path, options: Any):
    (tmp_path / "v").mkdir()
    for k in range(1, 13):
        values = np.full((4, 5), k, np.uint16)
        tifffile.imwrite(tmp_path / "v" / f"scan2_{k}.TIF", values, **options)
    assert read_pages(tmp_path / "v")[:, 0, 0].tolist() == list(range(1, 13))


BAD_FOLDERS: dict[str, tuple[list[Any], str]] = {
    "a gap": ([0, 1, 2, 4], "1 gaps and 0 repetitions"),
    "a repetition": ([0, 1, "01", 2], "0 gaps and 1 repetitions"),
    "another name": ([0, 1, "x2"], "differ in more than a number"),
    "two numbers": ([0, "1_1", "2_2"], "differ in more than a number"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_39_folders_with_gaps_or_mixed_names_are_inconsistent(tmp_path: Path, name: str):
    numbers, words = BAD_FOLDERS[name]
    for k in numbers:
        tifffile.imwrite(tmp_path / f"v{k}.tif", np.ones((4, 5), np.uint16))
    with pytest.raises(InconsistentError, match=words):
        read_pages(tmp_path)


def test_39_two_counters_are_inconsistent(tmp_path: Path):
    for k in range(3):
        tifffile.imwrite(tmp_path / f"s{k % 2}_{k}.tif", np.ones((4, 5), np.uint16))
    with pytest.raises(InconsistentError, match="differ in 2 numbers"):
        read_pages(tmp_path)


@pytest.mark.parametrize("odd", [np.ones((4, 6), np.uint16), np.ones((4, 5), np.float32)])
@pytest.mark.parametrize("together", [False, True])
def test_39_mixed_shapes_and_types_are_inconsistent(
    tmp_path: Path, odd: np.ndarray, together: bool
):
    images = [np.ones((4, 5), np.uint16), odd]
    if together:
        with tifffile.TiffWriter(tmp_path / "s.tif") as writer:
            for image in images:
                writer.write(image)
    else:
        folder(tmp_path / "v", images)
    with pytest.raises(InconsistentError, match="image 2 of 2 is"):
        read_pages(tmp_path / ("s.tif" if together else "v"))


def test_74_images_that_do_not_fit_the_geometry_are_inconsistent(tmp_path: Path):
    stack = scan(tmp_path)
    with pytest.raises(InconsistentError, match=r"12, 3 and 7 .* the geometry 10, 3 and 7"):
        read_tiff_stack(stack, PANEL[:10])
    other = folder(tmp_path / "other", np.ones((2, ROWS, COLUMNS + 1), np.uint16))
    with pytest.raises(InconsistentError, match="3 rows and 8 columns do not fit"):
        read_tiff_stack(replace(stack, flats=other), PANEL)


@pytest.mark.parametrize(
    ("values", "flats", "words"),
    [("line_integrals", None, "counts"), ("counts", 50.0, "not above darks")],
)
def test_values_that_cannot_be_what_they_are_called_are_inconsistent(
    tmp_path: Path, values: Any, flats: Any, words: str
):
    stack = replace(scan(tmp_path), values=values, flats=flats)
    with pytest.raises(InconsistentError, match=words):
        read_tiff_stack(stack, PANEL)


def classic(pages: list[tuple[int, int]], size: int = 4096) -> bytes:
    """Chain of empty directories: (where it lies, where the next one lies)."""
    content = bytearray(size)
    content[:8] = b"II*\0" + struct.pack("<I", pages[0][0])
    for at, following in pages:
        content[at : at + 6] = struct.pack("<HI", 0, following)
    return bytes(content)


CRAFTED = {
    "a ring": (classic([(8, 64), (64, 8)]), "is a ring"),
    "its own successor": (classic([(8, 8)]), "is a ring"),
    "beyond the end": (classic([(8, 5000)]), "page 2 lies beyond its end"),
    "too many": (
        classic([(8 + 6 * k, 14 + 6 * k) for k in range(100_001)], 700_000),
        "more than 100000 pages",
    ),
    "no image": (b"II*\0" + bytes(40), "no image"),
    "empty directory": (classic([(8, 0)]), "damaged|not grey|made up"),
    "entries without end": (b"II*\0\x08\0\0\0\xff\xff" + bytes(40), "truncated"),
    "truncated": (b"II*\0\x08\0", "truncated"),
    "text": (b"hello", "not a TIFF"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_40_crafted_files_are_unreadable_at_once(tmp_path: Path, name: str):
    content, words = CRAFTED[name]
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(UnreadableError, match=words):
        read_pages(tmp_path / "x.tif")


def test_images_larger_than_their_file_or_the_cap_are_refused(tmp_path: Path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.ones((3, 40, 50), np.uint16), **GREY)
    with pytest.raises(ResourceError, match="GiB"):
        read_pages(path, max_bytes=1000)
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", 257, 4, 1))  # ImageLength
    content[at + 8 : at + 12] = struct.pack("<I", 65535)
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=r"truncated or made up|damaged"):
        read_pages(path)


def test_colours_and_files_of_pages_in_a_folder_are_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "c.tif", np.ones((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(UnreadableError, match="not grey"):
        read_pages(tmp_path / "c.tif")
    pages = folder(tmp_path / "p", np.ones((2, 3, 4, 5), np.uint16))
    with pytest.raises(UnreadableError, match="3 pages"):
        read_pages(pages)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError, match="no TIFF"):
        read_pages(tmp_path / "empty")
    with pytest.raises(UnreadableError, match="neither"):
        read_pages(tmp_path / "absent")


def test_a_stack_without_a_description_is_answered_with_what_it_needs(tmp_path: Path):
    path = folder(tmp_path / "v", COUNTS)
    for given in (path, path / "view0.tif"):
        with pytest.raises(UnreadableError, match="name it in a protocol"):
            read_study(given)


@pytest.mark.parametrize("geometry", [SLICES, PANEL])
def test_damage_is_answered_by_one_known_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], geometry: CTGeometry
):
    from tests.io.test_damaged import damaged_often

    tifffile.imwrite(tmp_path / "x.tif", LINES.astype(np.float32), compression="zlib")
    stack = TiffStack(images=tmp_path / "x.tif", values="line_integrals")
    damaged_often(tmp_path / "x.tif", lambda path: read_tiff_stack(stack, geometry), capfd, 100)
