"""From a training checkpoint to a prior that can be shipped: half-precision weights and a card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor

from medrecon.priors.card import Architecture, Card, Intensity, Level, Source, write_card
from medrecon.priors.network import EDM, UNet, position_channels
from medrecon.priors.training import TrainingPlan
from medrecon.priors.weights import save_weights

LEVELS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_INTENSITY = {
    "ct": Intensity(window_hu=(-1000.0, 1600.0)),
    "mr": Intensity(percentile=99.5),
}
UNKNOWN_LIMITATIONS = (
    "Knows what its training data show and nothing else. It can invent structure where the "
    "measurements do not decide. Research use, not for diagnosis."
)
"""For priors of which nobody has said more."""
_LIMITATIONS = {
    "ct": (
        "Trained on axial slices of adult chest, abdomen and head at 1 to 2 mm pixels; metal, "
        "contrast phases, children and other regions may lie outside what it knows. It can "
        "invent structure where the data do not decide. Research use, not for diagnosis."
    ),
    "mr": (
        "Trained on axial magnitude slices, mostly brain T1, T2 and FLAIR at 0.94 mm and coarser, "
        "with simulated smooth phase; other regions, contrasts and rough phase may lie outside "
        "what it knows. It can invent structure where the data do not decide. Research use, not "
        "for diagnosis."
    ),
}


@torch.no_grad()
def measure(model: EDM, images: Tensor, levels: Sequence[float] = LEVELS) -> tuple[Level, ...]:
    """Denoise clean validation images (batch, channels, y, x) at several noise levels."""
    position = position_channels(images.shape[-2], images.shape[-1])
    measured = []
    for sigma in levels:
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
        noisy = images + sigma * noise
        clean = [
            model(part, torch.full((len(part),), sigma), position.expand(len(part), -1, -1, -1))
            for part in torch.split(noisy, 4)
        ]
        error = float((torch.cat(clean) - images).square().mean())
        psnr = round(float(10 * torch.log10(torch.tensor(4 / error))), 2)
        measured.append(Level(sigma=sigma, psnr_db=psnr, mse=float(f"{error:.4e}")))
    return tuple(measured)


def export_prior(
    checkpoint: Path,
    folder: Path,
    plan: TrainingPlan,
    validation: Tensor,
    *,
    name: str,
    title: str,
    sources: Sequence[Source],
    pixel_mm: tuple[float, float] | None,
    licence: str = "Apache-2.0; see the licences of the data",
    limitations: str | None = None,
) -> Card:
    """Write ``weights.safetensors`` (float16) and ``card.json`` of a checkpoint's averaged weights.

    Parameters
    ----------
    checkpoint
        Written by :func:`medrecon.priors.training.train`.
    folder
        Where the prior goes.
    plan
        The plan it was trained by.
    validation
        Clean images of other patients, on which the card's figures are measured.
    name, title
        Of the prior.
    sources
        Training data and licences.
    pixel_mm
        Smallest and largest pixel of the training data, mm; ``None`` where not known.
    licence
        Of the weights.
    limitations
        What the prior does not know; ``None``: those of the shipped prior of its modality.
    """
    channels: Literal[1, 2] = 2 if plan.modality == "mr" else 1
    network = UNet(channels, plan.widths, plan.blocks)
    with safe_open(checkpoint, "pt") as file:
        network.load_state_dict(
            {key: file.get_tensor(f"ema.{key}").half().float() for key in network.state_dict()}
        )
        steps = file.metadata()["step"]
    network.eval()
    card = Card(
        name=name,
        title=title,
        modality="CT" if plan.modality == "ct" else "MR",
        parametrisation="edm",
        architecture=Architecture(
            channels=channels, widths=plan.widths, blocks=plan.blocks, embedding=128
        ),
        intensity=_INTENSITY[plan.modality],
        sigma_data=plan.sigma_data,
        sigma_range=plan.sigma_range,
        pixel_mm=pixel_mm,
        validation=measure(EDM(network, plan.sigma_data), validation),
        training=(
            f"{steps} steps of {plan.pixels_per_step} pixels, AdamW {plan.learning_rate:g} with "
            "cosine decay, bfloat16, patches of 64 to 256 pixels with position channels, "
            f"exponential average; seed {plan.seed}"
        ),
        data=tuple(sources),
        licence=licence,
        limitations=limitations or _LIMITATIONS[plan.modality],
        sha256=save_weights(network, folder),
    )
    write_card(card, folder)
    return card
