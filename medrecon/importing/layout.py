"""What a foreign checkpoint turns out to be; each layout has a module with a ``recognise``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medrecon.errors import WeightsError
from medrecon.priors.diffusion import Parametrisation, Schedule, Time
from medrecon.priors.networks.registry import build_network

State = Mapping[str, Tensor]
"""Tensors by path: keys of a state dict as they are, nested containers and lists joined by ``/``
(``ema/shadow_params/0``, ``model/module.all_modules.0.W``)."""
Config = Mapping[str, Any]
"""Settings that came with the file or from the user, as plain values."""


@dataclass(frozen=True, eq=False)
class Recognised:
    """A foreign network in our terms; ``None`` where the file does not say.

    A layout module gives ``recognise(state, config) -> Recognised | None``: ``None`` where the keys
    are not its own, :class:`~medrecon.errors.WeightsError` where they are but cannot be used
    (class-conditional, latent, 3D, keys missing). It looks at names and shapes only, so that the
    tensors may live on the ``meta`` device.
    """

    layout: str
    """Name of the layout, for people."""
    kind: str
    """Name of the network in :mod:`medrecon.priors.networks.registry`."""
    settings: dict[str, Any]
    """Arguments of the network, plain JSON values."""
    state: dict[str, Tensor]
    """Weights under the network's own names, complete."""
    channels: int
    """Image channels, 1 or 2."""
    parametrisation: Parametrisation | None = None
    schedule: Schedule | None = None
    time: Time = "index"
    range: tuple[float, float] | None = None
    sigma_data: float | None = None
    size: int | None = None
    """Height and width of the training images."""
    alternatives: tuple[dict[str, Any], ...] = ()
    """Other values of ``settings`` that fit the shapes as well; the self-test chooses."""
    notes: tuple[str, ...] = ()
    """Sentences for the card: what was assumed or left out."""

    def network(self, overrides: Mapping[str, Any] | None = None) -> nn.Module:
        """Build the network with its weights.

        Parameters
        ----------
        overrides
            One of ``alternatives``.

        The network is built without memory and takes over the weights, so it may hold no buffer
        that is not saved with them.

        Raises
        ------
        WeightsError
            If the weights do not fit: keys missing, keys left over or other shapes.
        """
        with torch.device("meta"):
            network = build_network(self.kind, {**self.settings, **(overrides or {})})
        check_fit(network, self.state, self.layout)
        weights = {k: v.float() if v.is_floating_point() else v for k, v in self.state.items()}
        network.load_state_dict(weights, assign=True)
        return network.eval().requires_grad_(False)


def check_fit(network: nn.Module, state: State, layout: str) -> None:
    """Refuse weights that are not exactly those of the network."""
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    there = {key: tuple(value.shape) for key, value in state.items()}
    problems = [
        *(f"{key} is missing" for key in wanted.keys() - there.keys()),
        *(f"{key} is not known" for key in there.keys() - wanted.keys()),
        *(
            f"{key} has the shape {there[key]} instead of {wanted[key]}"
            for key in wanted.keys() & there.keys()
            if wanted[key] != there[key]
        ),
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise WeightsError(
            f"The weights look like {layout} but do not fit that network: {min(problems)}{more}."
        )


def subtree(state: State, folder: str) -> dict[str, Tensor]:
    """Tensors below a folder of the path, ``ema`` or ``model``, without it; empty where absent."""
    start = f"{folder}/"
    return {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}


def plain(state: State) -> dict[str, Tensor]:
    """Without the ``module.`` and ``_orig_mod.`` that wrappers put before the names."""
    for prefix in ("module.", "_orig_mod.", "model.", "unet."):
        if state and all(key.startswith(prefix) for key in state):
            return plain({key.removeprefix(prefix): value for key, value in state.items()})
    return dict(state)


def state_dicts(state: State) -> Iterator[dict[str, Tensor]]:
    """Yield the file's weights from where people put them, averaged ones first."""
    folders = {key.split("/")[0] for key in state if "/" in key}
    usual = ("ema", "ema_model", "model_ema", "state_dict", "unet_state_dict", "model", "net")
    for folder in [*usual, *sorted(folders - set(usual))]:
        if folder in folders:
            below = subtree(state, folder)
            if any("/" not in key for key in below):
                yield plain({k: v for k, v in below.items() if "/" not in k})
    root = {key: value for key, value in state.items() if "/" not in key}
    if root:
        yield plain(root)


def lookup(config: Config | None, *names: str) -> Any:
    """Find the first of ``names`` anywhere in a configuration, outer levels first; else ``None``.

    References and expressions of a MONAI bundle (``"@name"``, ``"$code"``) are not values.
    """
    level: list[Any] = [config or {}]
    while level:
        for name in names:
            for block in level:
                value = block.get(name) if isinstance(block, Mapping) else None
                if value is not None and not (isinstance(value, str) and value[:1] in "@$"):
                    return value
        level = [
            item
            for block in level
            for item in (block.values() if isinstance(block, Mapping) else block)
            if isinstance(item, Mapping | list | tuple)
        ]
    return None


def positive(config: Config | None, *names: str) -> float | None:
    """Find a positive number as :func:`lookup` does; -1, which means no setting, is none.

    Raises
    ------
    WeightsError
        If it is something else.
    """
    found = lookup(config, *names)
    if found is None or found == -1:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1e6:
        raise WeightsError(f"The setting {names[0]} is {found!r}, no positive number.")
    return found


def image_channels(count: int, layout: str) -> int:
    """Check that images are real or complex ones.

    Raises
    ------
    WeightsError
        If they have another number of channels.
    """
    if count not in (1, 2):
        raise WeightsError(
            f"The {layout} network takes images of {count} channels; medrecon's are real (1) or "
            "complex (2), not coloured or latent."
        )
    return count
