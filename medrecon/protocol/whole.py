"""The whole tree of a protocol.

A check between fields raises ``ValueError("key: what is wrong")``, the key relative to the part
that checks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_serializer, model_validator

from medrecon.protocol.corrections import BeamHardening, Counts, Rings, TiffImages
from medrecon.protocol.methods import METHODS, Baseline
from medrecon.protocol.mr import CoilCompression, CoilMaps
from medrecon.protocol.presets import filled
from medrecon.protocol.sampling import Prior, Sampler
from medrecon.protocol.scans import Scan
from medrecon.protocol.settings import Finite, Label, NonNegative, Positive, Settings, Size


class GridSettings(Settings):
    """The volume to reconstruct, axial, in the scanner's frame."""

    shape: Annotated[tuple[Size, Size, Size], Field(strict=False)]
    """Voxels along z, y, x."""
    spacing_mm: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]
    """Voxel size along z, y, x."""
    center_mm: Annotated[tuple[Finite, Finite, Finite], Field(strict=False)] = (0.0, 0.0, 0.0)
    """LPS x, y, z of the volume's middle, seen from the middle of the scanner."""


class Preview(Settings):
    """Window of the PNG preview: CT in HU, MR relative to the 99.5th percentile."""

    low: Finite
    high: Finite

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"high: {self.high:g} must be above low ({self.low:g})")
        return self


Part = Literal["magnitude", "phase", "complex"]
_COMBINABLE = ("zero_filled", "rss", "adaptive", "grappa", "gridding", "adjoint", "cg_sense")
_MR_ONLY = ("coil_maps", "coil_compression", "partial_fourier", "field_map_file")
_CT_ONLY = ("beam_hardening", "rings", "file")


class Output(Settings):
    """What to write."""

    parts: Annotated[tuple[Part, ...], Field(strict=False, min_length=1)] = ("magnitude",)
    """Of a complex (MR) image. NIfTI has all three, DICOM magnitude and phase (rad); the real
    images of ``rss`` and ``zero_filled`` have no phase."""
    nifti: bool = True
    dicom: bool = True
    preview: Preview | None = None
    series_description: Annotated[str, Field(max_length=40)] = "medrecon"

    @model_validator(mode="after")
    def _parts_differ(self) -> Self:
        if len(set(self.parts)) < len(self.parts):
            raise ValueError("parts: each of magnitude, phase and complex at most once")
        return self


class Protocol(Settings):
    """A whole protocol.

    Every measured or simulated scan becomes a volume by the same steps: read, baselines, sampler,
    write.  ``prior`` and ``sampler`` null: only the baselines are run, the last one is the result.
    """

    schema_version: Literal[1]
    name: Label
    title: str
    modality: Literal["CT", "MR"]
    acquisition: Scan
    grid: GridSettings | None = None
    """CT: required. MR: null, the scan's header says it."""
    mu_water_per_mm: Positive = 0.0195
    """Water's attenuation at the scan's energy, 1/mm (CT)."""
    model_std: NonNegative = 0.0
    """Deviation of the line integrals that the model cannot explain (discretisation, scatter);
    adds to the noise in quadrature, dimensionless (CT)."""
    backend: Literal["native", "matrix", "triton", "astra"] = "native"
    """Which projector (CT). native: ours, where the data are; matrix: ours for slices, computed
    once and kept; triton: ours by the GPU's kernels; astra: needs a GPU where the detector has
    rows, and its transpose is not exact."""
    counts: Counts = Counts()
    beam_hardening: BeamHardening | None = None
    """Correction of measured line integrals to mu_water_per_mm (CT)."""
    rings: Rings | None = None
    """Removal of rings from measured data (CT)."""
    file: TiffImages | None = None
    """Where TIFF images lie and what they mean; null: the file says it (CT)."""
    coil_maps: CoilMaps | None = None
    """Where coil sensitivities come from (MR); null: ESPIRiT, one set."""
    coil_compression: CoilCompression | None = None
    """Fewer virtual coils (MR)."""
    partial_fourier: Literal["zero_fill", "homodyne", "pocs"] | None = None
    """What the methods that fill k-space (rss, zero_filled, adaptive, grappa) do where one side of
    it was left out (MR, cartesian); null: zero_fill."""
    field_map_file: str | None = None
    """Off-resonance in Hz, NIfTI or .npy on the grid of the scan (MR, where samples have times);
    its path is meant relative to the protocol file."""
    baselines: Annotated[tuple[Baseline, ...], Field(strict=False, min_length=1)]
    prior: Prior | None = None
    sampler: Sampler | None = None
    output: Output = Output()

    @model_validator(mode="before")
    @classmethod
    def _presets_are_of_the_modality(cls, given: Any) -> Any:
        if not isinstance(given, dict) or "sampler" not in given:
            return given
        return {**given, "sampler": filled(given["sampler"], str(given.get("modality")))}

    @model_validator(mode="after")
    def _modality_fits(self) -> Self:
        kind = self.acquisition.kind
        if (self.modality == "MR") != (kind in ("cartesian", "non_cartesian")):
            raise ValueError(f"acquisition.kind: {kind} is not {self.modality}")
        if self.modality == "CT" and self.grid is None:
            raise ValueError("grid: a CT protocol has to say shape and spacing_mm of the volume")
        if self.modality == "MR" and self.grid is not None:
            raise ValueError("grid: an MR scan's header says the grid, leave it out")
        other, foreign = ("CT", _CT_ONLY) if self.modality == "MR" else ("MR", _MR_ONLY)
        for name in foreign:
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: is for {other}, leave it out")
        if self.modality == "CT" and self.output.parts != ("magnitude",):
            raise ValueError("output.parts: CT images are real, leave it out")
        return self

    @model_validator(mode="after")
    def _coils_fit(self) -> Self:
        if self.acquisition.kind == "non_cartesian":
            if self.partial_fourier is not None:
                raise ValueError("partial_fourier: is for cartesian, leave it out")
            if self.coil_compression and self.coil_compression.method == "geometric":
                raise ValueError("coil_compression.method: geometric is for cartesian, use svd")
        if self.coil_maps is None or self.coil_maps.sets == 1:
            return self
        if self.prior is not None:
            raise ValueError(
                f"coil_maps.sets: {self.coil_maps.sets} sets make as many images, and a prior "
                "takes one; use sets: 1 or leave out prior and sampler"
            )
        for index, baseline in enumerate(self.baselines):
            if baseline.method not in _COMBINABLE:
                raise ValueError(
                    f"baselines.{index}.method: {baseline.method} takes one set of coil maps, use "
                    "cg_sense or coil_maps.sets: 1"
                )
        return self

    @model_validator(mode="after")
    def _methods_fit(self) -> Self:
        kind, seen = self.acquisition.kind, set[str]()
        for index, baseline in enumerate(self.baselines):
            where = f"baselines.{index}.method"
            if baseline.method not in METHODS[kind]:
                known = ", ".join(METHODS[kind])
                raise ValueError(f"{where}: {baseline.method} is not for {kind}, use {known}")
            if baseline.method in seen:
                raise ValueError(f"{where}: {baseline.method} is listed twice")
            seen.add(baseline.method)
            if self.modality == "CT" and baseline.method == "tv" and baseline.weight is None:
                raise ValueError(
                    f"baselines.{index}.weight: total variation needs a weight above 0"
                )
        return self

    @model_validator(mode="after")
    def _start_is_made(self) -> Self:
        made = [baseline.method for baseline in self.baselines]
        if self.sampler and self.sampler.start != "noise" and self.sampler.start not in made:
            raise ValueError(
                f"sampler.start: {self.sampler.start} is not among the baselines "
                f"({', '.join(made)}), add it there or start from noise"
            )
        return self

    @model_validator(mode="after")
    def _prior_and_sampler_come_together(self) -> Self:
        if (self.prior is None) != (self.sampler is None):
            present, absent = ("prior", "sampler") if self.prior else ("sampler", "prior")
            raise ValueError(f"{absent}: needed as {present} is given, or leave out both")
        return self

    @field_serializer("field_map_file", when_used="json")
    def _name_only(self, value: str | None) -> str | None:
        return None if value is None else Path(value).name  # records of a run tell no folders
