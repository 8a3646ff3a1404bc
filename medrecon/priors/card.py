"""The card of a trained prior: what it is, what it was trained on, and how well it denoises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from medrecon.errors import UnreadableError, WeightsError
from medrecon.priors.diffusion import Diffusion, Parametrisation

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
    """Training data and its licence."""

    name: str
    licence: str
    citation: str = ""


class Architecture(_Part):
    """Arguments of :class:`~medrecon.priors.network.UNet`."""

    channels: Literal[1, 2]
    widths: tuple[int, ...]
    blocks: int
    embedding: int
    neighbours: bool = False
    """Whether a slice is denoised with the noisy slices below and above it in view."""


class ForeignArchitecture(_Part):
    """A network of another project, by its name in :mod:`medrecon.priors.networks.registry`."""

    kind: str
    channels: Literal[1, 2]
    """1 for MR: the real and the imaginary part are denoised as two images."""
    settings: dict[str, Any]
    """Arguments of the network."""

    @property
    def neighbours(self) -> bool:
        """No foreign network sees the slices below and above."""
        return False


class Intensity(_Part):
    """How image values become the prior's.

    CT: the HU ``window`` maps linearly to [-1, 1].  MR: complex values are divided by the
    ``percentile`` of the magnitude, so that it becomes 1.
    """

    window_hu: tuple[float, float] | None = None
    percentile: float | None = None


class Level(_Part):
    """Denoising of validation slices (other patients) at one noise level."""

    sigma: float
    psnr_db: float
    """Data range 2."""
    mse: float
    """Mean squared error per real channel, in the prior's unit."""


class Card(_Part):
    """Model card of a prior; ``card.json`` beside ``weights.safetensors``."""

    name: str
    title: str
    modality: Literal["CT", "MR"]
    parametrisation: Parametrisation
    architecture: Architecture | ForeignArchitecture
    intensity: Intensity
    sigma_data: Annotated[float, Field(gt=0)]
    sigma_range: tuple[float, float]
    pixel_mm: tuple[float, float] | None
    """Range of pixel sizes in the training data; null where not known."""
    validation: tuple[Level, ...]
    validation_ood: dict[str, tuple[Level, ...]] = {}
    """The same on images unlike those of training, by the name of the set."""
    training: str
    data: tuple[Source, ...]
    licence: str
    limitations: str
    sha256: str
    diffusion: Diffusion | None = None
    """How an imported network was trained; our own are denoisers themselves."""
    assumptions: tuple[str, ...] = ()
    """Of an imported network: what its file does not say and an import took for granted."""
    parameters: int | None = None
    seconds_per_slice: float | None = None
    """Of 256 x 256 pixels, on the machine named in ``training``."""
    schedules: dict[str, dict[int, tuple[float, ...]]] = {}
    """Noise levels found best for a task, by its name and the number of steps."""

    @model_validator(mode="after")
    def _foreign_networks_say_how(self) -> Card:
        if isinstance(self.architecture, ForeignArchitecture) != (self.diffusion is not None):
            raise ValueError("imported networks, and only they, say how they were trained")
        return self


def read_card(folder: Path) -> Card:
    """Read a prior's card.

    Raises
    ------
    WeightsError
        If it is missing or not a valid card.
    """
    path = folder / CARD_FILE
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError:
        raise WeightsError(
            f"The prior {folder.name!r} has no {CARD_FILE}; run `medrecon priors` for those there."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise WeightsError(
            f"The card of prior {folder.name!r} is not valid at {where}: {first['msg']}."
        ) from None


def read_sources(path: Path) -> tuple[Source, ...]:
    """Read a JSON list of training data, ``[{"name": ..., "licence": ..., "citation": ...}]``.

    Raises
    ------
    UnreadableError
        If it is missing or something else.
    """
    try:
        return TypeAdapter(tuple[Source, ...]).validate_json(path.read_bytes())
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its start"
        raise UnreadableError(
            f"{path} is no list of sources, at {where}: {first['msg']}."
        ) from None


def write_card(card: Card, folder: Path) -> None:
    """Write ``card.json`` into ``folder``."""
    text = json.dumps(card.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")
