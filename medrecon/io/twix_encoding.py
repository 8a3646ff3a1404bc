"""Encoded spaces of twix files, of what the protocol says and the readouts show."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.io import twix_protocol as protocol
from medrecon.io.twix_file import Measurement
from medrecon.raw.scan import Encoding

_CARTESIAN = 1
_TRAJECTORIES = {2: "radial", 4: "spiral", 8: "blade"}


def refuse_what_cannot_be_reconstructed(header: protocol.Header, path: Path) -> None:
    """Refuse trajectories that the file does not hold, and slices excited together.

    Raises
    ------
    InconsistentError
        Names what it is.
    """
    kind = protocol.flag(header["MeasYaps"]["sKSpace"].get("ucTrajectory", _CARTESIAN))
    if kind != _CARTESIAN:
        name = _TRAJECTORIES.get(kind, f"of the unknown kind {kind}")
        raise InconsistentError(
            f"{path}: the trajectory is {name}, and twix files do not hold its positions; convert "
            "the scan to ISMRMRD with its trajectory."
        )
    bands = protocol.multiband(header)
    if bands > 1:
        raise InconsistentError(
            f"{path}: {bands} slices were excited together (multi-band); their separation is not "
            "done here, so separate them first."
        )


def encoding_of(measurement: Measurement, imaging: NDArray[np.intp], path: Path) -> Encoding:
    """Describe the encoded space of the images.

    Parameters
    ----------
    measurement
        Protocol and readouts.
    imaging
        Which readouts make images.
    path
        The file, named in messages.

    Warns
    -----
    UserWarning
        Where the readouts do not fit into what the protocol announces.
    """
    header, table = measurement.header, measurement.table[imaging]
    k = header["MeasYaps"]["sKSpace"]
    field = header["MeasYaps"]["sSliceArray"]["asSlice"][0]
    cut = table["CutOff"]
    samples = int((table["SamplesInScan"] - cut["Pre"] - cut["Post"]).max())
    lines, partitions = (1 + int(table["Counter"][name].max()) for name in ("Lin", "Par"))
    is_3d = partitions > 1
    factor = protocol.oversampling(header)
    base = int(k["lBaseResolution"])
    width = round(base * factor)
    height = int(protocol.number(header["Meas"].get("iPEFTLength"), k["lPhaseEncodingLines"]))
    depth = int(k.get("lPartitions", 1)) if is_3d else 1
    trapezoid = protocol.trapezoid(header, int(table["SamplesInScan"][0]), int(cut["Pre"][0]))
    described = (samples <= width or trapezoid is not None) and lines <= height
    described = described and partitions <= depth
    if not described:
        warnings.warn(
            f"{path}: the header announces {height} lines of {width} samples, the file holds "
            f"{lines} lines of {samples}; the sizes are taken from the data and the field of view "
            "from the header, so check the voxel size.",
            stacklevel=2,
        )
        depth, height, width = max(depth, partitions), lines, samples
    more_z, more_y = protocol.phase_oversampling(header)
    thickness, fov_y, fov_x = (
        float(field[name]) for name in ("dThickness", "dPhaseFOV", "dReadoutFOV")
    )
    is_train = bool(measurement.has("REFLECT")[imaging].any()) and (
        protocol.number(header["MeasYaps"].get("sFastImaging", {}).get("lEPIFactor"), 1) > 1
    )
    return Encoding(
        matrix=(depth, height, width),
        fov=(thickness * (1 + more_z if is_3d else 1), fov_y * (1 + more_y), fov_x * factor),
        readout_fov=fov_x,
        center=(
            int(table["CenterPar"][0]) or depth // 2,
            int(table["CenterLin"][0]) or height // 2,
        ),
        is_3d=is_3d,
        trajectory="epi" if is_train or trapezoid is not None else "cartesian",
        trapezoid=trapezoid,
        acceleration=protocol.acceleration(header),
        recon_matrix=(depth, round(base * fov_y / fov_x), base) if described else None,
        recon_fov=(thickness, fov_y, fov_x) if described else None,
    )


def reference_encoding(
    measurement: Measurement, calibration: NDArray[np.intp], encoding: Encoding, samples: int
) -> Encoding | None:
    """Describe a reference scan with a matrix of its own; ``None`` where it is as the image's."""
    table = measurement.table[calibration]
    cut = table["CutOff"][0]
    own = int(table["SamplesInScan"][0] - cut["Pre"] - cut["Post"])
    as_train = bool(measurement.has("REFLECT")[calibration].any())
    if own == samples and (encoding.trajectory == "cartesian" or as_train):
        return None
    middle = (int(table["CenterCol"][0]) or own // 2) - int(cut["Pre"])
    size, center = {}, {}
    for name in ("Lin", "Par"):
        last = int(table["Counter"][name].max())
        center[name] = int(table[f"Center{name}"][0]) or (last + 1) // 2
        size[name] = 2 * max(center[name], last + 1 - center[name])
    return replace(
        encoding,
        matrix=(
            size["Par"] if encoding.is_3d else encoding.matrix[0],
            size["Lin"],
            2 * max(middle, own - middle),
        ),
        center=(center["Par"], center["Lin"]),
        trajectory="cartesian",
        trapezoid=None,
        acceleration=(1.0, 1.0),
        recon_matrix=None,
        recon_fov=None,
    )
