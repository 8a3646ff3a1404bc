"""A recipe: everything that decides what a training run makes, as one immutable tree.

A check between fields raises ``ValueError("key: what is wrong")``, the key relative to the part
that checks.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medrecon.protocol.settings import Count, Label, NonNegative, Positive, Settings, Share, Size

Modality = Literal["CT", "MR"]
Paths = Annotated[tuple[str, ...], Field(strict=False)]
SIGMA_DATA = {"CT": 0.45, "MR": 0.25}
"""Deviation of typical clean slices in the prior's unit."""
WINDOW_HU = (-1000.0, 1600.0)
"""What the CT prior's [-1, 1] stands for."""
PERCENTILE = 99.5
"""Of a volume's magnitude: what the MR prior's 1 stands for."""
_STRIDE = 2
_Width = Annotated[int, Field(ge=8, le=4096, multiple_of=8)]


class DataSource(BaseModel):
    """Training data and their licence, for the card."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    licence: str
    citation: str = ""


class Data(Settings):
    """Which images, and how they become slices.

    Paths are files or folders (searched with their subfolders) of DICOM series, NIfTI volumes and
    HDF5 slices; relative ones are meant from the recipe's folder, those of shipped recipes from the
    working directory.
    """

    train: Paths = ()
    validation: Paths = ()
    """Of other patients. Empty: ``validation_share`` of the patients in ``train``."""
    validation_share: Share = 0.1
    ood: dict[Label, Paths] = Field(default_factory=dict)
    """Named sets that are out of distribution; the prior's denoising of them goes into the card."""
    synthetic: Share = 0.0
    """Share of the drawn slices that are procedural anatomy; 1 needs no patient data."""
    size: Size = 256
    """Slices are cut or padded to this many pixels a side."""
    pixel_mm: Positive | None = None
    """Volumes are resampled in plane to this pixel; null: they keep theirs."""
    neighbour_correlation: Share = 0.9
    """Slices less alike than this are no neighbours: files hold gaps, and other patients."""
    neighbour_reach: Annotated[int, Field(ge=1, le=8)] = 2
    """A neighbour is at most this many slices away, so that other spacings are met."""
    cache: str | None = None
    """A folder that keeps prepared volumes, mapped into memory: they may be larger than it, and are
    read once for all runs. null: nothing is kept."""
    sources: Annotated[tuple[DataSource, ...], Field(strict=False)] = ()


class Network(Settings):
    """Arguments of :class:`~medrecon.priors.network.UNet`."""

    widths: Annotated[tuple[_Width, ...], Field(strict=False, min_length=1, max_length=6)] = (
        *(48, 96, 144),
    )
    blocks: Annotated[int, Field(ge=1, le=16)] = 2
    embedding: Annotated[int, Field(ge=8, le=4096)] = 128
    neighbours: bool = True
    """Whether a slice is denoised with those below and above it in view."""
    initial: str | None = None
    """A prior, shipped or a folder, or the safetensors of one to start from; null: afresh."""


class NoiseLaw(Settings):
    """Which noise levels are trained: log-normal, and a share log-uniform over the range."""

    lowest: Positive = 0.004
    highest: Positive = 12.0
    log_mean: float = -1.3
    log_std: Positive = 1.4
    uniform: Share = 0.1

    @model_validator(mode="after")
    def _range_is_open(self) -> Self:
        if self.highest <= self.lowest:
            raise ValueError(f"highest: {self.highest:g} must be above lowest ({self.lowest:g})")
        return self


class Stage(Settings):
    """A part of the run and the patches that take turns in it."""

    until: Annotated[float, Field(gt=0, le=1)]
    """Share of the steps after which the next stage begins; the last stage has 1."""
    sizes: Annotated[tuple[Size, ...], Field(strict=False, min_length=1)]
    """Pixels a side; multiples of the network's stride."""


class Patches(Settings):
    """What one step sees."""

    pixels: Annotated[int, Field(ge=256, le=2**27)] = 65536
    """Per step, whatever the patch: half the side is four times the patches."""
    stages: Annotated[tuple[Stage, ...], Field(strict=False, min_length=1)] = (
        Stage(until=0.35, sizes=(64, 128)),
        Stage(until=1.0, sizes=(64, 128, 64, 256)),
    )
    neighbours: Share = 0.5
    """Share of the patches with neighbours that show them; the others are trained alone."""
    one_neighbour: Share = 0.15
    """Of the patches that show neighbours, share that has lost one: the ends of a stack."""

    @model_validator(mode="after")
    def _stages_follow(self) -> Self:
        ends = [stage.until for stage in self.stages]
        if sorted(set(ends)) != ends or ends[-1] != 1:
            raise ValueError("stages: 'until' has to grow from stage to stage and end at 1")
        return self


class Augmentation(Settings):
    """Shares of the slices that are changed, each in one way."""

    mirror: Share = 0.5
    """Left to right."""
    turn: Share = 0.0
    """Turned by up to 10 degrees and zoomed by up to 15 %."""
    flip: Share = 0.0
    """Front to back."""
    coarser: Share = 0.0
    """The same anatomy on 128 to 248 of 256 pixels."""
    contrast: Share = 0.0
    """Another curve of intensities (MR)."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Intensities are multiplied by 1 +- this (MR)."""
    bias: Share = 0.0
    """A smooth field of coil intensity (MR)."""
    detailed_phase: Share = 0.65
    """The phase has detail: bumps, dipoles, tissue; all others are smooth (MR)."""


class Optimiser(Settings):
    """AdamW under a cosine, and the average of its weights."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    warmup: Count = 300
    """Steps."""
    weight_decay: NonNegative = 0.01
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    average: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Half-life of the averaged weights, as a share of the steps."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the device computes in it, products only."""
    compile: bool = False
    """Let torch compile the network first (needs a C++ compiler on CPUs)."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes that draw batches; changes the speed, not the result."""


class Budget(Settings):
    """How long: ``steps``, or ``minutes`` that the first steps are timed to turn into steps."""

    steps: Annotated[int, Field(ge=0, le=10**8)] | None = None
    """0: nothing is trained; the initial weights are measured and get a card."""
    minutes: Positive | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.steps is None) == (self.minutes is None):
            raise ValueError("give one of steps and minutes (null takes the other away)")
        return self


class Validation(Settings):
    """When and on how much the network is scored while it trains."""

    every_steps: Count | None = None
    every_minutes: Positive | None = None
    """Turned into steps by the first ones; null, and every_steps too: at a tenth of the run."""
    slices: Count = 16

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.every_steps is not None and self.every_minutes is not None:
            raise ValueError("every_steps: give it or every_minutes, not both")
        return self


class Downstream(Settings):
    """The reconstruction by which the best weights are chosen."""

    protocol: str
    """A protocol with a prior and a total-variation baseline: ``ct_fan_32``, ``mr_x4`` (made for
    this), a shipped one, or a file."""
    slices: Annotated[int, Field(ge=1, le=64)] = 4
    settings: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """``key=value`` changes of the protocol, as for ``--set``."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Recipe(Settings):
    """A whole training run."""

    schema_version: Literal[1]
    name: Label
    title: str
    modality: Modality
    licence: str = "not stated; see the licences of the data"
    """Of the weights."""
    training: str | None = None
    """How the weights were made, for the card; null: what the run did."""
    limitations: str | None = None
    """What the prior does not know; null: a general warning."""
    data: Data
    network: Network = Network()
    sigma_data: Positive | None = None
    """Deviation of clean slices; null: 0.45 for CT, 0.25 for MR."""
    noise: NoiseLaw = NoiseLaw()
    patches: Patches = Patches()
    augment: Augmentation = Augmentation()
    optimiser: Optimiser = Optimiser()
    budget: Budget
    validation: Validation = Validation()
    downstream: Downstream | None = None
    """null: the best weights are those that denoise best."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def channels(self) -> Literal[1, 2]:
        """Real channels of a slice."""
        return 1 if self.modality == "CT" else 2

    @property
    def deviation(self) -> float:
        """``sigma_data``, or that of the modality."""
        return self.sigma_data or SIGMA_DATA[self.modality]

    @model_validator(mode="after")
    def _fits_the_network(self) -> Self:
        stride = _STRIDE ** len(self.network.widths)
        if self.data.size % stride:
            raise ValueError(
                f"data.size: {self.data.size} is no multiple of {stride}, which a network of "
                f"{len(self.network.widths)} levels needs"
            )
        for stage in self.patches.stages:
            for size in stage.sizes:
                if size % stride:
                    raise ValueError(f"patches.stages: {size} is no multiple of {stride}")
        return self

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.data.synthetic < 1 and not self.data.train:
            raise ValueError("data.train: name files or folders, or set data.synthetic to 1")
        return self

    @model_validator(mode="after")
    def _mr_only(self) -> Self:
        for key in ("contrast", "brightness", "bias"):
            if self.modality == "CT" and getattr(self.augment, key):
                raise ValueError(f"augment.{key}: is for MR; Hounsfield units are not free")
        return self
