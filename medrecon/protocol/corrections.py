"""What is done to measured CT data before they are reconstructed, and where TIFF images lie."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from medrecon.protocol.settings import Finite, NonNegative, Positive, Settings


class Counts(Settings):
    """How counts become line integrals (simulated counts, and those of TIFF images)."""

    low_counts: Literal["exclude", "clamp", "debias"] = "exclude"
    """Samples without signal: weigh nothing, count as one quantum, or half a quantum is added to
    all."""
    missing_views: Annotated[int, Field(ge=0, le=100_000)] = 0
    """How many views of a DICOM-CT-PD series may lack; the others are used where they are."""


class BeamHardening(Settings):
    """Water correction: line integrals p become ``p (c_0 + c_1 p + ...)``."""

    coefficients: Annotated[tuple[Finite, ...], Field(strict=False, min_length=1, max_length=8)]
    """``c_0, c_1, ...`` as medrecon.physics.beam_hardening fits them."""
    limit: Positive
    """Largest line integral that was calibrated; a straight line goes on from there."""


class Rings(Settings):
    """Removal of rings, which cells that are always a little wrong make."""

    method: Literal["constants", "stripes"] = "constants"
    """constants: the cell's constant error is subtracted. stripes: algotom's remedy for stripes of
    all kinds, for detectors with thousands of columns."""
    width: Annotated[int, Field(ge=3, le=255)] = 9
    """Columns of the running median that a cell is compared with (``constants``), odd."""

    @model_validator(mode="after")
    def _width_is_odd(self) -> Self:
        if self.width % 2 == 0:
            raise ValueError(f"width: {self.width} has no middle, use an odd number")
        return self


def _inside(name: str) -> str:
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    parts = name.replace("\\", "/").split("/")
    if absolute or ".." in parts or "://" in name or name.startswith("~") or "$" in name:
        raise ValueError(": only a path inside the input is followed")
    return name


Inside = Annotated[str, AfterValidator(_inside)]
"""A path below the input, e.g. the folder ``flats``."""
Axis = Literal["views", "rows", "columns"]


class TiffImages(Settings):
    """Projections as TIFF images; the geometry is that of ``acquisition``."""

    images: Inside = "."
    """Folder of single images or file of many pages, below the input; ``.``: the input itself."""
    values: Literal["counts", "line_integrals"] = "counts"
    flats: Inside | NonNegative | None = None
    """Images without the object, below the input, or one number of counts for all cells."""
    darks: Inside | NonNegative = 0.0
    """Images without radiation, likewise."""
    axes: Annotated[tuple[Axis, Axis, Axis], Field(strict=False)] = ("views", "rows", "columns")
    """What images, their rows and their columns are of; sinograms: [rows, views, columns]."""
    flip_rows: bool = False
    """Turn the detector round, so that its rows grow along +z."""
    flip_columns: bool = False

    @model_validator(mode="after")
    def _axes_differ(self) -> Self:
        if len(set(self.axes)) < 3:
            raise ValueError("axes: views, rows and columns, once each")
        if self.values == "counts" and self.flats is None:
            raise ValueError("flats: counts need a folder of flats or the counts of an empty beam")
        return self
