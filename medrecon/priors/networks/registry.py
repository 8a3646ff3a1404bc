"""Networks by the name their card gives them; a network is imported only when it is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from torch import Tensor, nn

from medrecon.errors import WeightsError

_HOMES = {
    "adm": "medrecon.priors.networks.adm:ADM",
    "ncsnpp": "medrecon.priors.networks.ncsnpp:NCSNpp",
    "diffusers-unet": "medrecon.priors.networks.diffusers_unet:DiffusersUNet",
}


class ImageNetwork(Protocol):
    """What a network of another project is to :class:`~medrecon.priors.wrapped.Wrapped`."""

    channels: int
    """Image channels in; the output's first ones mean the same image."""
    stride: int
    """Height and width have to be multiples of it."""

    def __call__(self, x: Tensor, label: Tensor) -> Tensor:
        """Apply it to (batch, channels, y, x) with one noise label per image, (batch,)."""


def build_network(kind: str, settings: Mapping[str, Any]) -> nn.Module:
    """Build a network from the ``architecture`` of a card, with random weights.

    Under ``torch.device("meta")`` nothing is allocated.

    Raises
    ------
    WeightsError
        If there is no such network, or it does not take these settings.
    """
    if kind not in _HOMES:
        raise WeightsError(f"There is no network {kind!r}; known are {', '.join(_HOMES)}.")
    home, name = _HOMES[kind].split(":")
    network = cast("Callable[..., nn.Module]", getattr(import_module(home), name))
    try:
        inspect.signature(network).bind(**settings)
    except TypeError as error:
        raise WeightsError(f"The network {kind} does not fit its settings: {error}.") from None
    try:
        return network(**settings)
    except (TypeError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        first = str(error).splitlines()[0].rstrip(".")
        raise WeightsError(f"The network {kind} cannot be built: {first}.") from None
