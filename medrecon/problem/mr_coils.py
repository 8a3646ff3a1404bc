"""The coils of an MR scan: compressed, and their sensitivities estimated or taken from a file."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrecon.calibration import given
from medrecon.calibration.coils import estimate_maps
from medrecon.calibration.region import calibration_region
from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.preprocessing.coil_compression import (
    Compression,
    geometric_compression,
    svd_compression,
)
from medrecon.protocol import CartesianScan, CoilMaps, Protocol
from medrecon.study import Study

DEFAULT_LINES = 24
_CENTRE = 12.0  # cycles per field of view: the middle of k-space along a trajectory


@dataclass(frozen=True, eq=False)
class Coils:
    """What images that were measured alike share.

    Parameters
    ----------
    maps
        Sensitivities, see :func:`medrecon.calibration.coils.estimate_maps`.
    facts
        How they were made: plain values for the record.
    """

    maps: Tensor
    facts: dict[str, Any]


def coil_maps(study: Study, geometry: MRGeometry, protocol: Protocol) -> Coils:
    """Take the maps of the protocol's file, or those given with the data, or estimate them.

    Parameters
    ----------
    study
        With coils compressed already and ``noise_std`` known.
    geometry
        Of the study.
    protocol
        Says how.

    Raises
    ------
    InconsistentError
        If given maps do not fit the data, or too few calibration lines were measured.
    """
    settings = protocol.coil_maps or CoilMaps()
    shape = image_shape(study)
    if study.maps is not None:
        return Coils(study.maps, {"method": "given"})
    maps = estimate_maps(
        study.measurements,
        geometry,
        shape,
        method=settings.method,
        sets=settings.sets,
        calibration_lines=_lines(settings, protocol),
        kernel=settings.kernel,
        noise_std=study.noise_std,
        crop=settings.crop,
        calibration=study.calibration,
    )
    return Coils(maps, {"method": settings.method, **calibration_facts(study, geometry)})


def image_shape(study: Study) -> tuple[int, int, int]:
    """Voxels of the image, ``(z, y, x)``.

    Raises
    ------
    InconsistentError
        If the study has no grid.
    """
    if study.grid is None:
        raise InconsistentError("The MR study has no grid: its header says no field of view.")
    return study.grid.shape


def check_maps(maps: Tensor, study: Study, geometry: MRGeometry) -> None:
    """Check that given maps have the study's coils and voxels, and values that can be.

    Raises
    ------
    InconsistentError
        Says which shape is expected.
    """
    shape = list(image_shape(study))
    shape.insert(geometry.coil_axis, study.measurements.shape[geometry.coil_axis])
    given.check_maps(maps, tuple(shape))


@dataclass(frozen=True, eq=False)
class Mixing:
    """How real coils become fewer virtual ones, for measurements, calibration data and maps alike.

    Parameters
    ----------
    compression
        The mixing matrices; ``None``: coils stay as they are.
    axis
        Coil axis of the measurements.
    facts
        What was done, for the record; ``None``: nothing.
    """

    compression: Compression | None
    axis: int
    facts: dict[str, Any] | None = None

    def __call__(self, study: Study) -> Study:
        """Mix all of a study that has coils."""
        mix = self.compression
        if mix is None:
            return study
        maps, calibration = study.maps, study.calibration
        return replace(
            study,
            measurements=mix.kspace(study.measurements, self.axis),
            calibration=None if calibration is None else mix.kspace(calibration, self.axis),
            maps=None if maps is None else mix.images(maps, maps.ndim - 4 + self.axis),
        )


def mixing_of(study: Study, geometry: MRGeometry, protocol: Protocol) -> Mixing:
    """Find the virtual coils of a scan, if the protocol asks for fewer than it has.

    Raises
    ------
    InconsistentError
        If virtual coils of their own are asked for at every position of a readout that was not
        measured whole.
    """
    settings, axis = protocol.coil_compression, geometry.coil_axis
    coils = study.measurements.shape[axis]
    if settings is None or settings.coils >= coils:
        return Mixing(None, axis)
    data = study.measurements if study.calibration is None else study.calibration
    if settings.method == "geometric":
        if not isinstance(geometry, Cartesian) or not _whole_readouts(geometry):
            raise InconsistentError(
                "Geometric coil compression needs whole readouts along x, and this scan leaves "
                "samples of them out; use coil_compression.method: svd."
            )
        compression = geometric_compression(data, settings.coils, axis)
    else:
        compression = svd_compression(data, settings.coils, axis)
    facts = {
        "method": settings.method,
        "coils": settings.coils,
        "of": coils,
        "energy_kept": round(compression.energy, 5),
    }
    return Mixing(compression, axis, facts)


def _whole_readouts(geometry: Cartesian) -> bool:
    return bool((geometry.mask.any(axis=-1) == geometry.mask.all(axis=-1)).all())


def calibration_facts(study: Study, geometry: MRGeometry) -> dict[str, Any]:
    """Say how much of k-space the maps rest on, and how well its coils can be told apart.

    The condition number is that of the calibration samples as a matrix of coils; null where coils
    are copies of each other.
    """
    samples, lines = _calibration(study, geometry)
    values = torch.linalg.eigvalsh((samples @ samples.mH).to(torch.complex128))
    low, high = float(values[0]), float(values[-1])
    condition = math.sqrt(high / low) if low > 1e-14 * high > 0 else None
    return {
        "calibration_lines": lines,
        "calibration": "separate scan" if study.calibration is not None else "of the scan itself",
        "condition_number": None if condition is None else round(condition, 2),
    }


def _calibration(study: Study, geometry: MRGeometry) -> tuple[Tensor, list[int]]:
    """Cut out the middle of k-space, ``(coils, samples)``, and count its lines along each axis."""
    if study.calibration is not None:
        data = study.calibration.movedim(geometry.coil_axis, 0)
        measured = (data != 0).any(dim=0)
        return data[:, measured], _extent(measured)
    data = study.measurements.movedim(geometry.coil_axis, 0)
    if isinstance(geometry, NonCartesian):
        middle = np.linalg.norm(geometry.trajectory, axis=-1) <= _CENTRE
        return data[..., torch.from_numpy(middle)].flatten(1), []
    mask = geometry.mask
    for axis in range(mask.ndim - geometry.encoded):  # what all slices have
        mask = np.asarray(mask.all(axis=axis))
    box = calibration_region(mask)
    for axis, lines in zip(range(-len(box), 0), box, strict=True):
        data = data.narrow(axis, lines.start, lines.stop - lines.start)
    return data.flatten(1), [s.stop - s.start for s in box]


def _extent(measured: Tensor) -> list[int]:
    found = torch.nonzero(measured)
    return [int(n) for n in (found.amax(0) - found.amin(0) + 1)[-2:]]


def _lines(settings: CoilMaps, protocol: Protocol) -> int:
    if settings.calibration_lines is not None:
        return settings.calibration_lines
    scan = protocol.acquisition
    return (scan.calibration_lines if isinstance(scan, CartesianScan) else 0) or DEFAULT_LINES
