"""What to do with a scan: a frozen tree of settings, every field with its unit in its name.

The tree holds no tensors and no paths of data.  :func:`load_protocol` reads it from strict YAML.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0, le=1_000_000)]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


class Settings(BaseModel):
    """Base of every part: immutable, strict types, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Scan(Settings):
    views: Count
    arc_deg: Positive = 360.0
    start_deg: Finite = 0.0
    columns: Count
    column_spacing_mm: Positive
    column_offset_mm: Finite = 0.0
    photons: Positive | None = None
    """Unattenuated quanta per detector cell and view, for ``simulate``; null: no noise."""


class ParallelScan(_Scan):
    """Parallel beam."""

    kind: Literal["parallel"]


class FanScan(_Scan):
    """Fan beam, flat detector."""

    kind: Literal["fan"]
    source_to_axis_mm: Positive
    source_to_detector_mm: Positive


class ConeScan(_Scan):
    """Circular cone beam, flat detector."""

    kind: Literal["cone"]
    source_to_axis_mm: Positive
    source_to_detector_mm: Positive
    rows: Count
    row_spacing_mm: Positive
    row_offset_mm: Finite = 0.0


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


class GridSettings(Settings):
    """The volume to reconstruct, axial, in the scanner's frame."""

    shape: Annotated[tuple[int, int, int], Field(strict=False)]
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

    max_iterations: Count = 30
    tolerance: Positive = 1e-3
    """Stop at this relative residual of the preconditioned system."""
    preconditioner: Literal["none", "diagonal", "circulant"] = "circulant"
    noise_stop: NonNegative = 0.0
    """Also stop when the data misfit falls to this multiple of the noise (Morozov); 0: never."""


class TVz(Settings):
    """Total variation along z inside the sampler, by ADMM."""

    weight: Positive
    """In units of the normalised image per unit noise; larger is smoother along z."""
    penalty: Positive = 1.0
    """ADMM's rho relative to the weight; changes convergence, not the optimum."""


class Sampler(Settings):
    """Decomposed diffusion sampling (DDS): denoise, make consistent, noise again."""

    steps: Count = 20
    sigma_start: Positive = 1.0
    """First noise level, in the prior's unit (CT: 1 = 1300 HU)."""
    sigma_end: Positive = 0.01
    schedule_exponent: Positive = 7.0
    """Karras' rho: how the levels crowd towards the end."""
    start: Literal["baseline", "noise"] = "baseline"
    """Start from the first baseline plus noise, or from noise alone."""
    trust: Positive = 1.0
    """c in r^2 = c s^2/(1+s^2), the variance given to the denoiser's estimate at level s."""
    noise: Noise = Noise()
    cg: ConjugateGradients = ConjugateGradients()
    tv_z: TVz | None = None


class Baseline(Settings):
    """A classical reconstruction, made beside the sampler's and shown with it."""

    method: Literal["fbp", "fdk", "cgls", "tv", "zero_filled", "adjoint", "cg_sense"]
    iterations: Count = 100
    weight: NonNegative = 0.0
    """TV weight or Tikhonov lambda, in normalised units (see docs/conventions.md)."""
    filter: Literal["ramlak", "shepp_logan", "cosine", "hann"] = "ramlak"


class Preview(Settings):
    """Window of the PNG preview: CT in HU, MR relative to the 99.5th percentile."""

    low: Finite
    high: Finite


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
    acquisition: Annotated[
        ParallelScan | FanScan | ConeScan | CartesianScan, Field(discriminator="kind")
    ]
    grid: GridSettings | None = None
    """CT: required. MR: null, the scan's header says it."""
    mu_water_per_mm: Positive = 0.0195
    """Water's attenuation at the scan's energy, 1/mm (CT)."""
    baselines: Annotated[tuple[Baseline, ...], Field(strict=False, min_length=1)]
    prior: Prior | None = None
    sampler: Sampler | None = None
    output: Output = Output()
