"""Scanner geometry out of RTK's XML files (``ThreeDCircularProjectionGeometry``).

RTK's frame is that of IEC 61217: y along the rotation axis towards the gantry, z up.  For a patient
who lies head first and supine its (x, y, z) is our (x, z, -y), and its gantry angle is our view
angle.  The detector's cells have physical coordinates there, those of the projection images.

References
----------
S. Rit et al., "The Reconstruction Toolkit (RTK)", J. Phys.: Conf. Ser. 489 (2014) 012079,
doi:10.1088/1742-6596/489/1/012079; RTK documentation, "3D circular projection geometry".
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import ConeVectors, ParallelVectors
from medrecon.geometry.frames import Frames
from medrecon.io.matrices import read_small

Array = NDArray[np.float64]

_ROOT, _VERSION = "RTKThreeDCircularGeometry", "3"
_MAX_VIEWS = 1_000_000
_NEEDED = ("SourceToIsocenterDistance", "SourceToDetectorDistance", "GantryAngle")
_ZERO = (
    "OutOfPlaneAngle",
    "InPlaneAngle",
    "SourceOffsetX",
    "SourceOffsetY",
    "ProjectionOffsetX",
    "ProjectionOffsetY",
)
_RADIUS = "RadiusCylindricalDetector"
_TO_LPS = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # of vectors in RTK's frame


def read_rtk_geometry(
    path: Path,
    *,
    rows: int,
    columns: int,
    spacing: tuple[float, float],
    origin: tuple[float, float] | None = None,
    views: int | None = None,
) -> ConeVectors | ParallelVectors:
    """Read an RTK geometry for projections of a given raster.

    Parameters
    ----------
    path
        The XML file, version 3.
    rows, columns
        Cells of the projections.
    spacing
        Height and width of a cell (row, column), mm: the images' spacing.
    origin
        Physical coordinates (row, column) of the centre of cell (0, 0), mm: the images' origin.
        Default: the images are centred, ``-(n - 1) / 2 * spacing``.
    views
        How many there have to be.

    Returns
    -------
    ConeVectors or ParallelVectors
        Parallel where the file has a source-detector distance of 0.

    Raises
    ------
    UnreadableError
        If the file is no such XML, or of another version.
    InconsistentError
        If numbers are missing or not finite, a matrix contradicts the parameters, or the file uses
        what is not supported (collimation, curved detectors with an offset).
    """
    shared, single = _parse(path)
    if views is not None and len(single) != views:
        raise InconsistentError(f"{path} has {len(single)} views, the scan {views}.")
    told = {name: _told(name, shared, single, path) for name in (*_NEEDED, *_ZERO)}
    turn = _turns(told)
    _check_matrices(told, turn, single, path)
    origin = origin or (-(rows - 1) / 2 * spacing[0], -(columns - 1) / 2 * spacing[1])
    frames = _frames(told, turn, _radius(shared, told, path), rows, columns, spacing, origin)
    try:
        if frames.source is None:
            return ParallelVectors.from_frames(frames)
        return ConeVectors.from_frames(frames)
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error


Numbers = dict[str, list[float]]


def _parse(path: Path) -> tuple[Numbers, list[Numbers]]:
    """Numbers by element: those of the whole file, and those of each view."""
    try:
        text = read_small(path).decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError(f"{path} is no XML in UTF-8.") from None
    if "<!ENTITY" in text:
        raise UnreadableError(f"{path} declares XML entities, which are refused.")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        raise UnreadableError(f"{path} is no XML, or damaged.") from None
    if root.tag != _ROOT or root.get("version") != _VERSION:
        raise UnreadableError(
            f"{path} is no {_ROOT} of version {_VERSION}; convert it with the current RTK."
        )
    views = [_numbers(element, path) for element in root if element.tag == "Projection"]
    if not 0 < len(views) <= _MAX_VIEWS:
        raise UnreadableError(f"{path} holds {len(views)} projections.")
    shared = _numbers([element for element in root if element.tag != "Projection"], path)
    return shared, views


def _numbers(elements: ElementTree.Element | list[ElementTree.Element], path: Path) -> Numbers:
    found: Numbers = {}
    for element in elements:
        if element.tag not in (*_NEEDED, *_ZERO, _RADIUS, "Matrix"):
            raise InconsistentError(
                f"{path}: {element.tag[:40]!a} is not supported; a scan that needs it would "
                "come out wrong."
            )
        try:
            values = [float(n) for n in (element.text or "").split()]
        except ValueError:
            values = []
        if len(values) != (12 if element.tag == "Matrix" else 1) or not np.isfinite(values).all():
            raise InconsistentError(f"{path}: {element.tag} holds no finite number(s).")
        found[element.tag] = values
    return found


def _told(name: str, shared: Numbers, single: list[Numbers], path: Path) -> Array:
    """One value per view: its own, else the file's, else 0."""
    fallback = shared.get(name, [0.0] if name in _ZERO else None)
    values = [view.get(name, fallback) for view in single]
    if any(value is None for value in values):
        raise InconsistentError(f"{path}: {name} is missing.")
    return np.array(values, np.float64)[:, 0]


def _turns(told: dict[str, Array]) -> Array:
    """Rotations ``(views, 3, 3)`` from RTK's fixed frame into that of the detector."""
    turned = np.eye(3)
    for name, axis in (("InPlaneAngle", 2), ("OutOfPlaneAngle", 0), ("GantryAngle", 1)):
        angle = np.deg2rad(told[name])
        c, s = np.cos(angle), np.sin(angle)
        step = np.zeros((len(angle), 3, 3))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step[:, axis, axis] = 1
        step[:, i, i] = step[:, j, j] = c
        step[:, i, j], step[:, j, i] = s, -s  # by the opposite angle: the volume is turned
        turned = turned @ step
    return turned


def _check_matrices(told: dict[str, Array], turn: Array, single: list[Numbers], path: Path) -> None:
    """Compare the parameters with the matrices in which a file repeats them."""
    given = [k for k, view in enumerate(single) if "Matrix" in view]
    if not given:
        return
    expected = _matrices(told, turn)[given]
    found = np.array([single[k]["Matrix"] for k in given]).reshape(-1, 3, 4)
    scale = np.abs(expected).max((1, 2))
    off = np.abs(found - expected).max((1, 2)) > 1e-7 * scale
    if off.any():
        raise InconsistentError(
            f"{path}: the matrices of {int(off.sum())} of {len(single)} views contradict their "
            f"parameters, the first that of view {given[int(np.argmax(off))]}."
        )


def _matrices(told: dict[str, Array], turn: Array) -> Array:
    """Projection matrices onto physical coordinates, in RTK's frame."""
    zero, one = np.zeros(len(turn)), np.ones(len(turn))
    sx, sy = told["SourceOffsetX"], told["SourceOffsetY"]
    px, py = told["ProjectionOffsetX"], told["ProjectionOffsetY"]
    far, near = told["SourceToDetectorDistance"], told["SourceToIsocenterDistance"]
    if not far.any():
        M = np.array([[one, zero, zero, -px], [zero, one, zero, -py], [zero, zero, zero, one]])
    else:
        # Onto the plane at -far from the source, which lies at (sx, sy, near).
        M = np.array(
            [
                [-far, zero, sx - px, far * sx - near * (sx - px)],
                [zero, -far, sy - py, far * sy - near * (sy - py)],
                [zero, zero, one, -near],
            ]
        )
    rotation = np.zeros((len(turn), 4, 4))
    rotation[:, :3, :3], rotation[:, 3, 3] = turn, 1
    return np.asarray(M.transpose(2, 0, 1) @ rotation)


def _radius(shared: Numbers, told: dict[str, Array], path: Path) -> float:
    radius = abs(shared.get(_RADIUS, [0.0])[0])
    if radius and told["ProjectionOffsetX"].any():
        raise InconsistentError(
            f"{path}: a curved detector with ProjectionOffsetX is not supported; move the images' "
            "origin instead."
        )
    return radius or math.inf


def _frames(
    told: dict[str, Array],
    turn: Array,
    radius: float,
    rows: int,
    columns: int,
    spacing: tuple[float, float],
    origin: tuple[float, float],
) -> Frames:
    """Where source and detector are, in our frame."""
    back = _TO_LPS @ turn.transpose(0, 2, 1)  # from the detector's frame to LPS
    far, near = told["SourceToDetectorDistance"], told["SourceToIsocenterDistance"]
    parallel = not far.any()
    depth = -near if parallel else near - far
    source = np.stack([told["SourceOffsetX"], told["SourceOffsetY"], near], -1)
    foot = np.stack([told["ProjectionOffsetX"], told["ProjectionOffsetY"], depth], -1)
    views = len(turn)
    return Frames(
        source=None if parallel else np.einsum("vij,vj->vi", back, source),
        direction=-back[:, :, 2] if parallel else None,
        foot=np.einsum("vij,vj->vi", back, foot),
        u=spacing[1] * back[:, :, 0],
        v=spacing[0] * back[:, :, 1],
        normal=back[:, :, 2],
        c0=np.full(views, -origin[1] / spacing[1]),
        r0=np.full(views, -origin[0] / spacing[0]),
        radius=radius,
        rows=rows,
        columns=columns,
    )
