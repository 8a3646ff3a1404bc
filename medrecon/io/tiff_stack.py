"""Projections as TIFF images: pixels in files, everything else in the acquisition's description."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from medrecon.errors import InconsistentError
from medrecon.geometry import CTGeometry, SliceGeometry
from medrecon.io.flat_field import corrected, slices
from medrecon.io.plausible import check_ct_study
from medrecon.io.tiff_pages import MAX_BYTES, read_pages
from medrecon.physics.counts import LowCounts
from medrecon.study import Study

Axis = Literal["views", "rows", "columns"]


@dataclass(frozen=True, kw_only=True)
class TiffStack:
    """Where the images of a scan are, and what their pixels mean.

    Parameters
    ----------
    images
        A folder of single images or a file of many pages.
    values
        ``"counts"``: raw, to be corrected by ``flats`` and ``darks``; ``"line_integrals"``:
        logarithm taken.
    flats, darks
        Images without the object and without radiation, likewise, or one number of counts for
        all cells.
    axes
        What the images, their rows and their columns are of: ``("views", "rows", "columns")`` for
        projections, ``("rows", "views", "columns")`` for sinograms, ``("views", "columns",
        "rows")`` for a detector that lies on its side.
    low_counts
        What becomes of samples without signal, see :func:`medrecon.physics.counts.line_integrals`.
    flip_rows, flip_columns
        Turn the detector's rows or columns round: ours grow along +z and +u.
    """

    images: Path
    values: Literal["counts", "line_integrals"] = "counts"
    flats: Path | float | None = None
    darks: Path | float = 0.0
    low_counts: LowCounts = "exclude"
    axes: tuple[Axis, Axis, Axis] = ("views", "rows", "columns")
    flip_rows: bool = False
    flip_columns: bool = False

    def __post_init__(self) -> None:
        if sorted(self.axes) != ["columns", "rows", "views"]:
            raise InconsistentError(
                f"TiffStack.axes must name views, rows and columns once each, got {self.axes}."
            )
        if self.values == "counts" and self.flats is None:
            raise InconsistentError(
                f"{self.images}: without flats counts cannot become line integrals; give a folder "
                "or the counts of an empty beam."
            )


def read_tiff_stack(stack: TiffStack, geometry: CTGeometry, *, max_bytes: int = MAX_BYTES) -> Study:
    """Read a scan of which the images are files and the geometry is known.

    Parameters
    ----------
    stack
        Where the images are and what they mean.
    geometry
        How they were taken, one view per image (or row of the sinograms).
    max_bytes
        Refuse stacks that need more memory, bytes.

    Returns
    -------
    Study
        In the geometry's layout; rows are slices where it is one of slices.  Counts give weights.

    Raises
    ------
    UnreadableError
        If images are missing, damaged or of a kind that is not read.
    InconsistentError
        If numbers are missing in their names, sizes or types are mixed, they do not fit the
        geometry, or the values cannot be what they are said to be.
    ResourceError
        If the stack is too large.
    """
    path = stack.images
    data = _ordered(read_pages(path, max_bytes=max_bytes), stack)
    _check_fit(data.shape, geometry, path)
    weights = None
    if stack.values == "counts":
        flats = _field(stack.flats, data.shape, stack, max_bytes)
        darks = _field(stack.darks, data.shape, stack, max_bytes)
        scan = corrected(data, flats, darks, path, policy=stack.low_counts)
        values, weights = scan.values, scan.weights
    else:
        values = torch.from_numpy(data.astype(np.float32))
    if isinstance(geometry, SliceGeometry):
        values, weights = slices(values), slices(weights) if weights is not None else None
    study = Study(measurements=values, geometry=geometry, grid=None, weights=weights, source=path)
    return check_ct_study(study, path)


def _ordered(images: NDArray[Any], stack: TiffStack) -> NDArray[Any]:
    """Images as ``(views, rows, columns)``."""
    order = [stack.axes.index(axis) for axis in ("views", "rows", "columns")]
    rows = slice(None, None, -1) if stack.flip_rows else slice(None)
    columns = slice(None, None, -1) if stack.flip_columns else slice(None)
    return np.ascontiguousarray(images.transpose(order)[:, rows, columns])


def _check_fit(shape: tuple[int, ...], geometry: CTGeometry, path: Path) -> None:
    rows = shape[1] if isinstance(geometry, SliceGeometry) else geometry.rows
    expected = (geometry.views, rows, geometry.columns)
    if shape != expected:
        words = "views, rows and columns"
        raise InconsistentError(
            f"{path}: the images have {shape[0]}, {shape[1]} and {shape[2]} {words}, the geometry "
            f"{expected[0]}, {expected[1]} and {expected[2]}."
        )


def _field(
    field: Path | float | None, shape: tuple[int, ...], stack: TiffStack, max_bytes: int
) -> NDArray[Any]:
    """Flats or darks as ``(n, rows, columns)``."""
    if not isinstance(field, Path):
        return np.full((1, *shape[1:]), field, np.float32)
    frames = _ordered(read_pages(field, max_bytes=max_bytes), stack)
    if frames.shape[1:] != shape[1:]:
        raise InconsistentError(
            f"{field}: frames of {frames.shape[1]} rows and {frames.shape[2]} columns do not fit "
            f"projections of {shape[1]} and {shape[2]}."
        )
    return frames
