"""One acquisition: what was measured, how, where, and of whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from medrecon.geometry import CTGeometry, MRGeometry
from medrecon.grid import Grid, Triple


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a DICOM series needs to know of the patient and the study; empty where unknown.

    Parameters
    ----------
    attributes
        DICOM keyword to value, e.g. ``{"PatientID": "7", "StudyDate": "20260101"}``, copied from
        the header donor or the raw file. Never written to logs, reports or file names.
    frame_of_reference_uid
        The frame in which the grid's coordinates are meant, or ``""``.
    simulated
        True where the measurements were computed, not measured.
    """

    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    frame_of_reference_uid: str = ""
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class Study:
    """One acquisition, ready for reconstruction.

    Parameters
    ----------
    measurements
        CT: line integrals (dimensionless), float32, ``(z, views, columns)`` for geometries of
        slices, ``(views, rows, columns)`` for those of a detector with rows.
        MR: centred k-space, complex64, ``(z, coils, y, x)`` for 2D or ``(coils, z, y, x)`` for 3D
        encoding, zero where not sampled, coils prewhitened where the noise was measured; along a
        trajectory as :class:`~medrecon.geometry.NonCartesian` says.
    geometry
        How it was measured.
    grid
        The volume to reconstruct; ``None`` where the protocol has to say it (most CT raw data).
    weights
        Inverse variance of every measurement, broadcastable to ``measurements``. CT: the number
        of detected quanta. ``None``: all alike.
    noise_std
        Deviation of the measurements' noise where ``weights`` is 1; for complex data the root of
        E|n|^2. ``None``: not known, to be estimated.
    identity
        Patient and study attributes for the DICOM header.
    source
        The file it came from.
    isocenter
        LPS position in mm of the scanner's origin: the middle of its source's circle (CT).  The
        volume's grid is meant in the scanner's frame and lies at its place plus ``isocenter``.
    reference
        The truth, where the study was simulated or is retrospectively undersampled, as a real
        tensor ``(z, y, x)`` in HU (CT) or arbitrary unit (MR); ``None`` otherwise.
    reference_phase
        MR: the truth's phase in rad, where it is known, of the shape of ``reference``.
    mu_water
        CT: attenuation of water in 1/mm that the scanner states for its spectrum; the protocol's
        value serves where it is ``None``.
    label
        Which image of its file this is, e.g. ``"contrast-2_repetition-1"`` (counted from 1): what
        differs between the images of the file; empty where it holds one. Safe as a file name.
    calibration
        MR: k-space of a separate calibration scan, centred, whitened as the measurements, of their
        layout on the Cartesian grid of the image, zero where not measured; ``None`` where the
        measurements themselves hold the calibration.
    maps
        MR: coil sensitivities given with the data, ``(z, coils, y, x)`` for slice-wise,
        ``(coils, z, y, x)`` for 3D encoding, with a leading axis of map sets where there are
        several; ``None``: to be estimated.
    facts
        What the reader saw of the acquisition and did to it (noise scan, oversampling removed,
        averages, navigators left out ...), for ``info`` and the record: plain values for JSON,
        never of whom.
    """

    measurements: Tensor
    geometry: CTGeometry | MRGeometry
    grid: Grid | None
    weights: Tensor | None = None
    noise_std: float | None = None
    identity: Identity = field(default_factory=Identity)
    source: Path | None = None
    isocenter: Triple = (0.0, 0.0, 0.0)
    reference: Tensor | None = None
    reference_phase: Tensor | None = None
    mu_water: float | None = None
    label: str = ""
    calibration: Tensor | None = None
    maps: Tensor | None = None
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def modality(self) -> str:
        """``"CT"`` or ``"MR"``."""
        return "MR" if isinstance(self.geometry, MRGeometry) else "CT"
