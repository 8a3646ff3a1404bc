"""The whole tree of a protocol.

A check between fields raises ``ValueError("key: what is wrong")``, the key relative to the part
that checks.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medrecon.protocol.corrections import BeamHardening, Counts, Rings, TiffImages
from medrecon.protocol.methods import METHODS, Baseline
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


class Output(Settings):
    """What to write."""

    nifti: bool = True
    dicom: bool = True
    preview: Preview | None = None
    series_description: Annotated[str, Field(max_length=40)] = "medrecon"


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
    baselines: Annotated[tuple[Baseline, ...], Field(strict=False, min_length=1)]
    prior: Prior | None = None
    sampler: Sampler | None = None
    output: Output = Output()

    @model_validator(mode="after")
    def _modality_fits(self) -> Self:
        kind = self.acquisition.kind
        if (self.modality == "MR") != (kind == "cartesian"):
            raise ValueError(f"acquisition.kind: {kind} is not {self.modality}")
        if self.modality == "CT" and self.grid is None:
            raise ValueError("grid: a CT protocol has to say shape and spacing_mm of the volume")
        if self.modality == "MR" and self.grid is not None:
            raise ValueError("grid: an MR scan's header says the grid, leave it out")
        for name in ("beam_hardening", "rings", "file"):
            if self.modality == "MR" and getattr(self, name) is not None:
                raise ValueError(f"{name}: is for CT, leave it out")
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
