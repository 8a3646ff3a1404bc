"""Read fastMRI files: Cartesian k-space of knees, brains, prostates and breasts, and all like them.

In the file rows are the readout (with its twofold oversampling) and columns the phase encoding;
the published targets are the root of the sum of squares of the centred orthonormal inverse FFT,
cropped to the middle. Here x is the readout, so rows and columns are exchanged, and nothing is
turned or mirrored beside that. The oversampling is taken off; along y the whole encoded field of
view is kept, because an undersampled scan cannot be cropped there.

References
----------
Zbontar et al., fastMRI: an open dataset and benchmarks for accelerated MRI, arXiv:1811.08839.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry.kspace import crop_or_pad, image_to_kspace, kspace_to_image
from medrecon.grid import Grid
from medrecon.io.hdf5 import open_hdf5, read_dataset
from medrecon.io.kspace_study import KspaceArray
from medrecon.io.mrd_header import parse_header
from medrecon.io.mrd_identity import identity_of
from medrecon.raw.plausible import Complex, require_finite
from medrecon.study import Identity, Study

_TARGETS = {4: ("reconstruction_rss",), 3: ("reconstruction_esc",)}
_AGREES = 0.02  # of the target's norm: between its rounding and another image


@dataclass(frozen=True)
class _Header:
    """What the MRD header says, in the file's axes ``(rows, columns)``; mm, ``(z, y, x)``."""

    thickness: float
    fov: tuple[float, float]
    readout_fov: float
    measured: slice
    identity: Identity


def is_fastmri(file: Any) -> bool:
    """Whether an open HDF5 file has the layout: ``kspace`` at its root."""
    return isinstance(file.get("kspace"), h5py.Dataset)


def read_fastmri(path: Path) -> tuple[Study, ...]:
    """Read a multi-coil or single-coil file, with or without target.

    Parameters
    ----------
    path
        HDF5 file with ``kspace`` ``(slices, [coils,] rows, columns)`` and, where they are there,
        ``ismrmrd_header``, ``mask`` (columns) and the target ``reconstruction_rss`` or
        ``reconstruction_esc``.

    Returns
    -------
    tuple of Study
        One, slice-wise ``(z, coils, y, x)``. Its ``reference`` is the root sum of squares over
        the whole field of view where the scan is fully sampled, equal to the published target
        inside the target's crop; ``None`` for undersampled scans.

    Raises
    ------
    UnreadableError
        If the file is damaged, or its header is no MRD header.
    InconsistentError
        If k-space is not complex or of other axes, the mask has another length, or samples are
        not finite.

    Warns
    -----
    UserWarning
        Always: the files do not say where in the patient the slices are. Also where header,
        target and data contradict each other.
    """
    with open_hdf5(path) as file:
        kspace = _kspace(file, path)
        header = _header(file, kspace.shape, path)
        lines = _mask(file, kspace.shape[-1], path)
        target_name, target = _target(file, kspace, path)
        attributes = dict(file.attrs)
    multicoil = kspace.ndim == 4
    kspace = kspace if multicoil else kspace[:, None]
    require_finite(kspace, path, "slice, coil, row, column")
    sampled = _sampled(kspace, lines, header, path)
    crop = target.shape[-2:] if target is not None else None
    pixel, kept = _pixel(header, kspace.shape, crop)
    y = _without_oversampling(kspace, kept)
    full = bool(sampled[header.measured if header else slice(None)].all())
    reference = _rss(y) if full else None
    facts = _facts(attributes, target_name, reference is not None, kept, kspace.shape)
    if target is not None and reference is not None:
        _compare(reference, target, path)
    thickness = header.thickness if header else 1.0
    shape = (y.shape[0], y.shape[2], y.shape[3])
    identity = header.identity if header else Identity()
    study = KspaceArray(
        kspace=y,
        is_3d=False,
        grid=Grid.centred(shape, (thickness, *pixel)),
        path=path,
        sampled=np.broadcast_to(sampled[:, None], shape[1:]),
        reference=reference,
        identity=identity,
        facts=facts,
    ).study()
    warnings.warn(
        f"{path}: fastMRI files do not say where the slices are"
        + ("" if header else ", nor how large they are (no ismrmrd_header)")
        + "; an axial stack around the isocentre"
        + ("" if header else " with voxels of 1 mm")
        + f", {thickness:g} mm from slice to slice, is assumed.",
        stacklevel=2,
    )
    return (study,)


def _kspace(file: Any, path: Path) -> NDArray[Any]:
    kspace = read_dataset(file, "kspace")
    if not np.iscomplexobj(kspace) or kspace.ndim not in (3, 4) or 0 in kspace.shape:
        raise InconsistentError(
            f"{path}: kspace has to be complex, (slices, coils, rows, columns) or (slices, rows, "
            f"columns); got {kspace.dtype} with shape {kspace.shape}."
        )
    return kspace


def _header(file: Any, shape: tuple[int, ...], path: Path) -> _Header | None:
    if not isinstance(file.get("ismrmrd_header"), h5py.Dataset):
        return None
    stored = read_dataset(file, "ismrmrd_header").reshape(-1)
    if len(stored) != 1 or not isinstance(stored[0], (bytes, str)):
        raise UnreadableError(f"{path}: ismrmrd_header is not one piece of text.")
    header = parse_header(stored[0], path)
    encoding = header.encoding[0]
    space, recon = encoding.encodedSpace, encoding.reconSpace or encoding.encodedSpace
    if space is None or space.matrixSize is None or space.fieldOfView_mm is None:
        raise UnreadableError(f"{path}: the MRD header has no complete encoded space.")
    fov = space.fieldOfView_mm
    lengths = (fov.z, fov.y, fov.x, recon.fieldOfView_mm.x)
    if not all(0 < float(length) < 10_000 for length in lengths):
        raise InconsistentError(
            f"{path}: the header's fields of view {tuple(map(float, lengths))} mm are impossible."
        )
    return _Header(
        thickness=float(fov.z),
        fov=(float(fov.y), float(fov.x)),
        readout_fov=float(recon.fieldOfView_mm.x),
        measured=_measured(encoding, shape[-1]),
        identity=identity_of(header),
    )


def _measured(encoding: Any, columns: int) -> slice:
    """Columns that were encoded at all; the others were filled with zeros."""
    limits = encoding.encodingLimits
    limit = limits.kspace_encoding_step_1 if limits is not None else None
    if limit is None or limit.maximum == 0:
        return slice(0, columns)
    first = columns // 2 - int(limit.center)
    return slice(max(0, first), min(columns, first + int(limit.maximum) + 1))


def _mask(file: Any, columns: int, path: Path) -> NDArray[np.bool_] | None:
    if "mask" not in file:
        return None
    mask = read_dataset(file, "mask")
    if mask.size != columns or mask.dtype.kind not in "biuf" or not mask.any():
        raise InconsistentError(
            f"{path}: mask has the shape {mask.shape} for {columns} columns of k-space, or holds "
            "no measured column; it is one number per column."
        )
    return np.asarray(mask.reshape(-1) != 0)


def _target(
    file: Any, kspace: NDArray[Any], path: Path
) -> tuple[str | None, NDArray[np.float32] | None]:
    for name in _TARGETS[kspace.ndim]:
        if name in file:
            target = read_dataset(file, name)
            fits = target.ndim == 3 and len(target) == len(kspace) and target.dtype.kind == "f"
            if not fits or target.shape[1] > kspace.shape[-2]:
                raise InconsistentError(
                    f"{path}: {name} has the shape {target.shape} ({target.dtype}), which does "
                    f"not fit k-space of shape {kspace.shape}."
                )
            return name, target.astype(np.float32)
    return None, None


def _sampled(
    kspace: NDArray[Any], lines: NDArray[np.bool_] | None, header: _Header | None, path: Path
) -> NDArray[np.bool_]:
    """Columns that were measured: in the mask, or, without one, not zero throughout."""
    filled: NDArray[np.bool_] = (kspace != 0).any(axis=(0, 1, 2))
    inside = np.zeros_like(filled)
    inside[header.measured if header else slice(None)] = True
    if (filled & ~inside).any():
        warnings.warn(
            f"{path}: {int((filled & ~inside).sum())} columns hold samples outside the encoding "
            "limits of the header; they are taken as measured.",
            stacklevel=3,
        )
    if lines is None:
        return filled
    if (filled & ~lines).any():
        warnings.warn(
            f"{path}: {int((filled & ~lines).sum())} columns hold samples although the mask "
            "leaves them out; the mask is followed.",
            stacklevel=3,
        )
    if lines.all():
        warnings.warn(f"{path}: the mask leaves nothing out: the scan is complete.", stacklevel=3)
    return lines & filled


def _pixel(
    header: _Header | None, shape: tuple[int, ...], crop: tuple[int, ...] | None
) -> tuple[tuple[float, float], int]:
    """Size of a pixel ``(y, x)`` in mm, and how many rows are left without oversampling."""
    rows, columns = shape[-2:]
    if header is None:
        return (1.0, 1.0), crop[0] if crop is not None else rows
    # zero filling changes the number of samples, not the field of view
    pixel = (header.fov[0] / columns, header.fov[1] / rows)
    return pixel, min(rows, round(rows * header.readout_fov / header.fov[1]))


def _without_oversampling(kspace: NDArray[Any], kept: int) -> Complex:
    """Exchange rows and columns, and crop the readout in the image, slice by slice."""
    slices, coils, _, columns = kspace.shape
    result: Complex = np.empty((slices, coils, columns, kept), dtype=np.complex64)
    for index, one in enumerate(kspace):
        y = torch.from_numpy(one.astype(np.complex64)).swapaxes(-1, -2)
        if kept < y.shape[-1]:
            y = image_to_kspace(crop_or_pad(kspace_to_image(y, (-1,)), kept, -1), (-1,))
        result[index] = y.numpy()
    return result


def _rss(kspace: Complex) -> NDArray[np.float32]:
    """Root sum of squares over the coils of the zero-filled images, ``(z, y, x)``."""
    slices = (kspace_to_image(torch.from_numpy(one), (-2, -1)) for one in kspace)
    stack = [image.abs().square().sum(0).sqrt().numpy() for image in slices]
    return np.stack(stack).astype(np.float32)


def _compare(reference: NDArray[np.float32], target: NDArray[np.float32], path: Path) -> None:
    """Warn where the published target is not what its k-space gives."""
    ours = torch.from_numpy(reference).swapaxes(-1, -2)
    for axis, size in ((-2, target.shape[-2]), (-1, target.shape[-1])):
        ours = crop_or_pad(ours, size, axis)
    norm = max(float(np.linalg.norm(target)), 1e-30)
    difference = float(np.linalg.norm(ours.numpy() - target)) / norm
    if difference > _AGREES:
        warnings.warn(
            f"{path}: the published target differs by {100 * difference:.1f} % from the root sum "
            "of squares of its k-space, which is the reference here.",
            stacklevel=3,
        )


def _facts(
    attributes: dict[str, Any],
    target: str | None,
    has_reference: bool,
    kept: int,
    shape: tuple[int, ...],
) -> dict[str, Any]:
    facts: dict[str, Any] = {"format": "fastMRI"}
    acquisition = attributes.get("acquisition")
    if isinstance(acquisition, bytes):
        acquisition = acquisition.decode("utf-8", "replace")
    if isinstance(acquisition, str):
        facts["acquisition"] = acquisition[:64]
    for name in ("max", "norm"):
        value = attributes.get(name)
        if isinstance(value, (int, float, np.number)) and np.isfinite(value):
            facts[f"target_{name}"] = float(value)
    if kept < shape[-2]:
        facts["readout_oversampling_removed"] = round(shape[-2] / kept, 3)
    facts["target"] = target or "none"
    if target and not has_reference:
        facts["target"] = f"{target}, of a part of the field of view: not used"
    return facts
