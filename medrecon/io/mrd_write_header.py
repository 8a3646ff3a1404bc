"""The XML header of the MRD files that this package writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ismrmrd import xsd

from medrecon.errors import InconsistentError
from medrecon.geometry import MRGeometry, NonCartesian
from medrecon.grid import Triple
from medrecon.io.mrd_header import NOISE_STD, SIMULATED
from medrecon.io.mrd_identity import put_identity
from medrecon.io.mrd_trajectory import CYCLES_PER_FOV, UNIT
from medrecon.study import Study

VERSION = 1
_PROTON_HZ = 127_740_000  # at 3 T; the standard wants a number, nothing here depends on it
_SEQUENCE = {
    "TR": "RepetitionTime",
    "TE": "EchoTime",
    "TI": "InversionTime",
    "flipAngle_deg": "FlipAngle",
}
_LIMITS = ("contrast", "phase", "repetition", "set")


@dataclass(frozen=True)
class Space:
    """An encoded space, which is the reconstructed one too.

    Parameters
    ----------
    matrix, fov
        Samples and mm, ``(z, y, x)``; slice-wise z: 1 and the distance of slices.
    slices
        How many slices; 1 where z is encoded.
    trajectory
        One of the standard's names.
    shots
        How many; 0 for Cartesian spaces.
    has_calibration
        Whether a calibration scan of its own goes with it.
    """

    matrix: tuple[int, int, int]
    fov: Triple
    slices: int
    trajectory: str
    shots: int
    has_calibration: bool


def space_of(study: Study) -> Space:
    """Make the encoded space of an MR study with a grid."""
    geometry, grid = study.geometry, study.grid
    if not isinstance(geometry, MRGeometry) or grid is None:
        raise InconsistentError("Only MR studies with a grid can be written as MRD.")
    z, y, x = grid.shape
    dz, dy, dx = grid.spacing
    kind = str(study.facts.get("trajectory", "other"))
    return Space(
        matrix=(z if geometry.is_3d else 1, y, x),
        fov=(z * dz if geometry.is_3d else dz, y * dy, x * dx),
        slices=1 if geometry.is_3d else z,
        trajectory=(kind if kind in ("radial", "spiral") else "other")
        if isinstance(geometry, NonCartesian)
        else "cartesian",
        shots=geometry.shots if isinstance(geometry, NonCartesian) else 0,
        has_calibration=study.calibration is not None,
    )


def calibration_space(study: Study) -> Space:
    """Make the encoded space of a study's calibration scan: its own, but on the Cartesian grid."""
    return replace(space_of(study), trajectory="cartesian", shots=0)


def header_of(
    studies: Sequence[Study],
    counters: Sequence[Mapping[str, int]],
    spaces: Sequence[Space],
    noise_std: float | None,
) -> xsd.ismrmrdHeader:
    """Header of a file that holds the studies.

    Parameters
    ----------
    studies
        At least one; patient and study are taken from the first.
    counters
        Of every study, from 1.
    spaces
        Encoded spaces in the order of their references.
    noise_std
        Of all studies, where it is the same.
    """
    first = studies[0]
    parameters = list(_parameters(first, noise_std))
    texts = [
        xsd.userParameterStringType(name=UNIT, value=CYCLES_PER_FOV)
        for _ in range(any(space.shots for space in spaces))
    ]
    header = xsd.ismrmrdHeader(
        version=VERSION,
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=_PROTON_HZ),
        encoding=[_encoding(space, counters) for space in spaces],
        sequenceParameters=_sequence(studies, counters),
        userParameters=xsd.userParametersType(
            userParameterDouble=parameters, userParameterString=texts
        ),
    )
    put_identity(header, first.identity)
    return header


def _encoding(space: Space, counters: Sequence[Mapping[str, int]]) -> xsd.encodingType:
    z, y, x = space.matrix
    fov_z, fov_y, fov_x = space.fov
    shape = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=x, y=y, z=z),
        fieldOfView_mm=xsd.fieldOfViewMm(x=fov_x, y=fov_y, z=fov_z),
    )
    lines = _limit(space.shots, 0) if space.shots else _limit(y, y // 2)
    limits = xsd.encodingLimitsType(
        kspace_encoding_step_1=lines,
        kspace_encoding_step_2=_limit(z, z // 2),
        slice=_limit(space.slices, 0),
    )
    for name in _LIMITS:
        setattr(limits, name, _limit(max(own.get(name, 1) for own in counters), 0))
    parallel = (
        xsd.parallelImagingType(
            accelerationFactor=xsd.accelerationFactorType(
                kspace_encoding_step_1=1, kspace_encoding_step_2=1
            ),
            calibrationMode=xsd.calibrationModeType.SEPARATE,
        )
        if space.has_calibration
        else None
    )
    return xsd.encodingType(
        encodedSpace=shape,
        reconSpace=shape,
        encodingLimits=limits,
        trajectory=xsd.trajectoryType(space.trajectory),
        parallelImaging=parallel,
    )


def _limit(size: int, center: int) -> xsd.limitType:
    return xsd.limitType(minimum=0, maximum=min(size - 1, 65_535), center=center)


def _sequence(
    studies: Sequence[Study], counters: Sequence[Mapping[str, int]]
) -> xsd.sequenceParametersType | None:
    """Collect the timing per contrast, where every contrast has it."""
    contrasts = max(own.get("contrast", 1) for own in counters)
    found: dict[str, list[float]] = {}
    for name, keyword in _SEQUENCE.items():
        values: dict[int, float] = {}
        for study, own in zip(studies, counters, strict=True):
            number = _number(study.identity.attributes.get(keyword, ""))
            if number is not None:
                values[own.get("contrast", 1)] = number
        if len(values) == contrasts:
            found[name] = [values[contrast] for contrast in sorted(values)]
    return xsd.sequenceParametersType(**found) if found else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parameters(study: Study, noise_std: float | None) -> Iterator[xsd.userParameterDoubleType]:
    if study.identity.simulated:
        yield xsd.userParameterDoubleType(name=SIMULATED, value=1.0)
    if noise_std is not None:
        yield xsd.userParameterDoubleType(name=NOISE_STD, value=noise_std)
