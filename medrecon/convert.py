"""From any MR measurements to ISMRMRD or to BART's files, with what is lost said."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InconsistentError, MedreconError, OutputError, UsageError
from medrecon.geometry import Cartesian, MRGeometry, NonCartesian
from medrecon.io.cfl_write import companions, write_cfl
from medrecon.io.ismrmrd import write_ismrmrd
from medrecon.io.read import read_studies, select
from medrecon.study import Study

MRD = (".h5", ".mrd")
BART = (".cfl", ".hdr")
_CLOSE_MM = 2e-3  # single precision of positions far from the isocentre
_CLOSE_K = 1e-5  # single precision of a trajectory, relative to its reach


@dataclass(frozen=True)
class Converted:
    """What a conversion made.

    Parameters
    ----------
    files
        What was written.
    images
        Labels of the images in them; one empty label where the source holds a single image.
    lost
        What the source says and the new files do not, in words.
    """

    files: tuple[Path, ...]
    images: tuple[str, ...]
    lost: tuple[str, ...]


def convert(
    source: Path, target: Path, *, label: str | None = None, overwrite: bool = False
) -> Converted:
    """Write MR measurements of any format as ISMRMRD or as BART's files.

    What is written is the study: sorted, averaged, whitened and corrected as its reader does it,
    without noise scans, navigators and oversampling. The files are read again and compared before
    they get their names.

    Parameters
    ----------
    source
        What :func:`medrecon.io.read.read_studies` takes.
    target
        ``NAME.h5`` or ``NAME.mrd`` for ISMRMRD, ``NAME.cfl`` or ``NAME.hdr`` for BART.
    label
        Which image, where the source holds several. ISMRMRD takes all of them, BART's files one.
    overwrite
        Replace files that are there.

    Raises
    ------
    UsageError
        If the target's name is of no known format.
    OutputError
        If files are there already, would replace the source, or cannot be written.
    UnreadableError, InconsistentError
        As the reader; also if the source is no MR scan, has no grid, or several images do not
        fit into the target.
    """
    check_target(source, target, overwrite=overwrite)
    studies = read_studies(source)
    if not all(isinstance(study.geometry, MRGeometry) for study in studies):
        raise InconsistentError(f"{source} holds CT measurements; convert is for MR.")
    bart = target.suffix in BART
    if label is not None or bart:
        studies = (select(studies, label, source),)
    with _aside(target) as part:
        made = write_cfl(part, studies[0]) if bart else _mrd(part, studies)
        lost = _lost(studies, _again(part))
        files = _move(made, target)
    if bart:
        for file in set(companions(target)) - set(files):
            file.unlink(missing_ok=True)
    return Converted(files, tuple(study.label for study in studies), lost)


def check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before anything is read.

    Raises
    ------
    UsageError
        If its name is of no known format.
    OutputError
        If files are there already, would replace the source, or the folder does not exist.
    """
    if target.suffix not in (*MRD, *BART):
        raise UsageError(
            f"{target.name} does not say a format; name it .h5 or .mrd for ISMRMRD, .cfl or .hdr "
            "for BART."
        )
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; create it first.")
    files = companions(target) if target.suffix in BART else (target,)
    there = [file for file in files if file.exists()]
    own = [file for file in there if source.exists() and file.samefile(source)]
    if own:
        raise OutputError(f"{own[0]} is the input itself; choose another name.")
    if there and not (overwrite and all(file.is_file() for file in there)):
        raise OutputError(f"{there[0]} exists; choose another name or use --overwrite.")


def _mrd(path: Path, studies: tuple[Study, ...]) -> tuple[Path, ...]:
    write_ismrmrd(path, studies)
    return (path,)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Give a name in a hidden folder beside the target; the folder goes when the block ends."""
    folder = target.parent / f".{target.name[:100]}.part-{uuid.uuid4().hex}"
    try:
        folder.mkdir()
        yield folder / target.name
    except OutputError as error:
        raise OutputError(str(error).replace(str(folder), str(target.parent))) from error
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise OutputError(f"{target} cannot be written: {reason}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move(made: tuple[Path, ...], target: Path) -> tuple[Path, ...]:
    """Give the files their place; headers last, for they make values readable."""
    for file in sorted(made, key=lambda file: file.suffix == ".hdr"):
        os.replace(file, target.parent / file.name)  # noqa: PTH105
    return tuple(target.parent / file.name for file in made)


def _again(path: Path) -> tuple[Study, ...]:
    with warnings.catch_warnings(action="ignore"):
        try:
            return read_studies(path)
        except MedreconError as error:
            reason = str(error).replace(str(path), path.name)
            raise InconsistentError(
                f"{path.name} would not be readable again, so it was not kept: {reason}"
            ) from error


def _lost(studies: tuple[Study, ...], again: tuple[Study, ...]) -> tuple[str, ...]:
    """Compare what was read with what can be read again."""
    if len(again) != len(studies):
        raise InconsistentError(
            f"The new file would hold {len(again)} images instead of {len(studies)}, so it was not "
            "kept."
        )
    found: dict[str, None] = {}  # in order, once each
    for before, after in zip(studies, again, strict=True):
        found |= dict.fromkeys(_differences(before, after))
    return tuple(found)


def _differences(before: Study, after: Study) -> Iterator[str]:
    if not _same_samples(before, after):
        if _became_points(before, after):
            yield "the order of the stack's partitions (it is a 3D trajectory now)"
        else:
            yield "k-space itself: it is not the same when it is read again"
    elif not _same_geometry(before.geometry, after.geometry):
        yield "where k-space was sampled, to the last digit"
    if not _same_place(before, after):
        yield "place and size of the voxels"
    for name, words in (
        ("weights", "the weights of the samples (averages)"),
        ("reference", "the reference image"),
        ("calibration", "the calibration scan"),
        ("maps", "the coil maps"),
    ):
        if not _same(getattr(before, name), getattr(after, name)):
            yield words
    if before.noise_std is not None and not _close(before.noise_std, after.noise_std):
        yield "the noise level"
    lost = set(before.identity.attributes) - set(after.identity.attributes)
    if lost:
        yield f"{len(lost)} attributes of patient and study ({', '.join(sorted(lost)[:4])} ...)"
    if before.identity.frame_of_reference_uid and not after.identity.frame_of_reference_uid:
        yield "the frame of reference"
    if before.identity.simulated and not after.identity.simulated:
        yield "that the scan was simulated"


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is None
    return a.shape == b.shape and torch.equal(a.resolve_conj(), b.resolve_conj())


def _same_samples(before: Study, after: Study) -> bool:
    return type(before.geometry) is type(after.geometry) and _same(
        before.measurements, after.measurements
    )


def _became_points(before: Study, after: Study) -> bool:
    a, b = before.geometry, after.geometry
    if not (isinstance(a, NonCartesian) and isinstance(b, NonCartesian)) or a.partitions is None:
        return False
    kept = before.measurements[:, torch.from_numpy(a.partitions)]
    return torch.equal(kept.reshape(after.measurements.shape), after.measurements)


def _same_geometry(a: Any, b: Any) -> bool:
    if isinstance(a, Cartesian):
        same: bool = a.encoded == b.encoded and np.array_equal(a.mask, b.mask)
        return same
    reach = max(1.0, *a.reach)
    times = a.times is None or (b.times is not None and np.allclose(a.times, b.times))
    return times and np.allclose(a.trajectory, b.trajectory, rtol=0, atol=_CLOSE_K * reach)


def _same_place(before: Study, after: Study) -> bool:
    if before.grid is None or after.grid is None:
        return before.grid is None
    if before.grid.shape != after.grid.shape:
        return False
    corner = np.array([*before.grid.shape, 1.0])
    return bool(
        np.allclose(before.grid.origin, after.grid.origin, atol=_CLOSE_MM)
        and np.allclose(before.grid.affine @ corner, after.grid.affine @ corner, atol=_CLOSE_MM)
    )


def _close(a: float, b: float | None) -> bool:
    return b is not None and abs(a - b) <= 1e-6 * a
