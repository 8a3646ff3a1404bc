"""Weights of priors: found by name, checked against their card, never unpickled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from medrecon.devices import has_fast_bfloat16
from medrecon.errors import WeightsError
from medrecon.priors.card import (
    CARD_FILE,
    WEIGHTS_FILE,
    Architecture,
    Card,
    ForeignArchitecture,
    read_card,
)
from medrecon.priors.network import EDM, UNet
from medrecon.priors.networks.registry import build_network
from medrecon.priors.precision import choose_precision
from medrecon.priors.slicewise import Slicewise
from medrecon.priors.wrapped import Wrapped

SHIPPED = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Prior:
    """A trained prior, ready to denoise volumes, and its card."""

    denoiser: Slicewise
    card: Card


def shipped_priors() -> tuple[Card, ...]:
    """Cards of the priors inside the package."""
    return tuple(read_card(path.parent) for path in sorted(SHIPPED.glob(f"*/{CARD_FILE}")))


def prior_folder(name: str) -> Path:
    """Folder of a shipped prior by name, or of the user's own by path.

    Raises
    ------
    WeightsError
        If there is neither.
    """
    if (SHIPPED / name / CARD_FILE).is_file() and "/" not in name:
        return SHIPPED / name
    if (Path(name) / CARD_FILE).is_file():
        return Path(name)
    known = ", ".join(card.name for card in shipped_priors()) or "none"
    raise WeightsError(
        f"There is no prior {name!r} (shipped: {known}) and no folder of that name with a card."
    )


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_prior(
    name: str, *, batch: int = 8, device: str = "cpu", precision: str = "float32"
) -> Prior:
    """Load a prior by name or folder.

    Parameters
    ----------
    name
        See :func:`prior_folder`.
    batch
        Slices denoised at once.
    device
        Where the network lives.
    precision
        Of its convolutions, see :func:`~medrecon.priors.precision.choose_precision`.

    Raises
    ------
    WeightsError
        If the weights are missing, damaged, of another network or not those of the card.
    """
    folder = prior_folder(name)
    card = read_card(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise WeightsError(f"The prior {card.name!r} has no {WEIGHTS_FILE} beside its card.")
    digest = sha256(path)
    if digest != card.sha256:
        raise WeightsError(
            f"The weights of prior {card.name!r} are not those of its card (sha256 {digest[:12]}, "
            f"expected {card.sha256[:12]}); install them again."
        )
    network = _network(card.architecture)
    try:
        state = {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
        network.load_state_dict(state, assign=True)
    except (SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[-1].strip()
        raise WeightsError(
            f"The weights of prior {card.name!r} do not fit the network of its card: {first}"
        ) from None
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise WeightsError(f"The weights of prior {card.name!r} contain NaN or infinite numbers.")
    network = network.eval().requires_grad_(False).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    levels = tuple((level.sigma, level.mse) for level in card.validation)
    single = Slicewise(_model(network, card), levels, batch)
    chosen = choose_precision(
        precision,
        lambda x, sigma, kind: replace(single, precision=kind)(x, sigma),
        levels,
        channels=2 if card.modality == "MR" else 1,
        device=device,
        fast=precision == "auto" and has_fast_bfloat16(device),
    )
    on_gpu = torch.device(device).type == "cuda"
    return Prior(replace(single, precision=chosen, graphs=on_gpu), card)


def _network(shape: Architecture | ForeignArchitecture) -> nn.Module:
    """Build a card's network without memory for its weights."""
    with torch.device("meta"):
        if isinstance(shape, ForeignArchitecture):
            return build_network(shape.kind, shape.settings)
        return UNet(shape.channels, shape.widths, shape.blocks, shape.embedding, shape.neighbours)


def _model(network: nn.Module, card: Card) -> EDM | Wrapped:
    """Make the network a denoiser of slices."""
    if card.diffusion is not None:
        return Wrapped(network, card.diffusion, complex_images=card.modality == "MR")
    return EDM(cast("UNet", network), card.sigma_data)


def stored(value: Tensor) -> Tensor:
    """Round a weight to half precision where that holds its numbers and saves anything.

    Vectors stay as they are; among them are frequencies, whose small errors grow into large ones.
    """
    if value.ndim < 2 or not value.is_floating_point():
        return value
    half = value.half()
    return half if bool(torch.isfinite(half).all()) else value


def save_weights(network: nn.Module, folder: Path) -> str:
    """Write a network's weights, see :func:`stored`; returns their sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: stored(value).contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / WEIGHTS_FILE)
    return sha256(folder / WEIGHTS_FILE)
