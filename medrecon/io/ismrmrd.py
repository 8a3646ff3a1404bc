"""Read and write MRD (ISMRMRD, version 1) raw data, the vendor-neutral format of MR scanners.

Cartesian, EPI and non-Cartesian scans, slice-wise and 3D, of any number of images: what a reader
must do with single readouts is done in :mod:`medrecon.raw`.

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

from medrecon.errors import MedreconError, UnreadableError
from medrecon.io.hdf5 import list_members, open_hdf5, read_dataset
from medrecon.io.mrd_acquisitions import Acquisitions
from medrecon.io.mrd_header import (
    NOISE_STD,
    calibration_is_embedded,
    encodings_of,
    parse_header,
    relative_noise_bandwidth,
    timing_of,
    user_parameter,
    user_text,
)
from medrecon.io.mrd_identity import identity_of
from medrecon.io.mrd_own import read_own, with_own
from medrecon.io.mrd_trajectory import UNIT, in_cycles_per_fov
from medrecon.io.mrd_write import write_ismrmrd
from medrecon.raw.assemble import assemble
from medrecon.raw.scan import Encoding, RawScan
from medrecon.study import Study


def read_ismrmrd(path: Path) -> tuple[Study, ...]:
    """Read an MRD file.

    Parameters
    ----------
    path
        HDF5 file with a group (usually ``dataset``) that holds ``xml`` and ``data``.

    Returns
    -------
    tuple of Study
        One per image: per contrast, repetition, phase, set, slab and stack of slices.

    Raises
    ------
    UnreadableError
        If the file is no MRD file or is damaged.
    InconsistentError
        If header and readouts do not fit each other.
    ResourceError
        If it does not fit into memory.

    Warns
    -----
    UserWarning
        Where directions or positions are missing and have to be assumed, a dead coil, a
        calibration scan or an incomplete image is left out, slices were cut short, the header
        claims another acceleration than was measured, or a spike is seen.
    """
    with open_hdf5(path) as file:
        group = _scan_group(file, path)
        header = parse_header(_xml(file, group, path), path)
        table = Acquisitions(read_dataset(file, f"{group}/data"), path)
        own = read_own(file, group)
    try:
        scan = _scan(header, table, path)
    except MedreconError:
        raise
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableError(
            f"{path}: the MRD file holds values of the wrong type ({what})."
        ) from error
    studies = assemble(scan)
    return tuple(with_own(study, own, path) for study in studies)


def _scan(header: Any, table: Acquisitions, path: Path) -> RawScan:
    count = len(header.encoding)
    kinds = table.kinds([calibration_is_embedded(header, i) for i in range(count)])
    encodings = tuple(
        _slice_wise(encoding) if table.is_flat_stack(i, kinds.imaging) else encoding
        for i, encoding in enumerate(encodings_of(header, path))
    )
    named = user_text(header, UNIT)
    raw = list(table.readouts(kinds.imaging, encodings))
    readouts, units = in_cycles_per_fov(raw, encodings, named, path)
    facts: dict[str, Any] = {"format": "MRD", **timing_of(header)}
    if units:
        facts["trajectory_unit"] = {
            "name": " and ".join(sorted(set(units.values()))),
            "known_by": "its user parameter" if named else "the largest position",
        }
    return RawScan(
        encodings=encodings,
        readouts=readouts,
        path=path,
        calibration=tuple(table.readouts(kinds.calibration, encodings)),
        navigators=tuple(table.readouts(kinds.navigators, encodings)),
        ignored=kinds.left_out,
        noise=table.noise(kinds.noise, kinds.imaging, relative_noise_bandwidth(header)),
        identity=identity_of(header),
        noise_std=user_parameter(header, NOISE_STD),
        facts=facts,
    )


def _slice_wise(encoding: Encoding) -> Encoding:
    """Undo a matrix that counts slices along z though none are encoded there."""
    if not encoding.is_3d:
        return encoding
    depth, height, width = encoding.matrix
    return replace(
        encoding,
        matrix=(1, height, width),
        fov=(encoding.fov[0] / depth, *encoding.fov[1:]),
        center=(0, encoding.center[1]),
        is_3d=False,
    )


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


__all__ = ["read_ismrmrd", "write_ismrmrd"]
