"""Limited-angle fan-beam data of the Helsinki Tomography Challenge 2022 (MATLAB 5 files).

One detector row of a cone-beam scan: a flat fan beam, the logarithm already taken.  Distances,
cells and angles are read from the file.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.io
import torch

from medrecon.errors import InconsistentError, UnreadableError
from medrecon.geometry import FanBeam
from medrecon.io.plausible import check_ct_study
from medrecon.study import Study

_MAX_BYTES = 2**28
_COMPRESSED = 15  # miCOMPRESSED
_FIELDS = (
    "distanceSourceOrigin",
    "distanceSourceDetector",
    "pixelSizePost",
    "numDetectorsPost",
    "angles",
)


def read_htc(path: Path) -> Study:
    """Read a challenge file, full or limited.

    Parameters
    ----------
    path
        MATLAB 5 file with a structure ``CtDataFull`` or ``CtDataLimited``.

    Returns
    -------
    Study
        Fan beam with a flat detector, measurements ``(1, views, columns)``.

    Raises
    ------
    UnreadableError
        If the file is no MATLAB 5 file, is damaged, or holds no such structure.
    InconsistentError
        If its parts do not fit each other.
    """
    scan = _structure(path)
    parameters = scan["parameters"]
    missing = [name for name in _FIELDS if name not in parameters]
    if missing:
        raise UnreadableError(f"{path}: the parameters lack {', '.join(missing)}.")
    if str(parameters.get("distanceUnit", "mm")) != "mm":
        raise InconsistentError(f"{path}: distances are not in mm.")
    try:
        sinogram = np.atleast_2d(np.asarray(scan["sinogram"], np.float32))
        numbers = {name: np.asarray(parameters[name], np.float64) for name in _FIELDS}
        geometry = FanBeam(
            # With the file's own sense of turning the disc's outline fits to 0.04 mm, against it
            # to 0.14 mm (test_htc.py); whether the whole is seen from the other side stays open.
            angles=tuple(np.deg2rad(numbers["angles"].reshape(-1)).tolist()),
            source_to_axis=float(numbers["distanceSourceOrigin"]),
            source_to_detector=float(numbers["distanceSourceDetector"]),
            columns=int(numbers["numDetectorsPost"]),
            column_spacing=float(numbers["pixelSizePost"]),
        )
    except InconsistentError as error:
        raise InconsistentError(f"{path}: {error}") from error
    except (TypeError, ValueError):
        raise UnreadableError(f"{path}: the structure's fields are not plain numbers.") from None
    study = Study(
        measurements=torch.from_numpy(sinogram.copy())[None],
        geometry=geometry,
        grid=None,
        source=path,
    )
    return check_ct_study(study, path)


def is_matlab(path: Path) -> bool:
    """Whether the file begins like a MATLAB 5 file."""
    try:
        with path.open("rb") as file:
            return file.read(19) == b"MATLAB 5.0 MAT-file"
    except OSError:
        return False


def _structure(path: Path) -> dict[str, Any]:
    if not is_matlab(path):
        raise UnreadableError(f"{path} is not a MATLAB 5 file, or does not exist.")
    try:
        _verify(path)
        content = scipy.io.loadmat(path, simplify_cells=True)
    except UnreadableError:
        raise
    except Exception:  # scipy raises nearly anything on damaged files
        raise UnreadableError(f"{path}: the MATLAB file is damaged or truncated.") from None
    for value in content.values():
        if isinstance(value, dict) and "sinogram" in value:
            if not isinstance(value.get("parameters"), dict):
                break
            return value
    raise UnreadableError(f"{path} holds no CtDataFull or CtDataLimited structure.")


def _verify(path: Path) -> None:
    """Inflate every compressed variable once, with a cap, so that its checksum is checked.

    scipy does not check it, and a damaged file can end the whole process there.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise UnreadableError(f"{path} is larger than any challenge file; it is refused.")
    content = path.read_bytes()
    order: Literal["big", "little"] = "big" if content[126:128] == b"MI" else "little"
    at = 128
    while at < len(content):
        kind = int.from_bytes(content[at : at + 4], order)
        size = int.from_bytes(content[at + 4 : at + 8], order)
        if at + 8 + size > len(content):
            raise UnreadableError(f"{path}: the MATLAB file is truncated.")
        if kind == _COMPRESSED:
            inflater = zlib.decompressobj()
            inflater.decompress(content[at + 8 : at + 8 + size], _MAX_BYTES)
            if not inflater.eof:
                raise UnreadableError(f"{path}: a variable is damaged, or absurdly large.")
            at += 8 + size
        else:
            at += 8 + size + -size % 8
