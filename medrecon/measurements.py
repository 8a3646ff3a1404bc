"""Measurements as a protocol means them: a file that knows its geometry, or TIFF images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medrecon.errors import UnreadableError
from medrecon.io.read import read_studies, select
from medrecon.io.tiff_stack import TiffStack, read_tiff_stack
from medrecon.physics.counts import LowCounts
from medrecon.protocol import MRScan, Protocol, TiffImages
from medrecon.scanner import scanner
from medrecon.study import Study


def read_measurements(path: Path, protocol: Protocol) -> tuple[Study, ...]:
    """Read a scan for a protocol.

    Parameters
    ----------
    path
        A file that :func:`medrecon.io.read.read_studies` knows; where the protocol has a block
        ``file``, the folder (or multi-page file) of TIFF images, with the geometry of the
        protocol's ``acquisition``.
    protocol
        What to do with it.

    Returns
    -------
    tuple of Study
        One per image that the file holds.

    Raises
    ------
    UnreadableError
        If there are no such measurements, or they are damaged.
    InconsistentError
        If they contradict themselves, physics, or the geometry.
    """
    if protocol.file is None or isinstance(protocol.acquisition, MRScan):
        return read_studies(path, missing_views=protocol.counts.missing_views)
    stack = _stack(path, protocol.file, protocol.counts.low_counts)
    return (read_tiff_stack(stack, scanner(protocol.acquisition)),)


def choose(studies: tuple[Study, ...], labels: Sequence[str], path: Path) -> dict[int, Study]:
    """Choose the images with these labels, all of them where no label is given.

    Returns
    -------
    dict
        The images by their number in the file, from 0, in the file's order.

    Raises
    ------
    InconsistentError
        If the file holds no image of such a label; the message lists those it holds.
    """
    wanted = {select(studies, label, path).label for label in labels}
    return {
        number: study for number, study in enumerate(studies) if not labels or study.label in wanted
    }


def _stack(path: Path, images: TiffImages, low_counts: LowCounts) -> TiffStack:
    def inside(name: str | float) -> Path | float:
        if not isinstance(name, str):
            return name
        below = path / name if path.is_dir() else path.parent / name
        if not below.exists():
            raise UnreadableError(f"{path} holds no {name}, which the protocol's file block names.")
        return below

    scan = path if images.images == "." else inside(images.images)
    return TiffStack(
        images=Path(str(scan)),
        values=images.values,
        flats=None if images.flats is None else inside(images.flats),
        darks=inside(images.darks),
        low_counts=low_counts,
        axes=images.axes,
        flip_rows=images.flip_rows,
        flip_columns=images.flip_columns,
    )
