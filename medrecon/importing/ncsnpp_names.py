"""Names of a score_sde network's weights in ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from medrecon.errors import WeightsError
from medrecon.importing.ncsnpp_modules import ForeignModule
from medrecon.priors.networks.fir import FilteredConv
from medrecon.priors.networks.ncsnpp import DecoderLevel, EncoderLevel, NCSNpp
from medrecon.priors.networks.ncsnpp_blocks import ResidualBlock
from medrecon.priors.networks.registry import build_network

_RESIDUAL = {
    "GroupNorm_0": "norm1",
    "Conv_0": "conv1",
    "Dense_0": "time",
    "GroupNorm_1": "norm2",
    "Conv_1": "conv2",
    "Conv_2": "shortcut",
    "NIN_0": "shortcut",
}
_ATTENTION = {
    "GroupNorm_0": "norm",
    "NIN_0": "query",
    "NIN_1": "key",
    "NIN_2": "value",
    "NIN_3": "out",
}
_PLAIN = {"": ""}
_CONVOLUTIONS = (nn.Conv2d, FilteredConv)


def rename(modules: Sequence[ForeignModule], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """Give the weights the names they have in :class:`~medrecon.priors.networks.ncsnpp.NCSNpp`.

    Linear layers over channels become 1x1 convolutions.

    Raises
    ------
    WeightsError
        If the network of these settings has other modules.
    """
    with torch.device("meta"):
        network = build_network("ncsnpp", settings)
    assert isinstance(network, NCSNpp)
    places = list(_places(network))
    if len(places) < len(modules):
        raise WeightsError(
            f"The weights have {len(modules)} modules, their network would have {len(places)}."
        )
    renamed = {}
    for number, (module, (folder, parts)) in enumerate(zip(modules, places, strict=False)):
        for name, value in module.tensors.items():
            part, _, leaf = name.rpartition(".")
            if part not in parts:
                raise WeightsError(f"Module {number} of the weights has an unexpected {name}.")
            if leaf == "W" and value.dim() == 2:
                value = value.T[:, :, None, None]
            leaf = {"W": "weight", "b": "bias"}.get(leaf, leaf)
            renamed[".".join(filter(None, (folder, parts[part], leaf)))] = value
    return renamed


Place = tuple[str, Mapping[str, str]]
"""A folder of our names, and what the parts of the foreign module are called in it."""


def _places(network: NCSNpp) -> Iterator[Place]:
    """Walk our modules in the order in which score_sde numbers its own."""
    if network.features is not None:
        yield "features", _PLAIN
    for k in range(len(network.time)):
        yield f"time.{k}", _PLAIN
    yield "head", _PLAIN
    yield from _encoder(cast("Iterable[EncoderLevel]", network.encoder))
    yield from (("middle.0", _RESIDUAL), ("middle.1", _ATTENTION), ("middle.2", _RESIDUAL))
    yield from _decoder(cast("Iterable[DecoderLevel]", network.decoder))
    if network.tail is not None:
        yield "tail.norm", _PLAIN
        yield "tail.conv", _PLAIN


def _encoder(levels: Iterable[EncoderLevel]) -> Iterator[Place]:
    for k, level in enumerate(levels):
        for number in range(len(level.blocks)):
            yield f"encoder.{k}.blocks.{number}", _RESIDUAL
            if level.attention:
                yield f"encoder.{k}.attention.{number}", _ATTENTION
        if level.resample is not None:
            yield f"encoder.{k}.resample", _parts(level.resample)
        if level.join is not None:
            yield f"encoder.{k}.join", _parts(level.join)


def _decoder(levels: Iterable[DecoderLevel]) -> Iterator[Place]:
    for k, level in enumerate(levels):
        for number in range(len(level.blocks)):
            yield f"decoder.{k}.blocks.{number}", _RESIDUAL
        if level.attention is not None:
            yield f"decoder.{k}.attention", _ATTENTION
        if level.gather is not None:
            yield f"decoder.{k}.gather.tail.norm", _PLAIN
            yield f"decoder.{k}.gather.tail.conv", _PLAIN
        if level.resample is not None:
            yield f"decoder.{k}.resample", _parts(level.resample)


def _parts(module: nn.Module) -> Mapping[str, str]:
    """Parts of what resamples: a residual block, or the one convolution inside."""
    if isinstance(module, ResidualBlock):
        return _RESIDUAL
    convolution = next(
        (name for name, part in module.named_modules() if isinstance(part, _CONVOLUTIONS)), ""
    )
    return {"Conv_0": convolution, "Conv2d_0": convolution}
