"""What raw MR files hold, in one vocabulary: MRD and twix readers translate into it.

Everything that is done to readouts (filtering, sorting, averaging, whitening, phase correction,
regridding, cropping, placing in the patient) is done to these values, once, in this room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medrecon.grid import Triple
from medrecon.raw.slices import SlicePose
from medrecon.study import Identity

Complex = NDArray[np.complex64]
Trajectory = Literal["cartesian", "epi", "radial", "spiral", "other"]

MAX_MATRIX = 4096
"""Largest encoded matrix along any axis."""

MAX_BYTES = 16 * 2**30
"""Largest k-space that is sorted in memory."""


@dataclass(frozen=True, kw_only=True)
class Trapezoid:
    """Readout gradient of an EPI echo that is sampled on its ramps; times in us.

    Parameters
    ----------
    ramp_up, flat_top, ramp_down
        Durations of the gradient's parts.
    delay
        Start of the first sample after the start of the ramp.
    dwell
        Time between samples.
    """

    ramp_up: float
    flat_top: float
    ramp_down: float
    delay: float
    dwell: float


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What the header says about one encoded k-space; all triples are ``(z, y, x)``.

    Parameters
    ----------
    matrix
        Samples of the encoded k-space.
    fov
        Encoded field of view, mm. Along z of slice-wise encoding: the slice thickness.
    readout_fov
        Field of view along x that is kept after the readout's oversampling is taken off, mm.
    center
        Counter of the k-space centre along z and y.
    is_3d
        Whether z is encoded.
    trajectory
        How the readouts run.
    trapezoid
        Readout gradient of EPI with ramp sampling; ``None``: sampled evenly in k-space.
    acceleration
        What the header claims along z and y; 1 where it says nothing.
    recon_matrix, recon_fov
        The image that the header wants made, voxels and mm; ``None`` where it does not say.
    """

    matrix: tuple[int, int, int]
    fov: Triple
    readout_fov: float
    center: tuple[int, int]
    is_3d: bool
    trajectory: Trajectory = "cartesian"
    trapezoid: Trapezoid | None = None
    acceleration: tuple[float, float] = (1.0, 1.0)
    recon_matrix: tuple[int, int, int] | None = None
    recon_fov: Triple | None = None


@dataclass(frozen=True, kw_only=True)
class Readout:
    """One readout.

    Parameters
    ----------
    data
        Complex64, ``(coils, samples)``, in the order of acquisition.
    line, partition, slice
        Counters along y, z and over slices.
    center
        Sample at the centre of k-space, in the order of acquisition.
    pose
        Where its slice is.
    contrast, phase, repetition, set, average, segment
        The other counters.
    encoding
        Which of the scan's encodings.
    reverse
        Whether it ran from +k to -k.
    dwell
        Time per sample, us; 0 where not known.
    time
        When it was acquired, s; 0 where not known.
    trajectory
        float64 ``(samples, 2 or 3)``, last axis ``(ky, kx)`` or ``(kz, ky, kx)``, cycles per field
        of view of the encoded space; ``None`` for Cartesian readouts.
    """

    data: Complex
    line: int
    partition: int
    slice: int
    center: int
    pose: SlicePose
    contrast: int = 0
    phase: int = 0
    repetition: int = 0
    set: int = 0
    average: int = 0
    segment: int = 0
    encoding: int = 0
    reverse: bool = False
    dwell: float = 0.0
    time: float = 0.0
    trajectory: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class NoiseScan:
    """Readouts without signal.

    Parameters
    ----------
    data
        Complex64, ``(coils, samples)``, all readouts end to end.
    dwell, imaging_dwell
        Time per sample of the noise scan and of the imaging readouts, the same unit; 0: unknown.
    relative_bandwidth
        Effective over nominal noise bandwidth of the receiver.
    readouts
        How many readouts that were, for the record; 0: not known.
    """

    data: Complex
    dwell: float = 0.0
    imaging_dwell: float = 0.0
    relative_bandwidth: float = 1.0
    readouts: int = 0


@dataclass(frozen=True, kw_only=True)
class RawScan:
    """All that a reader found in a file.

    Parameters
    ----------
    encodings
        The encoded spaces that readouts refer to.
    readouts
        Those that make images (calibration lines embedded in an image among them).
    path
        The file.
    calibration
        Readouts of a separate calibration scan.
    navigators
        Readouts for phase correction (EPI's three lines), in the order of acquisition.
    ignored
        How many readouts of which kind were left out, by name, for the record.
    noise
        Readouts without signal; ``None`` where none were measured.
    identity
        Of whom.
    noise_std
        Root of ``E|n|^2`` where the file itself says it.
    reference
        The truth, where the file holds it.
    facts
        What else the header says that a user wants to see, plain values, never of whom. The lists
        ``echo_times_ms, repetition_times_ms, inversion_times_ms, flip_angles_deg`` (per contrast,
        or one for all) go into the identity of every image.
    """

    encodings: tuple[Encoding, ...]
    readouts: Sequence[Readout]
    path: Path
    calibration: Sequence[Readout] = ()
    navigators: Sequence[Readout] = ()
    ignored: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    noise: NoiseScan | None = None
    identity: Identity = field(default_factory=Identity)
    noise_std: float | None = None
    reference: Tensor | None = None
    facts: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
