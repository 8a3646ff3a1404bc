"""A writer of DICOM-CT-PD scans that knows the format's frame and nothing of ours.

Positions follow the format's manual: left-handed, x to the right and y up as seen from the table,
z from the table into the gantry; where the patient's left, back and head are in it is said per
patient position.  The object is a sum of Gaussians, whose line integrals are smooth and exact.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

Array = NDArray[np.float64]

# Centre in LPS mm, deviation mm, attenuation at the centre 1/mm: nothing symmetric.
BLOBS = [
    ((0.0, 0.0, 30.0), 40.0, 0.018),
    ((35.0, 12.0, 22.0), 7.0, 0.02),
    ((-20.0, 41.0, 45.0), 5.0, 0.015),
]

# Rows: the patient's left, posterior and superior direction in the format's frame.
PATIENT = {
    "HFS": ((1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "FFS": ((-1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "HFP": ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "FFP": ((1, 0, 0), (0, 1, 0), (0, 0, -1)),
}

FFS_XYZ = [(0.002, 0.7, 0.3), (-0.002, 0.7, -0.3), (0.002, -0.7, 0.3), (-0.002, -0.7, -0.3)]
"""Shifts of the focal spot: angle rad, z mm, radius mm."""


@dataclass(frozen=True)
class PdScan:
    """A helical scan in the format's terms; ``position`` and ``maker`` say where the patient is."""

    views: int = 60
    per_turn: int = 24
    start: float = 0.4
    turning: float = 1.0
    z_start: float = -12.0
    feed: float = 20.0
    rows: int = 6
    columns: int = 40
    row_spacing: float = 4.0
    column_spacing: float = 6.0
    radius: float = 595.0
    distance: float = 1085.6
    central: tuple[float, float] = (21.125, 3.25)
    shape: str = "CYLINDRICAL"
    mode: str = "FFSNONE"
    shifts: tuple[tuple[float, float, float], ...] = ((0.0, 0.0, 0.0),)
    position: str = "FFS"
    maker: str = "SIEMENS"

    def patient(self) -> Array:
        """Rows: the patient's L, P and S axes in the format's frame."""
        axes = np.array(PATIENT[self.position], np.float64)
        if self.maker.startswith("GE"):
            axes[2] *= -1
        return axes

    def view(self, v: int) -> tuple[float, float, tuple[float, float, float]]:
        """Angle, z and shift as stored: in single precision."""
        angle = self.start + self.turning * 2 * np.pi * v / self.per_turn
        wrapped = np.float32((angle + np.pi) % (2 * np.pi) - np.pi)
        shift = np.array(self.shifts[v % len(self.shifts)], np.float32)
        z = np.float32(self.z_start + self.feed * v / self.per_turn)
        return float(wrapped), float(z), (float(shift[0]), float(shift[1]), float(shift[2]))

    def ends(self, v: int) -> tuple[Array, Array]:
        """Focal spot and cells ``(rows, columns, 3)`` of a view in the patient's LPS, mm."""
        phi, z, (dphi, dz, drho) = self.view(v)
        spot = phi + dphi
        away = self.radius + drho
        source = np.array([-away * np.sin(spot), away * np.cos(spot), z + dz])
        j = np.arange(1, self.columns + 1) - self.central[0]
        i = np.arange(1, self.rows + 1) - self.central[1]
        d, distance = float(np.float32(self.column_spacing)), float(np.float32(self.distance))
        if self.shape == "CYLINDRICAL":
            x, depth = distance * np.sin(j * d / distance), distance * np.cos(j * d / distance)
        else:
            x, depth = j * d, np.full(self.columns, distance)
        at_noon = np.stack([x, self.radius - depth])
        turn = np.array([[np.cos(phi), -np.sin(phi)], [np.sin(phi), np.cos(phi)]])
        cells = np.empty((self.rows, self.columns, 3))
        cells[..., :2] = (turn @ at_noon).T
        cells[..., 2] = (z - i * float(np.float32(self.row_spacing)))[:, None]
        axes = self.patient()
        return axes @ source, cells @ axes.T


def through(starts: Array, ends: Array, shift: tuple[float, float, float] = (0, 0, 0)) -> Array:
    """Line integrals of the Gaussians, moved by ``-shift``, along lines between two points."""
    along = ends - starts
    along = along / np.linalg.norm(along, axis=-1, keepdims=True)
    total = np.zeros(ends.shape[:-1])
    for center, deviation, mu in BLOBS:
        to = np.array(center) - np.array(shift) - starts
        off = to - (to * along).sum(-1, keepdims=True) * along
        distance2 = (off**2).sum(-1)
        total += mu * deviation * np.sqrt(2 * np.pi) * np.exp(-distance2 / (2 * deviation**2))
    return total


def density(points: Array) -> Array:
    """Attenuation of the Gaussians at points of the patient's LPS, 1/mm."""
    parts = (
        mu * np.exp(-((points - np.array(center)) ** 2).sum(-1) / (2 * deviation**2))
        for center, deviation, mu in BLOBS
    )
    return np.asarray(sum(parts))


def write_scan(
    folder: Path,
    scan: PdScan | None = None,
    edit: Callable[[FileDataset, int], Any] = lambda ds, v: None,
    *,
    explicit: bool = False,
    direct: bool = False,
) -> Path:
    """Write a folder of views; ``edit`` may change each dataset before it is saved.

    ``explicit`` writes the private attributes with their representation, ``direct`` the pixels
    along rows (the public library has them along columns).
    """
    scan = scan or PdScan()
    folder.mkdir()
    series, study = generate_uid(), generate_uid()
    for v in range(scan.views):
        ds = _dataset(scan, v, explicit)
        ds.SeriesInstanceUID, ds.StudyInstanceUID = series, study
        source, cells = scan.ends(v)
        values = through(source, cells)
        _store(ds, values if direct else values.T)
        edit(ds, v)
        # Names say nothing about the order.
        ds.save_as(folder / f"{(v * 37) % scan.views:05d}.dcm", enforce_file_format=True)
    return folder


def _store(ds: FileDataset, values: Array) -> None:
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 0, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.RescaleSlope, ds.RescaleIntercept = "6.1036087586E-5", "-0.01"
    stored = np.rint((values + 0.01) / 6.1036087586e-5)
    assert 0 <= stored.min() <= stored.max() <= 65535
    ds.PixelData = stored.astype("<u2").tobytes()


def _dataset(scan: PdScan, v: int, explicit: bool) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, generate_uid()
    ds.Modality, ds.Manufacturer, ds.InstanceNumber = "CT", scan.maker, str(v + 1)
    ds.PatientName, ds.PatientID, ds.KVP = "Canary^Tweety", "7", "100"
    ds.PatientPosition, ds.FrameOfReferenceUID = scan.position, "1.2.3.4"
    phi, z, (dphi, dz, drho) = scan.view(v)
    private(ds, 0x70291010, "US", scan.rows)
    private(ds, 0x70291011, "US", scan.columns)
    private(ds, 0x70291002, "FL", scan.column_spacing)
    private(ds, 0x70291006, "FL", scan.row_spacing)
    private(ds, 0x7029100B, "CS", scan.shape)
    private(ds, 0x70311001, "FL", phi)
    private(ds, 0x70311002, "FL", z)
    private(ds, 0x70311003, "FL", scan.radius)
    private(ds, 0x70311031, "FL", scan.distance)
    private(ds, 0x70311033, "FL", *scan.central)
    private(ds, 0x7033100B, "FL", dphi)
    private(ds, 0x7033100C, "FL", dz)
    private(ds, 0x7033100D, "FL", drho)
    private(ds, 0x7033100E, "CS", scan.mode)
    private(ds, 0x70331013, "US", scan.per_turn)
    private(ds, 0x70331061, "US", 1)
    private(ds, 0x70331065, "FL", *(1000.0 * (v + 1) + np.arange(scan.columns)))
    private(ds, 0x7037100A, "CS", "FANBEAM")
    private(ds, 0x70391009, "CS", "YES")
    private(ds, 0x70411001, "DS", "0.0192")
    return ds


def private(ds: FileDataset, tag: int, vr: str, *values: Any) -> None:
    """Set a private attribute: as UN bytes in implicit files, with its representation else."""
    if tag in ds:
        del ds[tag]
    if ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian:
        ds.add_new(tag, vr, list(values) if len(values) > 1 else values[0])
    elif vr in ("CS", "DS"):
        ds.add_new(tag, "UN", str(values[0]).encode().ljust(len(str(values[0])) + 1 & ~1))
    else:
        code = {"FL": "f", "US": "H"}[vr]
        ds.add_new(tag, "UN", struct.pack(f"<{len(values)}{code}", *values))
