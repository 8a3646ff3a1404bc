"""The state of a run, and its file: all that a restart needs to go on to the same bits."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from medrecon.errors import OutputError, WeightsError
from medrecon.priors.network import EDM, UNet
from medrecon.priors.weights import load_prior
from medrecon.training.randomness import Stream, seed_of
from medrecon.training.settings import Recipe


@dataclass
class State:
    """Weights, their average, the optimiser and what the run has decided and seen.

    Parameters
    ----------
    model
        What is trained.
    average
        Its exponential average, which becomes the prior.
    optimiser
        AdamW over ``model``.
    step
        Steps made.
    steps
        Of the whole run; ``None`` until the first ones are timed.
    validate_every
        Steps between two validations; ``None`` as ``steps``.
    loss
        Running mean.
    best
        Score of the best weights so far.
    seconds
        Time spent so far, over all restarts.
    history
        One row per validation.
    losses
        ``[step, loss]`` every so often.
    """

    model: EDM
    average: EDM
    optimiser: torch.optim.AdamW
    step: int = 0
    steps: int | None = None
    validate_every: int | None = None
    loss: float | None = None
    best: float | None = None
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)


_FACTS = (*("step", "steps", "validate_every", "loss", "best", "seconds", "history", "losses"),)


def network_of(recipe: Recipe) -> UNet:
    """Make the network of a recipe, its weights drawn by the recipe's seed."""
    torch.manual_seed(seed_of(recipe.seed, Stream.WEIGHTS))
    shape = recipe.network
    return UNet(recipe.channels, shape.widths, shape.blocks, shape.embedding, shape.neighbours)


def new_state(recipe: Recipe, device: str) -> State:
    """Begin a run.

    Raises
    ------
    WeightsError
        If the initial weights are missing, damaged or of another network.
    """
    network = network_of(recipe)
    if recipe.network.initial is not None:
        _take(network, recipe.network.initial)
    model = EDM(network, recipe.deviation).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False).eval()
    optimiser = torch.optim.AdamW(
        model.parameters(),
        recipe.optimiser.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=recipe.optimiser.weight_decay,
    )
    return State(model, average, optimiser)


def _take(network: UNet, initial: str) -> None:
    path = Path(initial)
    try:
        if path.suffix == ".safetensors":
            values = {key: value.float() for key, value in load_file(path).items()}
        else:
            values = dict(load_prior(initial).denoiser.model.network.state_dict())
        network.load_state_dict(values)
    except (OSError, RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[-1].strip()
        raise WeightsError(
            f"The initial weights {initial} do not fit the recipe's network: {first}"
        ) from None


def save_state(state: State, path: Path) -> None:
    """Write the state; the file appears whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    for prefix, network in (("model", state.model.network), ("average", state.average.network)):
        tensors |= {f"{prefix}.{key}": value for key, value in network.state_dict().items()}
    for i, parameter in enumerate(state.model.parameters()):
        for name, value in state.optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{i}.{name}"] = value
    facts = {name: getattr(state, name) for name in _FACTS}
    part = path.with_suffix(".part")
    try:
        save_file(
            {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()},
            part,
            {"state": json.dumps(facts)},
        )
        part.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"The checkpoint {path} cannot be written: {error}.") from None


def load_state(state: State, path: Path) -> None:
    """Go on from a file of :func:`save_state`.

    Raises
    ------
    WeightsError
        If it is damaged or of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            for name, network in (
                ("model", state.model.network),
                ("average", state.average.network),
            ):
                network.load_state_dict(
                    {key: file.get_tensor(f"{name}.{key}") for key in network.state_dict()}
                )
            _load_optimiser(state, file)
            facts = json.loads(file.metadata()["state"])
            for name in _FACTS:
                setattr(state, name, facts[name])
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, OSError):
        raise WeightsError(
            f"The checkpoint {path} is damaged or of another network; train with the recipe it was "
            "made by, or choose another output."
        ) from None
    state.losses = [(int(step), float(loss)) for step, loss in state.losses]


def read_facts(path: Path) -> dict[str, Any]:
    """Read what a checkpoint says of its run, by the names of :class:`State`.

    Raises
    ------
    WeightsError
        If it is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["state"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError):
        raise WeightsError(f"The checkpoint {path} is damaged.") from None
    return facts


def _load_optimiser(state: State, file: Any) -> None:
    keys = set(file.keys())
    for i, parameter in enumerate(state.model.parameters()):
        if f"optimiser.{i}.step" not in keys:
            continue
        moments = {"step": file.get_tensor(f"optimiser.{i}.step")}
        for name in ("exp_avg", "exp_avg_sq"):
            stored = file.get_tensor(f"optimiser.{i}.{name}")
            moments[name] = torch.empty_like(parameter).detach().copy_(stored)
        state.optimiser.state[parameter] = moments
