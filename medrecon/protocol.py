"""What to do with a scan: a frozen tree of settings, every field with its unit in its name.

The tree holds no tensors and no paths of data.  :func:`medrecon.protocol_files.load_protocol` reads
it from strict YAML.  A check between fields raises ``ValueError("key: what is wrong")``, the key
relative to the part that checks.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Size = Annotated[int, Field(gt=0, le=8192)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class Settings(BaseModel):
    """Base of every part: immutable, strict types, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _offset_within(offset: float, width: float, axis: str) -> None:
    if abs(offset) >= width / 2:
        raise ValueError(
            f"{axis}_offset_mm: {offset:g} mm moves the detector ({width:g} mm) off the central ray"
        )


def _detector_beyond_axis(source_to_axis: float, source_to_detector: float) -> None:
    if source_to_detector <= source_to_axis:
        raise ValueError(
            f"source_to_detector_mm: {source_to_detector:g} mm must exceed source_to_axis_mm "
            f"({source_to_axis:g} mm)"
        )


class _Scan(Settings):
    views: Count
    arc_deg: Positive = 360.0
    start_deg: Finite = 0.0
    columns: Count
    column_spacing_mm: Positive
    column_offset_mm: Finite = 0.0
    photons: Positive | None = None
    """Unattenuated quanta per detector cell and view, for ``simulate``; null: no noise."""

    @model_validator(mode="after")
    def _detector_is_seen(self) -> Self:
        _offset_within(self.column_offset_mm, self.columns * self.column_spacing_mm, "column")
        return self


class ParallelScan(_Scan):
    """Parallel beam."""

    kind: Literal["parallel"]


class FanScan(_Scan):
    """Fan beam, flat detector."""

    kind: Literal["fan"]
    source_to_axis_mm: Positive
    source_to_detector_mm: Positive

    @model_validator(mode="after")
    def _distances(self) -> Self:
        _detector_beyond_axis(self.source_to_axis_mm, self.source_to_detector_mm)
        return self


class ConeScan(_Scan):
    """Circular cone beam, flat detector."""

    kind: Literal["cone"]
    source_to_axis_mm: Positive
    source_to_detector_mm: Positive
    rows: Count
    row_spacing_mm: Positive
    row_offset_mm: Finite = 0.0

    @model_validator(mode="after")
    def _distances(self) -> Self:
        _detector_beyond_axis(self.source_to_axis_mm, self.source_to_detector_mm)
        _offset_within(self.row_offset_mm, self.rows * self.row_spacing_mm, "row")
        return self


class CartesianScan(Settings):
    """Cartesian multi-coil MR; ``run`` undersamples fully sampled data by it, if it says so."""

    kind: Literal["cartesian"]
    pattern: Literal["as_measured", "uniform", "random", "poisson"] = "as_measured"
    acceleration: Annotated[float, Field(ge=1, le=64)] = 1.0
    calibration_lines: Annotated[int, Field(ge=0, le=1024)] = 24
    coils: Annotated[int, Field(ge=1, le=128)] = 8
    """Number of receive coils, for ``simulate``."""
    noise_std: NonNegative = 0.0
    """Added complex noise relative to the image's 99th percentile, for ``simulate``."""

    @model_validator(mode="after")
    def _pattern_accelerates(self) -> Self:
        if self.pattern == "as_measured" and self.acceleration != 1:
            raise ValueError(
                "acceleration: needs a pattern (uniform, random or poisson); as_measured keeps "
                "every sample"
            )
        return self


class GridSettings(Settings):
    """The volume to reconstruct, axial, in the scanner's frame."""

    shape: Annotated[tuple[Size, Size, Size], Field(strict=False)]
    """Voxels along z, y, x."""
    spacing_mm: Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]
    """Voxel size along z, y, x."""
    center_mm: Annotated[tuple[Finite, Finite, Finite], Field(strict=False)] = (0.0, 0.0, 0.0)
    """LPS x, y, z of the volume's middle, seen from the middle of the scanner."""


class Prior(Settings):
    """Which trained prior, and how it is applied."""

    name: str
    """A shipped prior (see ``medrecon priors``) or a folder with weights and card."""
    batch: Count = 8
    """Slices denoised at once; changes speed and memory, not the result."""


class Noise(Settings):
    """How the estimate is noised again after every step (the law between two noise levels)."""

    law: Literal["ddim", "dds", "fresh"] = "fresh"
    """``ddim``: DDIM's eta; ``dds``: the released DDS code's eta; ``fresh``: all new noise."""
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of new noise under the law (ignored by ``fresh``)."""
    correlation_mm: NonNegative = 0.0
    """Length over which the noise of neighbouring slices stays alike; 0: independent."""


class ConjugateGradients(Settings):
    """How every data-consistency system is solved."""

    max_iterations: Count = 60
    tolerance: Positive = 0.1
    """Error that may stay, in standard deviations of the posterior, averaged over the voxels."""
    preconditioner: Literal["none", "diagonal", "circulant"] = "diagonal"
    """diagonal: for few or weighted data; circulant: for densely and evenly sampled data."""
    noise_stop: NonNegative = 0.0
    """Also stop when the data misfit falls to this multiple of the noise (Morozov); 0: never."""


class TVz(Settings):
    """Total variation along z inside the sampler, by ADMM."""

    weight: Positive
    """In nats times mm per unit of the normalised image; larger is smoother along z."""
    penalty: Positive = 10.0
    """ADMM's rho over the weight; changes convergence, not the optimum."""


class Sampler(Settings):
    """Decomposed diffusion sampling (DDS): denoise, make consistent, noise again."""

    steps: Count = 20
    sigma_start: Positive = 1.0
    """First noise level, in the prior's unit (CT: 1 = 1300 HU)."""
    sigma_end: Positive = 0.01
    schedule_exponent: Positive = 7.0
    """Karras' rho: how the levels crowd towards the end."""
    start: Literal["fbp", "fdk", "cgls", "tv", "adjoint", "cg_sense", "noise"]
    """The baseline that noise of the first level is added to, or noise alone."""
    trust: Positive = 1.0
    """Factor on the denoiser's own (validation) error variance: above 1 follows the data more."""
    noise: Noise = Noise()
    cg: ConjugateGradients = ConjugateGradients()
    tv_z: TVz | None = None

    @model_validator(mode="after")
    def _levels_fall(self) -> Self:
        if self.sigma_end >= self.sigma_start:
            raise ValueError(
                f"sigma_end: {self.sigma_end:g} must be below sigma_start ({self.sigma_start:g})"
            )
        return self


class Baseline(Settings):
    """A classical reconstruction, made beside the sampler's and shown with it."""

    method: Literal["fbp", "fdk", "cgls", "tv", "zero_filled", "adjoint", "cg_sense"]
    iterations: Count = 100
    weight: NonNegative = 0.0
    """TV weight, nats mm per unit, or Tikhonov lambda, nats per unit squared, of the normalised
    image (see docs/conventions.md)."""
    filter: Literal["ramlak", "shepp_logan", "cosine", "hann"] = "ramlak"

    @model_validator(mode="after")
    def _tv_has_weight(self) -> Self:
        if self.method == "tv" and self.weight == 0:
            raise ValueError("weight: total variation needs a weight above 0")
        return self


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


METHODS: dict[str, tuple[str, ...]] = {
    "parallel": ("fbp", "cgls", "tv"),
    "fan": ("fbp", "cgls", "tv"),
    "cone": ("fdk", "cgls", "tv"),
    "cartesian": ("zero_filled", "adjoint", "cg_sense", "tv"),
}
"""Which baselines exist for which kind of acquisition."""


class Protocol(Settings):
    """A whole protocol.

    Every measured or simulated scan becomes a volume by the same steps: read, baselines, sampler,
    write.  ``prior`` and ``sampler`` null: only the baselines are run, the last one is the result.
    """

    schema_version: Literal[1]
    name: Label
    title: str
    modality: Literal["CT", "MR"]
    acquisition: Annotated[
        ParallelScan | FanScan | ConeScan | CartesianScan, Field(discriminator="kind")
    ]
    grid: GridSettings | None = None
    """CT: required. MR: null, the scan's header says it."""
    mu_water_per_mm: Positive = 0.0195
    """Water's attenuation at the scan's energy, 1/mm (CT)."""
    model_std: NonNegative = 0.0
    """Deviation of the line integrals that the model cannot explain (discretisation, scatter);
    adds to the noise in quadrature, dimensionless (CT)."""
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
