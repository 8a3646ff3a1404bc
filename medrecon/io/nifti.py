"""NIfTI in and out; the one place where LPS (inside) meets RAS (NIfTI).

NIfTI arrays are ``(i, j, k)`` with i fastest; ours are ``(z, y, x)`` with x fastest: the same bytes
with the axes named backwards.  Nothing is flipped: how the array lies in the patient is told by
``Grid.directions``.
"""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np
import torch
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from medrecon.errors import InconsistentError, OutputError, ResourceError, UnreadableError
from medrecon.grid import Grid
from medrecon.io.outputs import whole_file
from medrecon.volume import Unit, Volume

MAX_BYTES = 8 * 2**30
"""Default cap of an image in memory, bytes."""
_FREE_BYTES = 64 * 2**20
_MAX_COMPRESSION = 500  # a picture of a patient never shrinks so far; a bomb does (1000:1)
_PLAUSIBLE_MM = (1e-3, 50.0)  # voxel sizes; metres or micrometres taken for mm fall outside
_SCALE_TO_MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_nifti(path: Path, *, unit: Unit | None = None, max_bytes: int = MAX_BYTES) -> Volume:
    """Read a three-dimensional NIfTI-1 or NIfTI-2 file (``.nii``, ``.nii.gz``).

    Parameters
    ----------
    path
        The file; recognised by its content, not its name.
    unit
        What the voxels mean, which NIfTI does not say. Default: what :func:`write_nifti` noted in
        the description of our own files, else arbitrary.
    max_bytes
        Refuse images that need more memory, bytes.

    Returns
    -------
    Volume
        float32 voxels with the file's scaling applied, index ``(z, y, x)`` = NIfTI's ``(k, j, i)``,
        on a grid in LPS mm.

    Raises
    ------
    UnreadableError
        If the file is missing, truncated, or not a single-file NIfTI.
    InconsistentError
        If it is not one real 3D image of finite voxels in a stated, unsheared orientation.
    ResourceError
        If it is too large.
    """
    with _open(path) as stream:
        header = _read_header(stream, path)
        shape = _image_shape(header, path)
        dtype = header.get_data_dtype()
        _check_size(math.prod(shape), dtype.itemsize, path, max_bytes)
        affine = _lps_affine(header, path)
        raw = _read_voxels(stream, header, math.prod(shape) * dtype.itemsize, path)
    voxels = np.frombuffer(raw, dtype).reshape(shape[::-1])
    data = torch.from_numpy(_scaled(voxels, header))
    _require_finite(data, path)
    grid_affine = affine[:, [2, 1, 0, 3]]  # columns follow our index order z, y, x
    try:
        grid = Grid.from_affine(tuple(data.shape), grid_affine)  # type: ignore[arg-type]
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error
    _require_plausible(grid, path)
    return Volume(data, grid, unit or _noted_unit(header))


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume as NIfTI-1, float32, millimetres, sform and qform both "scanner" (code 1).

    Of a complex image this is the magnitude.  The same volume gives the same bytes; the file
    appears whole or not at all.

    Parameters
    ----------
    volume
        Real voxels ``(z, y, x)``, in any unit; the unit's name goes into the description.
    path
        The file to make; ``.nii`` or ``.nii.gz``.

    Raises
    ------
    OutputError
        If the name has another suffix or the file cannot be written.
    InconsistentError
        If the voxels are complex or an axis is longer than NIfTI-1 can say (32767).
    """
    if volume.data.is_complex():
        raise InconsistentError("Complex voxels cannot be written as NIfTI; take the magnitude.")
    _write(volume.data.to(torch.float32), volume, path)


def write_complex_nifti(volume: Volume, path: Path) -> None:
    """Write magnitude and phase as complex64 voxels, otherwise as :func:`write_nifti` does.

    Parameters
    ----------
    volume
        Magnitude, with its phase in rad.
    path
        The file to make; ``.nii`` or ``.nii.gz``.

    Raises
    ------
    OutputError, InconsistentError
        As :func:`write_nifti`.
    """
    _write(volume.complex.to(torch.complex64), volume, path)


def _write(voxels: torch.Tensor, volume: Volume, path: Path) -> None:
    if not path.name.endswith((".nii", ".nii.gz")):
        raise OutputError(f"{path}: a NIfTI file is named *.nii or *.nii.gz.")
    if max(volume.grid.shape) > 32767:
        raise InconsistentError(f"NIfTI-1 axes end at 32767 voxels, got {volume.grid.shape}.")
    data = voxels.detach().cpu().resolve_conj().numpy().transpose(2, 1, 0)
    affine = _RAS_LPS @ volume.grid.affine[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(data, affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = _note(volume.unit)
    with whole_file(path) as part, part.open("wb") as file:
        if path.name.endswith(".gz"):
            # No name and no time in the gzip header: equal volumes make equal files.
            with gzip.GzipFile("", "wb", compresslevel=3, fileobj=file, mtime=0) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(file)


def _note(unit: Unit) -> bytes:
    return f"medrecon; unit {unit.value}; research use".encode()


def _noted_unit(header: Any) -> Unit:
    note = bytes(header["descrip"].item())
    return next((unit for unit in Unit if note == _note(unit)), Unit.ARBITRARY)


def is_nifti(path: Path) -> bool:
    """Whether the file begins like a single-file NIfTI, gzipped or not."""
    try:
        with _open(path) as stream:
            head = stream.read(348)
    except (UnreadableError, OSError, EOFError, zlib.error):
        return False
    return head[344:347] == b"n+1" or head[4:7] == b"n+2"


def _open(path: Path) -> IO[bytes]:
    try:
        if not path.is_file():
            raise UnreadableError(f"{path} is not a file, or does not exist.")
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return gzip.open(path, "rb") if packed else path.open("rb")  # type: ignore[return-value]
    except OSError as error:
        raise UnreadableError(f"{path} cannot be opened: {error.strerror}.") from error


def _read_header(stream: IO[bytes], path: Path) -> Any:
    try:
        start = stream.read(348)
        second = start[4:7] == b"n+2"
        block = start + stream.read(192 if second else 0)
        kind = nib.Nifti2Header if second else nib.Nifti1Header
        if not second and start[344:347] != b"n+1":
            raise UnreadableError(f"{path} is not a single-file NIfTI image (.nii or .nii.gz).")
        return kind(block, check=False)  # checked here; nibabel would repair and log
    except (OSError, EOFError, zlib.error, HeaderDataError, WrapStructError, ValueError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"{path}: the NIfTI header is damaged or truncated.") from error


def _image_shape(header: Any, path: Path) -> tuple[int, int, int]:
    """Sizes along i, j, k; trailing axes of length one are nothing."""
    try:
        shape = tuple(int(n) for n in header.get_data_shape())
        dtype = header.get_data_dtype()
    except (HeaderDataError, ValueError, KeyError) as error:
        raise UnreadableError(f"{path}: the NIfTI header has no valid shape or dtype.") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or min(shape) < 1:
        raise InconsistentError(
            f"{path} has shape {shape}; one 3D image is needed, so extract a single one first."
        )
    if dtype.kind not in "iuf":
        raise InconsistentError(
            f"{path} holds voxels of type {dtype}; real numbers are needed (no colour, no complex)."
        )
    return shape


def _check_size(voxels: int, itemsize: int, path: Path, max_bytes: int) -> None:
    needed = voxels * max(itemsize, 4)
    if needed > max_bytes:
        raise ResourceError(
            f"{path} declares {voxels} voxels, {needed / 2**30:.1f} GiB in memory, more than the "
            f"{max_bytes / 2**30:.1f} GiB allowed; crop it first."
        )
    stored = path.stat().st_size
    if voxels * itemsize > max(_FREE_BYTES, _MAX_COMPRESSION * stored):
        raise UnreadableError(
            f"{path} declares {voxels * itemsize} bytes of voxels in a file of {stored} bytes; "
            "it is truncated or made up."
        )


def _read_voxels(stream: IO[bytes], header: Any, size: int, path: Path) -> bytes:
    try:
        offset = int(header["vox_offset"])
        if not stream.tell() <= offset <= 2**24:
            raise UnreadableError(f"{path}: the NIfTI header puts the voxels at byte {offset}.")
        stream.read(offset - stream.tell())
        raw = stream.read(size)
        stream.read(1)  # at the end of the file gzip checks its sum
    except (OSError, EOFError, zlib.error, OverflowError, ValueError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(
            f"{path} is truncated or damaged after its header; copy it again from its source."
        ) from error
    if len(raw) != size:
        raise UnreadableError(
            f"{path} is truncated: {size} bytes of voxels are declared, {len(raw)} are there."
        )
    return raw


def _scaled(voxels: NDArray[Any], header: Any) -> NDArray[np.float32]:
    slope, offset = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or slope == 0:
        slope, offset = 1.0, 0.0  # NIfTI: a slope of zero means "not scaled"
    if not math.isfinite(offset):
        offset = 0.0
    if (slope, offset) == (1.0, 0.0):
        return voxels.astype(np.float32)
    return (voxels * slope + offset).astype(np.float32)  # in float64, rounded once


def _lps_affine(header: Any, path: Path) -> NDArray[np.float64]:
    """4x4 matrix from NIfTI's (i, j, k, 1) to LPS mm."""
    found = (_form(header, "sform", path), _form(header, "qform", path))
    forms = [form for form in found if form is not None]
    if not forms:
        raise InconsistentError(
            f"{path} does not say where it lies in the patient (sform and qform codes are 0); "
            "set one of them, e.g. with nibabel's set_sform(affine, code=1)."
        )
    if len(forms) == 2:
        _compare_forms(forms[0], forms[1], header, path)
    affine = forms[0].copy()
    affine[:3] *= _SCALE_TO_MM[_length_unit(header)]
    return np.asarray(_RAS_LPS @ affine)


def _form(header: Any, which: str, path: Path) -> NDArray[np.float64] | None:
    try:
        affine, code = getattr(header, f"get_{which}")(coded=True)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError) as error:
        raise InconsistentError(f"{path}: the NIfTI {which} is not a rotation.") from error
    if code == 0 or affine is None:
        return None
    affine = np.asarray(affine, np.float64)
    if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InconsistentError(f"{path}: the NIfTI {which} is singular or not finite.")
    return affine


def _compare_forms(
    sform: NDArray[np.float64], qform: NDArray[np.float64], header: Any, path: Path
) -> None:
    shape = header.get_data_shape()[:3]
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in shape])).reshape(3, -1)
    corners = np.vstack([corners, np.ones(8)])
    distance = float(np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max())
    distance *= _SCALE_TO_MM[_length_unit(header)]
    if distance <= 0.1:
        return
    if int(header["sform_code"]) == int(header["qform_code"]):
        raise InconsistentError(
            f"{path}: sform and qform have the same code but differ by {distance:.2f} mm; "
            "remove the wrong one (set its code to 0)."
        )
    warnings.warn(f"{path}: sform is used; qform differs by {distance:.2f} mm.", stacklevel=4)


def _length_unit(header: Any) -> str:
    try:
        unit = header.get_xyzt_units()[0]
    except KeyError:  # a code that NIfTI does not know
        return "unknown"
    return unit if unit in _SCALE_TO_MM else "unknown"


def _require_finite(data: torch.Tensor, path: Path) -> None:
    bad = ~torch.isfinite(data)
    if bad.any():
        first = tuple(torch.nonzero(bad)[0].tolist())
        raise InconsistentError(
            f"{path} has {int(bad.sum())} voxels that are NaN or infinite, the first at index "
            f"(z, y, x) = {first}; replace them first."
        )


def _require_plausible(grid: Grid, path: Path) -> None:
    low, high = _PLAUSIBLE_MM
    if min(grid.spacing) < low or max(grid.spacing) > high:
        shown = " x ".join(f"{d:.3g}" for d in grid.spacing)
        raise InconsistentError(
            f"{path} has voxels of {shown} mm (z, y, x); its length unit seems to be wrong."
        )
