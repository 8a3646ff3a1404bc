"""The MR scans a protocol can name, and what is done to their coils."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_serializer, model_validator

from medrecon.protocol.settings import Count, NonNegative, Positive, Settings, Share


class Receiver(Settings):
    """Receive coils and their noise, for ``simulate``."""

    coils: Annotated[int, Field(ge=1, le=128)] = 8
    """Number of receive coils, for ``simulate``."""
    noise_std: NonNegative = 0.0
    """Added complex noise relative to the image's 99th percentile, for ``simulate``."""


class CartesianScan(Receiver):
    """Cartesian multi-coil MR; ``run`` undersamples fully sampled data by it, if it says so."""

    kind: Literal["cartesian"]
    pattern: Literal["as_measured", "uniform", "random", "poisson"] = "as_measured"
    acceleration: Annotated[float, Field(ge=1, le=64)] = 1.0
    """All samples over measured samples, the fully sampled middle among them."""
    calibration_lines: Annotated[int, Field(ge=0, le=1024)] = 24
    """Width of the pattern's fully sampled middle; also how many lines coil maps are estimated
    from, unless ``coil_maps.calibration_lines`` says it."""
    per_slice: bool = False
    """Whether every slice of a slice-wise scan has a pattern of its own."""
    axes: Annotated[tuple[Literal["z", "y"], ...], Field(strict=False, min_length=1)] | None = None
    """Along which axes a pattern of a 3D scan leaves samples out: ``[y]`` whole lines, ``[z, y]``
    both. null: both for ``poisson``, else y."""
    encoded: Literal[2, 3] = 2
    """Axes encoded by Fourier, for ``simulate``: 2 slice by slice, 3 the whole slab."""

    @model_validator(mode="after")
    def _pattern_accelerates(self) -> Self:
        if self.pattern == "as_measured" and self.acceleration != 1:
            raise ValueError(
                "acceleration: needs a pattern (uniform, random or poisson); as_measured keeps "
                "every sample"
            )
        return self

    @model_validator(mode="after")
    def _axes_make_sense(self) -> Self:
        if self.axes is not None and self.axes not in (("y",), ("z", "y")):
            raise ValueError("axes: expected [y] or [z, y]")
        if self.per_slice and (self.encoded == 3 or self.axes == ("z", "y")):
            raise ValueError("per_slice: slices of a 3D scan are encoded together, leave it out")
        if self.pattern == "as_measured" and (self.per_slice or self.axes):
            key = "per_slice" if self.per_slice else "axes"
            raise ValueError(f"{key}: needs a pattern (uniform, random or poisson)")
        return self


class NonCartesianScan(Receiver):
    """MR along a trajectory; ``run`` takes it from the data, and leaves shots out if asked."""

    kind: Literal["non_cartesian"]
    pattern: Literal["as_measured", "radial", "spiral", "stack_of_stars", "koosh"] = "as_measured"
    """What ``simulate`` measures along. ``run`` keeps ``spokes`` or ``interleaves`` of data that
    hold more; ``as_measured`` keeps all."""
    spokes: Count | None = None
    """Spokes of radial and koosh, and of every partition of stack_of_stars."""
    interleaves: Count | None = None
    """Interleaves of spiral."""
    samples: Count | None = None
    """Per spoke or interleave; null: as many as ``oversampling`` asks for."""
    oversampling: Annotated[float, Field(ge=1, le=8)] = 2.0
    """Samples per cycle over the field of view along the readout."""
    golden: bool = False
    """Whether spokes step by the golden angle (radial, stack_of_stars); koosh always does."""
    readout_ms: Positive | None = None
    """Length of a readout, for the times of its samples, which off-resonance needs."""

    @model_validator(mode="after")
    def _pattern_has_its_number(self) -> Self:
        wanted = {"spiral": "interleaves", "as_measured": None}.get(self.pattern, "spokes")
        if wanted is not None and getattr(self, wanted) is None:
            raise ValueError(f"{wanted}: {self.pattern} needs their number")
        for key in {"spokes", "interleaves"} - {wanted}:
            if getattr(self, key) is not None:
                raise ValueError(f"{key}: is not for {self.pattern}, leave it out")
        if self.golden and self.pattern not in ("radial", "stack_of_stars"):
            raise ValueError(f"golden: is not for {self.pattern}, leave it out")
        return self

    @property
    def shots(self) -> int | None:
        """Number of spokes or interleaves; ``None``: all that were measured."""
        return self.interleaves if self.pattern == "spiral" else self.spokes


class CoilMaps(Settings):
    """Where coil sensitivities come from."""

    method: Literal["espirit", "walsh", "jsense"] = "espirit"
    sets: Annotated[int, Field(ge=1, le=4)] = 1
    """Sets of ESPIRiT maps (soft SENSE): above 1 where the object is folded or the field of view
    is smaller than it."""
    calibration_lines: Annotated[int, Field(ge=4, le=1024)] | None = None
    """Lines around the centre of k-space, along every axis; null: those of the acquisition, or
    24."""
    kernel: Annotated[int, Field(ge=3, le=16)] = 6
    """Width of ESPIRiT's neighbourhoods in samples."""
    crop: Share | None = None
    """Maps are zero where ESPIRiT's eigenvalue is below; 0: nowhere, null: automatic."""
    file: str | None = None
    """Maps to take instead: .npy, or .cfl of BART; the path is meant relative to the protocol
    file."""

    @model_validator(mode="after")
    def _sets_are_espirits(self) -> Self:
        if self.sets > 1 and self.method != "espirit":
            raise ValueError(f"sets: only espirit has several, not {self.method}")
        return self

    @field_serializer("file", when_used="json")
    def _name_only(self, value: str | None) -> str | None:
        return None if value is None else Path(value).name  # records of a run tell no folders


class CoilCompression(Settings):
    """Fewer virtual coils, which hold nearly all of the signal."""

    method: Literal["svd", "geometric"] = "svd"
    """svd: one for all of k-space. geometric: one for every position along the readout, which
    keeps more of the signal (Cartesian)."""
    coils: Annotated[int, Field(ge=1, le=128)]
    """Virtual coils that are kept; data with no more coils stay as they are."""
