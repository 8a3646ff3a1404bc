"""Weights of guided-diffusion (ADM), as DDS, DPS, DDIP and DiffusionBlend release them."""

from __future__ import annotations

from typing import Any

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
from medrecon.priors.diffusion import Schedule

LAYOUT = "guided-diffusion"
_MARKS = ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight")
_HEAD_WIDTHS = (64, 32)
_HEAD_COUNTS = (4, 1)
"""Released models have 64 channels per head, the code's default is four heads."""


def recognise(state: State, config: Config | None) -> Recognised | None:
    """Recognise an ADM U-Net of any size: everything but the heads is in the shapes.

    Raises
    ------
    WeightsError
        If it is one that cannot serve: conditional, latent, coloured, 3D or incomplete.
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
    if any("transformer_blocks" in key or key.startswith("label_emb") for key in weights):
        raise WeightsError(
            f"The {LAYOUT} network is conditional on a class or a text; only unconditional ones "
            "are denoisers by themselves."
        )
    if weights["input_blocks.0.0.weight"].ndim != 4:
        raise WeightsError(f"The {LAYOUT} network is not two-dimensional.")
    channels = image_channels(weights["input_blocks.0.0.weight"].shape[1], LAYOUT)
    outputs = weights["out.2.weight"].shape[0]
    if outputs not in (channels, 2 * channels):
        raise WeightsError(
            f"The {LAYOUT} network makes {outputs} channels of {channels}; expected as many or "
            "twice as many."
        )
    settings = {
        "channels": channels,
        "outputs": outputs,
        "base": weights["time_embed.0.weight"].shape[1],
        **_levels(weights),
        "middle_attention": "middle_block.1.qkv.weight" in weights,
    }
    choices = _head_choices(settings, config)
    notes = ["the learned variance is not used"] if outputs > channels else []
    if len(choices) > 1:
        notes.append("the number of attention heads is not in the file")
    return Recognised(
        layout=LAYOUT,
        kind="adm",
        settings={**settings, **choices[0]},
        state=weights,
        channels=channels,
        parametrisation=_parametrisation(config),
        schedule=_schedule(config),
        alternatives=tuple(choices[1:]),
        notes=tuple(notes),
    )


def _levels(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Read widths, blocks and attention off the way up, where each level ends by upsampling."""
    widths, blocks, attention, scale_shift, resblock = [], [0], [False], False, False
    count = 0
    while (first := f"output_blocks.{count}.0") + ".out_layers.3.weight" in weights:
        width = weights[f"{first}.out_layers.3.weight"].shape[0]
        if blocks[-1] == 0:
            widths.append(width)
        scale_shift = weights[f"{first}.emb_layers.1.weight"].shape[0] == 2 * width
        blocks[-1] += 1
        attention[-1] |= f"output_blocks.{count}.1.qkv.weight" in weights
        layers = [f"output_blocks.{count}.{k}" for k in (1, 2)]
        grows = [f"{at}.in_layers.2.weight" in weights for at in layers]
        resblock |= any(grows)
        if any(grows) or any(f"{at}.conv.weight" in weights for at in layers):
            blocks.append(0)
            attention.append(False)
        count += 1
    if not widths or len(widths) != len(blocks):
        raise WeightsError(f"The {LAYOUT} weights are not complete: the way up ends early.")
    return {
        "widths": widths[::-1],
        "blocks": [n - 1 for n in blocks[::-1]],
        "attention": attention[::-1],
        "scale_shift": scale_shift,
        "resblock_updown": resblock,
    }


def _head_choices(settings: dict[str, Any], config: Config | None) -> list[dict[str, Any]]:
    """All heads that fit the widths, the likeliest first; one where the configuration says it."""
    width, count = positive(config, "num_head_channels"), positive(config, "num_heads")
    order = lookup(config, "use_new_attention_order")
    if width is not None:
        told = [_by_width(settings, int(width))]
    elif count is not None:
        told = [_by_count(settings, int(count))]
    else:
        told = [
            *(_by_width(settings, n) for n in _HEAD_WIDTHS),
            *(_by_count(settings, n) for n in _HEAD_COUNTS),
        ]
    heads = [h for k, h in enumerate(told) if h is not None and h not in told[:k]]
    if not heads:
        raise WeightsError(
            f"The attention heads of the configuration do not divide the {LAYOUT} network's "
            f"widths {', '.join(map(str, settings['widths']))}."
        )
    orders = [bool(order)] if order is not None else [False, True]
    choices = [{"heads": h, "new_order": new} for new in orders for h in heads]
    # With one head per level both orders are the same.
    return [c for k, c in enumerate(choices) if k == 0 or not (c["new_order"] and _single(c))]


def _single(choice: dict[str, Any]) -> bool:
    return all(n == 1 for n in choice["heads"])


def _attending(settings: dict[str, Any]) -> list[bool]:
    *rest, last = settings["attention"]
    return [*rest, last or settings["middle_attention"]]


def _by_width(settings: dict[str, Any], width: int) -> list[int] | None:
    pairs = list(zip(settings["widths"], _attending(settings), strict=True))
    fits = all(w % width == 0 for w, used in pairs if used)
    return [w // width if used else 1 for w, used in pairs] if fits else None


def _by_count(settings: dict[str, Any], count: int) -> list[int] | None:
    pairs = list(zip(settings["widths"], _attending(settings), strict=True))
    fits = all(w % count == 0 for w, used in pairs if used)
    return [count if used else 1 for _, used in pairs] if fits else None


def _parametrisation(config: Config | None) -> Any:
    told = lookup(config, "predict_xstart")
    return None if told is None else ("x0" if told else "eps")


def _schedule(config: Config | None) -> Schedule | None:
    name = lookup(config, "noise_schedule")
    steps = int(positive(config, "diffusion_steps", "num_diffusion_timesteps") or 1000)
    if name == "cosine":
        return schedule_of(kind="cosine", steps=steps)
    if name == "linear":  # the same noise in however many steps
        return schedule_of(kind="linear", start=0.1 / steps, end=20 / steps, steps=steps)
    return None
