"""Weights of MONAI's DiffusionModelUNet, renamed to the same network as guided-diffusion's."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from medrecon.errors import WeightsError
from medrecon.importing.layout import (
    Config,
    Recognised,
    State,
    image_channels,
    lookup,
    positive,
    state_dicts,
)
from medrecon.importing.told import schedule_of
from medrecon.priors.diffusion import Parametrisation, Schedule

LAYOUT = "MONAI DiffusionModelUNet"
_MARKS = ("time_embed.0.weight", "conv_in.conv.weight", "out.2.conv.weight")
_HEAD_WIDTHS = (8, 64, 32, 16)
"""MONAI's default first."""
_PARAMETRISATIONS: dict[Any, Parametrisation] = {
    "epsilon": "eps",
    "sample": "x0",
    "v_prediction": "v",
}
_SCHEDULES: dict[Any, Any] = {
    "linear_beta": "linear",
    "scaled_linear_beta": "scaled-linear",
    "cosine": "cosine",
}
_NAMES = {
    "norm1": "in_layers.0",
    "conv1.conv": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2.conv": "out_layers.3",
    "skip_connection.conv": "skip_connection",
    "op.conv": "op",
    "postconv.conv": "conv",
}


def recognise(state: State, config: Config | None) -> Recognised | None:
    """Recognise a two-dimensional network without conditions.

    Raises
    ------
    WeightsError
        If it is one that cannot serve: conditional, latent, 3D or incomplete.
    """
    for weights in state_dicts(state):
        if all(mark in weights for mark in _MARKS):
            try:
                return _recognised(weights, config)
            except KeyError as error:
                raise WeightsError(
                    f"The {LAYOUT} weights are not complete: {error.args[0]} is missing."
                ) from None
    return None


def _recognised(weights: dict[str, Tensor], config: Config | None) -> Recognised:
    if any("transformer_blocks" in key or "class_embedding" in key for key in weights):
        raise WeightsError(
            f"The {LAYOUT} is conditional on a class or a context; only unconditional ones are "
            "denoisers by themselves."
        )
    if weights["conv_in.conv.weight"].ndim != 4:
        raise WeightsError(f"The {LAYOUT} is not two-dimensional.")
    channels = image_channels(weights["conv_in.conv.weight"].shape[1], LAYOUT)
    shape = _shape(weights)
    choices = _head_choices(shape, config)
    settings: dict[str, Any] = {
        "channels": channels,
        "outputs": weights["out.2.conv.weight"].shape[0],
        "base": weights["time_embed.0.weight"].shape[1],
        **shape,
        "new_order": True,
        "groups": int(positive(config, "norm_num_groups") or 0) or _groups(shape["widths"]),
        "eps": positive(config, "norm_eps") or 1e-6,
    }
    notes = ["the number of attention heads is not in the file"] if len(choices) > 1 else []
    return Recognised(
        layout=LAYOUT,
        kind="adm",
        settings={**settings, "heads": choices[0]},
        state=_renamed(weights, shape),
        channels=channels,
        parametrisation=_PARAMETRISATIONS.get(str(lookup(config, "prediction_type"))),
        schedule=_schedule(config),
        alternatives=tuple({"heads": heads} for heads in choices[1:]),
        notes=tuple(notes),
    )


def _count(weights: dict[str, Tensor], pattern: str) -> int:
    found = [int(m[1]) for key in weights if (m := re.match(pattern, key))]
    return 1 + max(found, default=-1)


def _shape(weights: dict[str, Tensor]) -> dict[str, Any]:
    levels = _count(weights, r"down_blocks\.(\d+)\.")
    if levels == 0 or f"down_blocks.{levels - 1}.resnets.0.conv2.conv.weight" not in weights:
        raise WeightsError(f"The {LAYOUT} weights are not complete: the way down is missing.")
    here = range(levels)
    return {
        "widths": [weights[f"down_blocks.{n}.resnets.0.conv2.conv.weight"].shape[0] for n in here],
        "blocks": [_count(weights, rf"down_blocks\.{n}\.resnets\.(\d+)\.") for n in here],
        "attention": [_count(weights, rf"down_blocks\.{n}\.attentions\.(\d+)\.") > 0 for n in here],
        "resblock_updown": "down_blocks.0.downsampler.conv1.conv.weight" in weights,
    }


def _groups(widths: list[int]) -> int:
    """MONAI's default, or what divides the widths."""
    return next(n for n in (32, 16, 8, 4, 2, 1) if all(width % n == 0 for width in widths))


def _head_choices(shape: dict[str, Any], config: Config | None) -> list[list[int]]:
    widths, attention = shape["widths"], [*shape["attention"][:-1], True]
    told = lookup(config, "num_head_channels")
    if isinstance(told, list | tuple) and len(told) == len(widths):
        pairs = zip(told, widths, strict=True)
        guesses = [[n if isinstance(n, int) and n > 0 else width for n, width in pairs]]
    else:
        one = None if isinstance(told, list | tuple) else positive(config, "num_head_channels")
        each = [int(one)] if one is not None else [*_HEAD_WIDTHS, None]
        guesses = [[n or width for width in widths] for n in each]
    choices = []
    for guess in guesses:
        each_level = list(zip(widths, guess, attention, strict=True))
        if all(width % n == 0 for width, n, used in each_level if used):
            heads = [width // n if used else 1 for width, n, used in each_level]
            if heads not in choices:
                choices.append(heads)
    if not choices:
        raise WeightsError(
            f"The attention heads of the configuration do not divide the widths of the {LAYOUT}, "
            f"{', '.join(map(str, widths))}."
        )
    return choices


def _renamed(weights: dict[str, Tensor], shape: dict[str, Any]) -> dict[str, Tensor]:
    """Rename to the network of guided-diffusion, which has the same layers in the same order."""
    places = _places(shape)
    out: dict[str, Tensor] = {}
    for key, value in weights.items():
        if key.startswith("time_embed.") or key.startswith("out.0."):
            out[key] = value
        elif key.startswith("out.2.conv."):
            out[key.replace("out.2.conv.", "out.2.")] = value
        elif key.startswith("conv_in.conv."):
            out[key.replace("conv_in.conv.", "input_blocks.0.0.")] = value
        else:
            place = next((p for p in places if key.startswith(f"{p}.")), None)
            if place is None:
                raise WeightsError(f"The {LAYOUT} weights hold {key}, which is not known there.")
            inner, _, kind = key.removeprefix(f"{place}.").rpartition(".")
            if not inner.startswith("attn."):
                out[f"{places[place]}.{_NAMES.get(inner, inner)}.{kind}"] = value
    for place, target in places.items():
        if f"{place}.norm.weight" in weights:
            out |= _attention(weights, f"{place}.attn", target)
    return out


def _attention(weights: dict[str, Tensor], place: str, target: str) -> dict[str, Tensor]:
    """Make queries, keys and values one layer, and linear layers convolutions over pixels.

    They stand one after the other, all heads of each: the new order of guided-diffusion.
    """
    out = {}
    for kind in ("weight", "bias"):
        if f"{place}.qkv.{kind}" in weights:
            every = weights[f"{place}.qkv.{kind}"]
        else:
            every = torch.cat([weights[f"{place}.to_{part}.{kind}"] for part in "qkv"])
        last = weights.get(f"{place}.out_proj.{kind}", _no_projection(every, kind))
        out[f"{target}.qkv.{kind}"] = every[..., None] if kind == "weight" else every
        out[f"{target}.proj_out.{kind}"] = last[..., None] if kind == "weight" else last
    return out


def _no_projection(every: Tensor, kind: str) -> Tensor:
    """Stand in for the last layer, which MONAI can leave out."""
    width = len(every) // 3
    return torch.eye(width).to(every) if kind == "weight" else torch.zeros(width).to(every)


def _places(shape: dict[str, Any]) -> dict[str, str]:
    """Blocks of MONAI and where guided-diffusion has them."""
    places, stage = {}, 1
    levels = len(shape["widths"])
    for level in range(levels):
        for k in range(shape["blocks"][level]):
            places[f"down_blocks.{level}.resnets.{k}"] = f"input_blocks.{stage}.0"
            places[f"down_blocks.{level}.attentions.{k}"] = f"input_blocks.{stage}.1"
            stage += 1
        if level < levels - 1:
            places[f"down_blocks.{level}.downsampler"] = f"input_blocks.{stage}.0"
            stage += 1
    for k, name in enumerate(("resnet_1", "attention", "resnet_2")):
        places[f"middle_block.{name}"] = f"middle_block.{k}"
    stage = 0
    for level in range(levels):
        deep = levels - 1 - level
        for k in range(shape["blocks"][deep] + 1):
            places[f"up_blocks.{level}.resnets.{k}"] = f"output_blocks.{stage}.0"
            places[f"up_blocks.{level}.attentions.{k}"] = f"output_blocks.{stage}.1"
            stage += 1
        after = 2 if shape["attention"][deep] else 1
        places[f"up_blocks.{level}.upsampler"] = f"output_blocks.{stage - 1}.{after}"
    return places


def _schedule(config: Config | None) -> Schedule | None:
    name = str(lookup(config, "schedule"))
    if name not in _SCHEDULES:
        return None
    return schedule_of(
        kind=_SCHEDULES[name],
        start=positive(config, "beta_start") or 1e-4,
        end=positive(config, "beta_end") or 0.02,
        steps=int(positive(config, "num_train_timesteps") or 1000),
    )
