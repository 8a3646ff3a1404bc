"""Write an MR study as an MRD (ISMRMRD) file that any MRD reader can take.

Beside the standard's header and acquisitions the file may hold two datasets of our own:
``reference``, the truth of a simulated scan, and ``mask``, where readouts are not measured whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
from ismrmrd import xsd
from ismrmrd.hdf5 import acquisition_dtype
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import Cartesian
from medrecon.grid import Grid
from medrecon.io.mrd_header import NOISE_STD, SIMULATED
from medrecon.io.outputs import whole_file
from medrecon.raw.slices import slice_center
from medrecon.study import Study

REFERENCE = "reference"
MASK = "mask"
_PROTON_HZ = 127_740_000  # at 3 T; the standard wants a number, nothing here depends on it
_VERSION = 1


def write_ismrmrd(path: Path, study: Study) -> None:
    """Write a Cartesian study, whole or not at all.

    Parameters
    ----------
    path
        Output file; replaced if it is there.
    study
        MR study with a grid. Weights are not written.

    Raises
    ------
    InconsistentError
        If the study is not Cartesian MR, or has no grid.
    OutputError
        If the file cannot be written.
    """
    geometry, grid = study.geometry, study.grid
    if not isinstance(geometry, Cartesian) or grid is None:
        raise InconsistentError("Only Cartesian MR studies with a grid can be written as MRD.")
    lines: NDArray[np.bool_] = np.asarray(geometry.mask.any(axis=-1))
    with whole_file(path) as part, h5py.File(part, "w") as file:
        group = file.create_group("dataset")
        text = xsd.ToXML(_header(study, geometry, grid)).encode()
        group.create_dataset("xml", data=np.array([text], dtype=object), dtype=h5py.string_dtype())
        group.create_dataset("data", data=_table(study, geometry, grid, lines))
        if study.reference is not None:
            group.create_dataset(REFERENCE, data=study.reference.cpu().numpy())
        if not np.array_equal(
            geometry.mask, np.broadcast_to(lines[..., None], geometry.mask.shape)
        ):
            group.create_dataset(MASK, data=geometry.mask.astype(np.uint8))


def _header(study: Study, geometry: Cartesian, grid: Grid) -> xsd.ismrmrdHeader:
    z, y, x = grid.shape
    dz, dy, dx = grid.spacing
    deep = geometry.is_3d
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=x, y=y, z=z if deep else 1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=x * dx, y=y * dy, z=z * dz if deep else dz),
    )
    limits = xsd.encodingLimitsType(
        kspace_encoding_step_1=xsd.limitType(minimum=0, maximum=y - 1, center=y // 2),
        kspace_encoding_step_2=xsd.limitType(
            minimum=0, maximum=z - 1 if deep else 0, center=z // 2 if deep else 0
        ),
        slice=xsd.limitType(minimum=0, maximum=0 if deep else z - 1, center=0),
    )
    return xsd.ismrmrdHeader(
        version=_VERSION,
        subjectInformation=_subject(study),
        studyInformation=_study(study),
        measurementInformation=_measurement(study),
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=_PROTON_HZ),
        encoding=[
            xsd.encodingType(
                encodedSpace=space,
                reconSpace=space,
                encodingLimits=limits,
                trajectory=xsd.trajectoryType.CARTESIAN,
            )
        ],
        userParameters=xsd.userParametersType(userParameterDouble=list(_parameters(study))),
    )


def _subject(study: Study) -> xsd.subjectInformationType:
    attributes = study.identity.attributes
    return xsd.subjectInformationType(
        patientName=attributes.get("PatientName"), patientID=attributes.get("PatientID")
    )


def _study(study: Study) -> xsd.studyInformationType:
    attributes = study.identity.attributes
    return xsd.studyInformationType(
        studyInstanceUID=attributes.get("StudyInstanceUID"),
        studyID=attributes.get("StudyID"),
        studyDescription=attributes.get("StudyDescription"),
        accessionNumber=attributes.get("AccessionNumber"),
    )


def _measurement(study: Study) -> xsd.measurementInformationType | None:
    known = {position.value for position in xsd.patientPositionType}
    position = study.identity.attributes.get("PatientPosition", "")
    if not position and not study.identity.frame_of_reference_uid:
        return None  # the standard wants a position here, and none is known
    return xsd.measurementInformationType(
        patientPosition=xsd.patientPositionType(position if position in known else "HFS"),
        frameOfReferenceUID=study.identity.frame_of_reference_uid or None,
    )


def _parameters(study: Study) -> Iterator[xsd.userParameterDoubleType]:
    if study.identity.simulated:
        yield xsd.userParameterDoubleType(name=SIMULATED, value=1.0)
    if study.noise_std is not None:
        yield xsd.userParameterDoubleType(name=NOISE_STD, value=study.noise_std)


def _table(
    study: Study, geometry: Cartesian, grid: Grid, lines: NDArray[np.bool_]
) -> NDArray[np.void]:
    """One row per slice (or partition) and measured line."""
    kspace = study.measurements.detach().cpu().numpy().astype(np.complex64)
    if geometry.is_3d:
        kspace = kspace.swapaxes(0, 1)  # (partition, coils, y, x)
        where = np.argwhere(lines)
    else:
        where = np.argwhere(np.broadcast_to(lines, (len(kspace), *lines.shape)))
    table = np.zeros(len(where), dtype=acquisition_dtype)
    head = table["head"]
    head["version"] = _VERSION
    head["scan_counter"] = np.arange(len(where))
    head["number_of_samples"] = grid.shape[2]
    head["available_channels"] = head["active_channels"] = kspace.shape[1]
    head["center_sample"] = grid.shape[2] // 2
    head["idx"]["kspace_encode_step_1"] = where[:, 1]
    head["idx"]["kspace_encode_step_2" if geometry.is_3d else "slice"] = where[:, 0]
    for name, axis in zip(("slice_dir", "phase_dir", "read_dir"), grid.directions, strict=True):
        head[name] = axis
    # the position of a slab is its middle; of a slice, its own
    planes = [grid.shape[0] // 2] * grid.shape[0] if geometry.is_3d else range(grid.shape[0])
    head["position"] = np.stack([slice_center(grid, plane) for plane in planes])[where[:, 0]]
    head["flags"][-1] = 1 << (ismrmrd.ACQ_LAST_IN_MEASUREMENT - 1)
    empty = np.zeros(0, dtype=np.float32)
    for row, (plane, line) in enumerate(where):
        samples = np.ascontiguousarray(kspace[plane, :, line])
        table["data"][row] = samples.view(np.float32).reshape(-1)
        table["traj"][row] = empty
    return table
