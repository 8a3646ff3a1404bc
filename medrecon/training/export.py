"""From averaged weights to a prior: half-precision weights and a card, measured and written."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from medrecon.priors.card import (
    Architecture,
    Card,
    Intensity,
    Level,
    Source,
    write_card,
)
from medrecon.priors.network import EDM, UNet
from medrecon.priors.weights import save_weights
from medrecon.training.denoising import CleanSet, seconds_per_slice, table
from medrecon.training.settings import PERCENTILE, WINDOW_HU, Recipe

UNKNOWN_LIMITATIONS = (
    "Knows what its training data show and nothing else. It can invent structure where the "
    "measurements do not decide. Research use, not for diagnosis."
)
"""For priors of which nobody has said more."""
ALONE = "without neighbours"
"""Name of the validation slices seen one by one, among the sets unlike training."""
_ANATOMY = Source(name="Procedural anatomy of medrecon", licence="Apache-2.0")


@dataclass(frozen=True)
class Measured:
    """What a prior is measured on.

    Parameters
    ----------
    validation
        Slices of patients that were not trained on.
    ood
        Sets unlike training, by name.
    pixel_mm
        Smallest and largest pixel of the training data; ``None`` where not known.
    """

    validation: CleanSet
    ood: Mapping[str, CleanSet] = field(default_factory=dict)
    pixel_mm: tuple[float, float] | None = None


def export_prior(
    network: UNet, folder: Path, recipe: Recipe, measured: Measured, *, training: str
) -> Card:
    """Write ``weights.safetensors`` (float16) and ``card.json`` of a network.

    All figures of the card are measured with the weights as written, on the CPU.

    Parameters
    ----------
    network
        The averaged network.
    folder
        Where the prior goes; made if it is not there.
    recipe
        What it was trained by.
    measured
        Images for the figures.
    training
        How it was trained, in words.

    Returns
    -------
    Card
        As written.
    """
    written = written_network(network, recipe)
    model = EDM(written, recipe.deviation)
    side = recipe.data.size
    card = Card(
        **_of_recipe(recipe),
        pixel_mm=measured.pixel_mm,
        validation=table(model, measured.validation, neighbours=True),
        validation_ood=_ood(model, measured),
        training=f"{training}; measured on {_machine()}",
        data=_sources(recipe),
        limitations=recipe.limitations or UNKNOWN_LIMITATIONS,
        parameters=sum(p.numel() for p in written.parameters()),
        seconds_per_slice=float(f"{seconds_per_slice(model, side) * (256 / side) ** 2:.3g}"),
        sha256=save_weights(written, folder),
    )
    write_card(card, folder)
    return card


def export_candidate(
    network: UNet, folder: Path, recipe: Recipe, errors: Mapping[float, float]
) -> None:
    """Write a prior that is only to be tried: its card knows the errors and little else."""
    levels = tuple(Level(sigma=s, psnr_db=0.0, mse=error) for s, error in errors.items())
    card = Card(
        **_of_recipe(recipe),
        pixel_mm=None,
        validation=levels,
        training="not finished",
        data=(),
        limitations=UNKNOWN_LIMITATIONS,
        sha256=save_weights(network, folder),
    )
    write_card(card, folder)


def written_network(network: UNet, recipe: Recipe) -> UNet:
    """Copy a network to the CPU with its weights rounded as they are written."""
    shape = recipe.network
    copy = UNet(recipe.channels, shape.widths, shape.blocks, shape.embedding, shape.neighbours)
    copy.load_state_dict(
        {key: value.cpu().half().float() for key, value in network.state_dict().items()}
    )
    return copy.eval().requires_grad_(False)


def _of_recipe(recipe: Recipe) -> dict[str, Any]:
    """Entries of a card that are known before anything is trained."""
    return {
        "name": recipe.name,
        "title": recipe.title,
        "modality": recipe.modality,
        "parametrisation": "edm",
        "architecture": _architecture(recipe),
        "intensity": _intensity(recipe),
        "sigma_data": recipe.deviation,
        "sigma_range": (recipe.noise.lowest, recipe.noise.highest),
        "licence": recipe.licence,
    }


def _architecture(recipe: Recipe) -> Architecture:
    return Architecture(channels=recipe.channels, **recipe.network.model_dump(exclude={"initial"}))


def _intensity(recipe: Recipe) -> Intensity:
    if recipe.modality == "CT":
        return Intensity(window_hu=WINDOW_HU)
    return Intensity(percentile=PERCENTILE)


def _sources(recipe: Recipe) -> tuple[Source, ...]:
    named = tuple(Source(**source.model_dump()) for source in recipe.data.sources)
    if recipe.data.synthetic < 1 and not named:
        named = (Source(name="files of the user", licence="not stated"),)
    return (*named, _ANATOMY) if recipe.data.synthetic else named


def _ood(model: EDM, measured: Measured) -> dict[str, tuple[Level, ...]]:
    sets = {name: table(model, clean, neighbours=True) for name, clean in measured.ood.items()}
    if model.network.neighbours and bool(measured.validation.present.any()):
        sets[ALONE] = table(model, measured.validation, neighbours=False)
    return sets


def _machine() -> str:
    threads = torch.get_num_threads()
    return f"{platform.machine()}, {threads} thread{'s' * (threads > 1)}, single precision"
