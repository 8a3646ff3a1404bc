"""Geometry files: matrices and RTK's parameters put every ray where their definitions say."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import ConeBeam, ConeVectors, ParallelBeam3D, ParallelVectors
from medrecon.geometry.ct import equiangular
from medrecon.io.matrices import read_matrices
from medrecon.io.rtk_geometry import read_rtk_geometry

CONE = ConeBeam(
    angles=equiangular(5, start=0.3),
    source_to_axis=1000.0,
    source_to_detector=1536.0,
    rows=4,
    columns=6,
    row_spacing=0.9,
    column_spacing=0.8,
    row_offset=3.0,
    column_offset=-2.0,
)
MATRICES = CONE.vectors().detector_turned(tilt=0.05, in_plane=0.02).matrices()


def text(separator: str, width: int) -> str:
    rows = MATRICES.reshape(-1, width)
    lines = [separator.join(f"{n:.17g}" for n in row) for row in rows]
    return "# from a calibration\n" + "\n".join(lines) + "\n\n"


def written(path: Path, content: Any) -> Path:
    if isinstance(content, np.ndarray):
        with path.open("wb") as file:
            np.save(file, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [text(" ", 12), text(",", 12), text(" ; ", 4), MATRICES, MATRICES.reshape(-1, 12)],
    ids=["text", "csv", "rows of four", "npy", "flat npy"],
)
def test_matrices_come_back_from_text_and_from_numpy_files(tmp_path: Path, content: Any):
    path = written(tmp_path / "m", content)
    np.testing.assert_array_equal(read_matrices(path, views=5), MATRICES)


def test_the_scanner_of_the_matrices_has_the_same_rays(tmp_path: Path):
    path = written(tmp_path / "m", text(" ", 12))
    scanner = CONE.vectors().detector_turned(tilt=0.05, in_plane=0.02)
    again = ConeVectors.from_matrices(
        read_matrices(path), rows=4, columns=6, source_to_detector=1536.0
    )
    rows, columns = np.mgrid[:4, :6]
    for ours, theirs in zip(
        again.frames().rays(rows, columns), scanner.frames().rays(rows, columns), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


UNREADABLE = {
    "words": ("one two three", "numbers only"),
    "eleven": (text(" ", 12).replace("900", "").rsplit(" ", 1)[0], "a view has 12"),
    "binary": (bytes(range(256)), "numbers only"),
    "nothing": ("", "has 0 bytes"),
    "comments": ("# nothing\n", "no numbers"),
    "two lines of four": ("1 2 3 4\n5 6 7 8\n", "a view has 12"),
    "another shape": (np.ones((3, 4)), "real numbers"),
    "complex": (np.ones((2, 3, 4), complex), "real numbers"),
    "objects": (np.array([None, {}]), "damaged"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_other_files_are_unreadable(tmp_path: Path, name: str):
    content, words = UNREADABLE[name]
    if isinstance(content, np.ndarray) and content.dtype == object:
        np.save(tmp_path / "m.npy", content, allow_pickle=True)
        (tmp_path / "m.npy").rename(tmp_path / "m")
    else:
        written(tmp_path / "m", content)
    with pytest.raises(UnreadableError, match=words):
        read_matrices(tmp_path / "m")


def test_truncated_missing_and_large_files_are_unreadable(tmp_path: Path):
    path = written(tmp_path / "m", MATRICES)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UnreadableError, match="damaged"):
        read_matrices(path)
    with pytest.raises(UnreadableError, match="does not exist"):
        read_matrices(tmp_path / "absent")
    with path.open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(UnreadableError, match="at most"):
        read_matrices(path)


def test_74_matrices_that_are_no_projections_or_too_few_are_inconsistent(tmp_path: Path):
    path = written(tmp_path / "m", text(" ", 12))
    with pytest.raises(InconsistentError, match="5 matrices, the scan 7 views"):
        read_matrices(path, views=7)
    for change, words in ((math.nan, "1 numbers are NaN"), (0.0, "view 2 has no rank 3")):
        bad = MATRICES.copy()
        if change == 0:
            bad[2] = 0
        else:
            bad[2, 1, 1] = change
        with pytest.raises(InconsistentError, match=words):
            read_matrices(written(tmp_path / "m", bad))


# The example of RTK's documentation, its two projections and their matrices.
EXAMPLE = """<?xml version="1.0"?>
<!DOCTYPE RTKGEOMETRY>
<RTKThreeDCircularGeometry version="3">
  <SourceToIsocenterDistance>1000</SourceToIsocenterDistance>
  <SourceToDetectorDistance>1536</SourceToDetectorDistance>
  <Projection>
    <GantryAngle>271.847274780273</GantryAngle>
    <ProjectionOffsetX>-117.056503295898</ProjectionOffsetX>
    <ProjectionOffsetY>-1.01195001602173</ProjectionOffsetY>
    <Matrix>
          -166.5093078829                   0   -1531.42837748039   -117056.503295898
        -1.01142410874151               -1536  0.0326206557691505   -1011.95001602173
       -0.999480303105996                   0  0.0322354417240802               -1000
    </Matrix>
  </Projection>
  <Projection>
    <GantryAngle>271.852905273438</GantryAngle>
    <ProjectionOffsetX>-117.056831359863</ProjectionOffsetX>
    <ProjectionOffsetY>-1.01187002658844</ProjectionOffsetY>
    <Matrix>
        -166.660129424325                   0   -1531.41199650136   -117056.831359863
        -1.01134095059569               -1536  0.0327174625589984   -1011.87002658844
       -0.999477130482326                   0  0.0323336611415466               -1000
    </Matrix>
  </Projection>
</RTKThreeDCircularGeometry>
"""
RASTER: dict[str, Any] = {"rows": 5, "columns": 7, "spacing": (3.0, 2.0)}


def test_the_documented_example_projects_as_its_matrices_say(tmp_path: Path):
    geometry = read_rtk_geometry(written(tmp_path / "g.xml", EXAMPLE), views=2, **RASTER)
    assert isinstance(geometry, ConeVectors)
    printed = [line.split() for line in EXAMPLE.splitlines() if len(line.split()) == 4]
    theirs = np.array(printed, float).reshape(2, 3, 4)
    lps = np.random.default_rng(0).uniform(-100, 100, (20, 3))
    x, y, z = lps.T
    iec = np.stack([x, z, -y, np.ones(20)])  # head first supine
    u, v, w = np.moveaxis(theirs @ iec, 1, 0)
    ours = geometry.matrices() @ np.vstack([lps.T, np.ones(20)])
    column, row = ours[:, 0] / ours[:, 2], ours[:, 1] / ours[:, 2]
    np.testing.assert_allclose((column - 3) * 2.0, u / w, atol=1e-6)
    np.testing.assert_allclose((row - 2) * 3.0, v / w, atol=1e-6)


def rtk(angles: Any, **shared: float) -> str:
    body = "".join(f"<{name}>{value!r}</{name}>" for name, value in shared.items())
    views = "".join(
        f"<Projection><GantryAngle>{math.degrees(a)!r}</GantryAngle></Projection>" for a in angles
    )
    return f'<RTKThreeDCircularGeometry version="3">{body}{views}</RTKThreeDCircularGeometry>'


def same_rays(a: Any, b: Any) -> None:
    rows, columns = np.mgrid[: a.rows, : a.columns]
    for ours, theirs in zip(
        a.frames().rays(rows, columns), b.frames().rays(rows, columns), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("radius", [0.0, 1536.0])
def test_a_plain_circle_is_our_cone_beam(tmp_path: Path, radius: float):
    distances = {"SourceToIsocenterDistance": 1000.0, "SourceToDetectorDistance": 1536.0}
    path = written(
        tmp_path / "g.xml", rtk(CONE.angles, **distances, RadiusCylindricalDetector=radius)
    )
    # ours is shifted by 3 mm along rows and -2 mm along columns: so is the images' origin
    geometry = read_rtk_geometry(
        path, rows=4, columns=6, spacing=(0.9, 0.8), origin=(3 - 1.5 * 0.9, -2 - 2.5 * 0.8)
    )
    same_rays(geometry, replace(CONE, detector_radius=radius or math.inf))


def test_a_source_at_no_distance_is_parallel(tmp_path: Path):
    shared = {"SourceToIsocenterDistance": 1000.0, "SourceToDetectorDistance": 0.0}
    path = written(tmp_path / "g.xml", rtk(CONE.angles, **shared, ProjectionOffsetX=1.5))
    geometry = read_rtk_geometry(path, **RASTER)
    assert isinstance(geometry, ParallelVectors)
    ours = ParallelBeam3D(
        angles=CONE.angles,
        rows=5,
        columns=7,
        row_spacing=3.0,
        column_spacing=2.0,
        column_offset=1.5,
    )
    points, directions = geometry.frames().rays(2, 3)
    expected, along = ours.frames().rays(2, 3)
    np.testing.assert_allclose(directions, along, atol=1e-12)
    off = points - expected
    np.testing.assert_allclose(np.cross(off, along), 0, atol=1e-9)


def test_source_and_detector_offsets_and_all_angles_project_as_the_definition_says(tmp_path: Path):
    """Their matrix, factor by factor, against the rays of our geometry."""
    rng = np.random.default_rng(1)
    g, o, i = (np.deg2rad(rng.uniform(-60, 60)) for _ in range(3))
    sx, sy, px, py = rng.uniform(-30, 30, 4).tolist()
    shared = {
        "SourceToIsocenterDistance": 900.0,
        "SourceToDetectorDistance": 1400.0,
        "OutOfPlaneAngle": math.degrees(o),
        "InPlaneAngle": math.degrees(i),
        "SourceOffsetX": sx,
        "SourceOffsetY": sy,
        "ProjectionOffsetX": px,
        "ProjectionOffsetY": py,
    }
    geometry = read_rtk_geometry(written(tmp_path / "g.xml", rtk([g], **shared)), **RASTER)
    assert isinstance(geometry, ConeVectors)

    def about(axis: int, a: float) -> np.ndarray:
        M = np.eye(4)
        p, q = [k for k in range(3) if k != axis]
        sign = -1 if axis == 1 else 1
        M[p, p] = M[q, q] = math.cos(a)
        M[p, q], M[q, p] = -sign * math.sin(a), sign * math.sin(a)
        return M

    turn = about(2, -i) @ about(0, -o) @ about(1, -g)
    shift = np.eye(4)
    shift[:2, 3] = -sx, -sy
    project = np.array([[-1400.0, 0, 0, 0], [0, -1400, 0, 0], [0, 0, 1, -900]])
    final = np.array([[1, 0, sx - px], [0, 1, sy - py], [0, 0, 1]])
    theirs = final @ project @ shift @ turn
    lps = rng.uniform(-80, 80, (30, 3))
    u, v, w = theirs @ np.stack([lps[:, 0], lps[:, 2], -lps[:, 1], np.ones(30)])
    ours = geometry.matrices()[0] @ np.vstack([lps.T, np.ones(30)])
    np.testing.assert_allclose((ours[0] / ours[2] - 3) * 2, u / w, atol=1e-8)
    np.testing.assert_allclose((ours[1] / ours[2] - 2) * 3, v / w, atol=1e-8)


PLAIN = {"SourceToIsocenterDistance": 1000.0, "SourceToDetectorDistance": 1536.0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (EXAMPLE.replace("-166.5093078829", "-166.4093078829"), "matrices of 1 of 2 views"),
        (rtk([0.0], SourceToIsocenterDistance=1000.0), "SourceToDetectorDistance is missing"),
        (rtk([0.0], **PLAIN, CollimationUInf=50.0), "'CollimationUInf' is not supported"),
        (rtk([0.0], **(PLAIN | {"SourceOffsetX": math.nan})), "no finite"),
        (
            rtk([0.0], **PLAIN, RadiusCylindricalDetector=1536.0, ProjectionOffsetX=3.0),
            "curved detector with",
        ),
    ],
)
def test_rtk_files_that_contradict_themselves_or_need_more_are_inconsistent(
    tmp_path: Path, content: str, words: str
):
    with pytest.raises(InconsistentError, match=words):
        read_rtk_geometry(written(tmp_path / "g.xml", content), **RASTER)


def test_74_rtk_views_are_as_many_as_those_of_the_scan(tmp_path: Path):
    with pytest.raises(InconsistentError, match="2 views, the scan 3"):
        read_rtk_geometry(written(tmp_path / "g.xml", EXAMPLE), views=3, **RASTER)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("hello", "no XML"),
        (b"\xff\xfe<\0", "UTF-8"),
        (EXAMPLE.replace('version="3"', 'version="2"'), "version 3"),
        (EXAMPLE[:300], "damaged"),
        (rtk([], **PLAIN), "0 projections"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + EXAMPLE, "entities"),
    ],
)
def test_other_xml_is_unreadable(tmp_path: Path, content: Any, words: str):
    with pytest.raises(UnreadableError, match=words):
        read_rtk_geometry(written(tmp_path / "g.xml", content), **RASTER)
