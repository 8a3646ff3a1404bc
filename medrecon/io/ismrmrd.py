"""Read and write MRD (ISMRMRD) raw data, the vendor-neutral format of MR scanners.

Only Cartesian scans of one image: no second contrast, repetition, phase or set. Slices are placed
by their positions (see :mod:`medrecon.raw.slices`), readout oversampling is taken off, averages
are averaged, and coils are whitened where the file holds a noise scan.

References
----------
Inati et al., ISMRM Raw data format: a proposed standard for MRI raw datasets, Magn Reson Med 77
(2017), doi:10.1002/mrm.26089.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import ismrmrd
import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import Cartesian
from medrecon.io.hdf5 import list_members, open_hdf5, read_dataset
from medrecon.io.mrd_header import (
    NOISE_STD,
    calibration_is_embedded,
    encoding_of,
    identity_of,
    parse_header,
    relative_noise_bandwidth,
    user_parameter,
)
from medrecon.io.mrd_write import MASK, REFERENCE, write_ismrmrd
from medrecon.raw.assemble import assemble
from medrecon.raw.scan import Encoding, NoiseScan, RawScan, Readout
from medrecon.raw.slices import SlicePose
from medrecon.study import Study

_NOT_IMAGING = (
    ismrmrd.ACQ_IS_NAVIGATION_DATA,
    ismrmrd.ACQ_IS_PHASECORR_DATA,
    ismrmrd.ACQ_IS_HPFEEDBACK_DATA,
    ismrmrd.ACQ_IS_RTFEEDBACK_DATA,
    ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
    ismrmrd.ACQ_IS_SURFACECOILCORRECTIONSCAN_DATA,
    ismrmrd.ACQ_IS_PHASE_STABILIZATION,
    ismrmrd.ACQ_IS_PHASE_STABILIZATION_REFERENCE,
)
_DIRECTIONS = ("slice_dir", "phase_dir", "read_dir")
_SINGLE = ("contrast", "phase", "repetition", "set")


def read_ismrmrd(path: Path) -> Study:
    """Read an MRD file.

    Parameters
    ----------
    path
        HDF5 file with a group (usually ``dataset``) that holds ``xml`` and ``data``.

    Returns
    -------
    Study
        Centred k-space ``(z, coils, y, x)`` or, for 3D encoding, ``(coils, z, y, x)``.

    Raises
    ------
    UnreadableError
        If the file is no MRD file or is damaged.
    InconsistentError
        If header and readouts do not fit each other, or the scan is not of the kind above.

    Warns
    -----
    UserWarning
        Where directions or positions are missing and have to be assumed, a dead coil is left out,
        or a spike is seen.
    """
    with open_hdf5(path) as file:
        group = _scan_group(file, path)
        header = parse_header(_xml(file, group, path), path)
        table = read_dataset(file, f"{group}/data")
        reference = _own(file, f"{group}/{REFERENCE}")
        mask = _own(file, f"{group}/{MASK}")
    head, data = _columns(table, path)
    imaging = _imaging(head, header, path)
    encoding = encoding_of(header, _only(head, imaging, "encoding_space_ref", path), path)
    for counter in _SINGLE:
        _only(head["idx"], imaging, counter, path)
    scan = RawScan(
        encodings=(encoding,),
        readouts=[_readout(head, data, i, encoding, path) for i in imaging],
        path=path,
        noise=_noise(head, data, imaging, relative_noise_bandwidth(header), path),
        identity=identity_of(header),
        noise_std=user_parameter(header, NOISE_STD),
        reference=None if reference is None else torch.from_numpy(reference.astype(np.float32)),
    )
    study = assemble(scan)
    return study if mask is None else _with_mask(study, mask.astype(bool), path)


def _with_mask(study: Study, mask: NDArray[np.bool_], path: Path) -> Study:
    """Put the true mask in place where it does not consist of whole readouts."""
    geometry = study.geometry
    if not isinstance(geometry, Cartesian) or mask.shape != geometry.mask.shape:
        raise InconsistentError(
            f"{path}: the mask has shape {mask.shape}, the k-space "
            f"{tuple(study.measurements.shape)}."
        )
    kspace = study.measurements * torch.from_numpy(mask)
    return replace(study, measurements=kspace, geometry=Cartesian(mask=mask))


def _scan_group(file: Any, path: Path) -> str:
    groups = [
        name
        for name, member in file.items()
        if isinstance(member, h5py.Group) and "xml" in member and "data" in member
    ]
    if "dataset" in groups:
        return "dataset"
    if len(groups) != 1:
        found = "no group" if not groups else "several groups, none of them called 'dataset',"
        raise UnreadableError(
            f"{path} has {found} with MRD 'xml' and 'data'; it holds {list_members(file)}."
        )
    return str(groups[0])


def _xml(file: Any, group: str, path: Path) -> bytes | str:
    xml = read_dataset(file, f"{group}/xml").reshape(-1)
    if len(xml) != 1 or not isinstance(xml[0], (bytes, str)):
        raise UnreadableError(f"{path}: the MRD header is not one piece of text.")
    text: bytes | str = xml[0]
    return text


def _columns(table: NDArray[Any], path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    names = table.dtype.names or ()
    if "head" not in names or "data" not in names:
        raise UnreadableError(f"{path}: 'data' is not a table of MRD acquisitions.")
    head = table["head"]
    missing = {"flags", "idx", "position", "number_of_samples"} - set(head.dtype.names or ())
    if missing:
        raise UnreadableError(f"{path}: the acquisition headers lack {sorted(missing)}.")
    return head, table["data"]


def _has(head: NDArray[Any], *flags: int) -> NDArray[np.bool_]:
    """Which acquisitions carry any of the flags (MRD counts bits from 1)."""
    bits = np.uint64(sum(1 << (flag - 1) for flag in flags))
    found: NDArray[np.bool_] = (head["flags"].astype(np.uint64) & bits) != 0
    return found


def _imaging(head: NDArray[Any], header: Any, path: Path) -> NDArray[np.intp]:
    """Find the readouts that make the image."""
    imaging = ~_has(head, ismrmrd.ACQ_IS_NOISE_MEASUREMENT, *_NOT_IMAGING)
    calibration = _has(head, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
    calibration &= ~_has(head, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    references = np.minimum(head["encoding_space_ref"], len(header.encoding) - 1)
    embedded = [calibration_is_embedded(header, i) for i in range(len(header.encoding))]
    imaging &= ~calibration | np.array(embedded)[references]
    if not imaging.any():
        raise InconsistentError(
            f"{path} holds no imaging data: {len(head)} acquisitions, all of them noise, "
            "navigator or other scans."
        )
    reverse = _has(head, ismrmrd.ACQ_IS_REVERSE)[imaging]
    if reverse.any() and not reverse.all():
        raise InconsistentError(
            f"{path}: {int(reverse.sum())} of {len(reverse)} readouts run backwards (EPI or "
            "bipolar echoes); they need a phase correction first, which is not done here."
        )
    return np.flatnonzero(imaging)


def _only(head: NDArray[Any], imaging: NDArray[np.intp], counter: str, path: Path) -> int:
    found = np.unique(head[counter][imaging])
    if len(found) > 1:
        raise InconsistentError(
            f"{path} holds {len(found)} values of '{counter}' ({found[:6].tolist()}); split the "
            "file, one image is reconstructed at a time."
        )
    return int(found[0])


def _samples(head: NDArray[Any], data: NDArray[Any], i: int, path: Path) -> NDArray[np.complex64]:
    """Complex ``(coils, samples)`` of one acquisition, without the discarded ends."""
    coils, samples = int(head["active_channels"][i]), int(head["number_of_samples"][i])
    values = np.ascontiguousarray(data[i], dtype=np.float32)
    if coils < 1 or values.size != 2 * coils * samples:
        raise InconsistentError(
            f"{path}: acquisition {i} says {coils} coils x {samples} samples, but holds "
            f"{values.size / 2:g} complex numbers."
        )
    first = int(head["discard_pre"][i])
    last = samples - int(head["discard_post"][i])
    if first >= last:
        raise InconsistentError(f"{path}: acquisition {i} discards all of its {samples} samples.")
    return values.view(np.complex64).reshape(coils, samples)[:, first:last]


def _readout(
    head: NDArray[Any], data: NDArray[Any], i: int, encoding: Encoding, path: Path
) -> Readout:
    samples = _samples(head, data, i, path)
    center = int(head["center_sample"][i]) - int(head["discard_pre"][i])
    if head["center_sample"][i] == 0 and samples.shape[1] == encoding.matrix[2]:
        center = encoding.matrix[2] // 2  # converters write 0 where they do not know
    if _has(head[i : i + 1], ismrmrd.ACQ_IS_REVERSE)[0]:
        samples, center = samples[:, ::-1], samples.shape[1] - 1 - center
    idx = head["idx"][i]
    return Readout(
        data=samples,
        line=int(idx["kspace_encode_step_1"]),
        partition=int(idx["kspace_encode_step_2"]),
        slice=int(idx["slice"]),
        center=center,
        pose=SlicePose(*(head[name][i].astype(np.float64) for name in ("position", *_DIRECTIONS))),
    )


def _noise(
    head: NDArray[Any],
    data: NDArray[Any],
    imaging: NDArray[np.intp],
    relative_bandwidth: float,
    path: Path,
) -> NoiseScan | None:
    scans = np.flatnonzero(_has(head, ismrmrd.ACQ_IS_NOISE_MEASUREMENT))
    if not len(scans):
        return None
    readouts = [_samples(head, data, int(i), path) for i in scans]
    if len({len(readout) for readout in readouts}) > 1:
        raise InconsistentError(f"{path}: the noise scans have different numbers of coils.")
    return NoiseScan(
        data=np.concatenate(readouts, axis=1),
        dwell=float(head["sample_time_us"][scans[0]]),
        imaging_dwell=float(head["sample_time_us"][imaging[0]]),
        relative_bandwidth=relative_bandwidth,
    )


def _own(file: Any, name: str) -> NDArray[Any] | None:
    """Dataset that only files of this package hold; see :mod:`medrecon.io.mrd_write`."""
    return read_dataset(file, name) if isinstance(file.get(name), h5py.Dataset) else None


__all__ = ["read_ismrmrd", "write_ismrmrd"]
