"""DICOM-CT-PD: clinical CT projections, one DICOM file per view (TCIA LDCT-and-Projection-data).

The format's frame is fixed to the table and left-handed: z points from the table's base into the
gantry; seen from the table, x points right, y up, and the angle phi runs counter-clockwise from
12 o'clock, so that the focal spot stands at ``(-rho sin phi, rho cos phi, z)``.  With the detector
at 6 o'clock, seen from the table, row 1 is the farthest and column 1 the leftmost; both count from
1.  Which way that is in the patient depends on how the patient lies.  What of this was checked
against other readers is told in docs/file-formats.md.

References
----------
B. Chen et al., "Development and validation of an open data format for CT projection data", Med.
Phys. 42 (2015) 6964, doi:10.1118/1.4935406; DICOM-CT-PD user manual, version 3 (2020).
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medrecon.errors import InconsistentError, MedreconError, ResourceError, UnreadableError
from medrecon.geometry import ConeBeam
from medrecon.geometry.base import Vector, vector
from medrecon.io import ct_pd_tags as tags
from medrecon.io.ct_pd_order import check_heights, check_turn, common_detector
from medrecon.io.ct_pd_view import Detector, View, has_view, projection_of, view_of
from medrecon.io.dicom_read import BROKEN, MAX_BYTES, discreet, identity_of, is_dicom, read_header
from medrecon.io.plausible import check_ct_study
from medrecon.study import Identity, Study

_MAX_FILES = 500_000
_SAME_RADIUS = 0.01  # mm


@dataclass(frozen=True)
class _Pose:
    """How the patient lies: what angles, heights and columns of the format become in LPS."""

    sense: int  # a = sense * phi + start
    start: float
    along: int  # z of LPS = along * z of the format
    mirrored: bool  # columns run against u

    def angle(self, phi: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.sense * phi + self.start


_POSES = {
    "HFS": _Pose(-1, 0.0, 1, False),
    "FFS": _Pose(1, 0.0, -1, True),
    "HFP": _Pose(-1, math.pi, 1, False),
    "FFP": _Pose(1, math.pi, -1, True),
}


def read_ct_pd(path: Path, *, missing_views: int = 0, max_bytes: int = MAX_BYTES) -> Study:
    """Read a series of projections, with the exact position of every view.

    Parameters
    ----------
    path
        The folder of one series (searched with its subfolders).
    missing_views
        How many views may be missing between the first and the last; the others are placed
        where they were taken.
    max_bytes
        Refuse series that need more memory, bytes.

    Returns
    -------
    Study
        Cone beam ``(views, rows, columns)``: heights are told from the middle of the scan, which
        is the isocentre's z; ``weights`` are the expected quanta where the files tell the incident
        ones, ``mu_water`` the scanner's water value.

    Raises
    ------
    UnreadableError
        If there are no such files, or a tag is damaged.
    InconsistentError
        If the scanner is not supported, files disagree, views are repeated or missing, the gantry
        turns or moves back and forth, or the values are no line integrals.
    ResourceError
        If the series is too large.
    """
    try:
        with discreet():
            study, remarks = _read(path, missing_views, max_bytes)
    except MedreconError:
        raise
    except BROKEN:
        raise UnreadableError(
            f"{path}: a DICOM attribute is damaged; copy the series again from its source."
        ) from None
    for remark in remarks:
        warnings.warn(f"{path}: {remark}", stacklevel=2)
    return study


def is_ct_pd(path: Path) -> bool:
    """Whether a folder's first DICOM file, or a file, is a view of this format."""
    if path.is_file():
        return has_view(path)
    first = next((f for f in sorted(path.rglob("*")) if f.is_file() and is_dicom(f)), None)
    return first is not None and has_view(first)


def _read(path: Path, missing_views: int, max_bytes: int) -> tuple[Study, list[str]]:
    views, identity = _views(path)
    detector = common_detector(views, path)
    views = sorted(views, key=lambda view: view.instance)
    turned = check_turn(views, missing_views, path)
    check_heights(views, path)
    photons = _photons(views)
    _check_memory(len(views), detector, photons is not None, path, max_bytes)
    pose, along, remarks = _pose(detector, path)
    geometry, middle = _geometry(views, turned, pose, along, path)
    measurements = _measurements(views, rows_up=along > 0, mirrored=pose.mirrored)
    study = Study(
        measurements=measurements,
        geometry=geometry,
        grid=None,
        weights=_weights(measurements, photons, mirrored=pose.mirrored),
        identity=identity,
        source=path,
        isocenter=(0.0, 0.0, middle),
        mu_water=detector.water,
    )
    return check_ct_study(study, path), remarks


def _views(path: Path) -> tuple[list[View], Identity]:
    if not path.is_dir():
        raise UnreadableError(f"{path} is not a folder; give the folder of the series.")
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    if len(files) > _MAX_FILES:
        raise ResourceError(f"{path} holds {len(files)} files; give the folder of one series.")
    files = [file for file in files if is_dicom(file)]
    if not files:
        raise UnreadableError(f"{path} holds no DICOM files.")
    identity = identity_of(read_header(files[0]), f"{path}")
    views = [view_of(read_header(file), file) for file in files]
    counts = Counter(view.series for view in views)
    if len(counts) > 1:
        raise InconsistentError(
            f"{path} holds {len(counts)} series of {', '.join(map(str, sorted(counts.values())))} "
            "views; give the folder of one."
        )
    return views, identity


def _photons(views: list[View]) -> NDArray[np.float32] | None:
    told = [view.photons for view in views if view.photons is not None]
    if len(told) < len(views):
        return None
    photons = np.stack(told)
    return photons if bool((photons > 0).any()) else None


def _check_memory(
    views: int, detector: Detector, weighted: bool, path: Path, max_bytes: int
) -> None:
    needed = 4 * views * detector.rows * detector.columns * (2 if weighted else 1)
    if needed > max_bytes:
        raise ResourceError(
            f"{path}: the series needs {needed / 2**30:.1f} GiB, more than the "
            f"{max_bytes / 2**30:.1f} GiB allowed; read a part of it."
        )


def _pose(detector: Detector, path: Path) -> tuple[_Pose, int, list[str]]:
    """How the patient lies, the sign of the format's z in LPS, and what is not sure of it."""
    remarks = []
    position = detector.position
    if not position:
        remarks.append(
            "PatientPosition is missing, so head first supine is assumed; if that is wrong, the "
            "volume lies turned around."
        )
        position = "HFS"
    if position not in _POSES:
        raise InconsistentError(
            f"{path}: PatientPosition has to be one of {', '.join(_POSES)}; others are not "
            "supported."
        )
    if detector.rows == detector.columns:
        remarks.append(
            "the detector is square, so whether its pixels run along rows or columns cannot be "
            "told; rows are taken, as the format's manual says."
        )
    pose = _POSES[position]
    if detector.maker != "GE":
        return pose, pose.along, remarks
    # The manufacturer's own files count z against the manual: for feet first supine, a reader
    # that compared its volume with the scanner's found LPS z = +z0 (docs/file-formats.md).
    if position != "FFS":
        remarks.append(
            "which way z runs in this maker's files is known for feet first supine only; compare "
            "the volume with the scanner's, it may be mirrored."
        )
    return pose, -pose.along, remarks


def _geometry(
    views: list[View], turned: NDArray[np.float64], pose: _Pose, along: int, path: Path
) -> tuple[ConeBeam, float]:
    """Return the scan in our frame, and the z of its middle."""
    detector = views[0].detector
    radii = np.array([view.radius for view in views])
    if np.ptp(radii) > _SAME_RADIUS:
        raise InconsistentError(
            f"{path}: {tags.RADIUS} varies by {np.ptp(radii):.3f} mm; such scans are not supported."
        )
    radius = float(radii[0])
    heights = along * np.array([view.height for view in views])
    middle = float((heights.max() + heights.min()) / 2)
    shifts = [_shift(view, radius, pose, along) for view in views]
    column = detector.central_column - 1  # of the foot, from 0
    row = detector.central_row - 1
    column_offset = ((detector.columns - 1) / 2 - column) * detector.column_spacing
    row_offset = ((detector.rows - 1) / 2 - row) * detector.row_spacing
    try:
        geometry = ConeBeam(
            angles=tuple(pose.angle(turned).tolist()),
            source_to_axis=radius,
            source_to_detector=detector.source_to_detector,
            rows=detector.rows,
            columns=detector.columns,
            row_spacing=detector.row_spacing,
            column_spacing=detector.column_spacing,
            row_offset=-row_offset if along > 0 else row_offset,
            column_offset=-column_offset if pose.mirrored else column_offset,
            detector_radius=(
                detector.source_to_detector if detector.shape == "CYLINDRICAL" else math.inf
            ),
            heights=tuple((heights - middle).tolist()) if np.ptp(heights) > 0 else (),
            focal_shifts=tuple(shifts) if any(any(shift) for shift in shifts) else (),
        )
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error
    return geometry, middle


def _shift(view: View, radius: float, pose: _Pose, along: int) -> Vector:
    """Deflection of the focal spot as tangential, radial and axial mm."""
    angle, height, outward = view.shift
    turned = pose.sense * angle
    return vector(
        (
            (radius + outward) * math.sin(turned),
            (radius + outward) * math.cos(turned) - radius,
            along * height,
        )
    )


def _measurements(views: list[View], *, rows_up: bool, mirrored: bool) -> Tensor:
    detector = views[0].detector
    values = np.empty((len(views), detector.rows, detector.columns), np.float32)
    # Row 1 has the largest z of the format; ours grow along +z.
    rows = slice(None, None, -1) if rows_up else slice(None)
    columns = slice(None, None, -1) if mirrored else slice(None)
    for place, view in zip(values, views, strict=True):
        place[:] = projection_of(view)[rows, columns]
    return torch.from_numpy(values)


def _weights(
    measurements: Tensor, photons: NDArray[np.float32] | None, *, mirrored: bool
) -> Tensor | None:
    """Estimate the detected quanta: the incident ones of the column, attenuated."""
    if photons is None:
        return None
    incident = torch.from_numpy(photons[:, ::-1].copy() if mirrored else photons)
    return torch.exp(-measurements).mul_(incident[:, None])
