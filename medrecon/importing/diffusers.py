"""Folders that diffusers writes: UNet2DModel and the scheduler beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from medrecon.errors import WeightsError
from medrecon.importing.diffusers_scheduler import read_training
from medrecon.importing.layout import Config, Recognised, State, state_dicts
from medrecon.importing.told import Told

LAYOUT = "diffusers UNet2DModel"

_BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "UpBlock2D",
           "AttnUpBlock2D", "ResnetUpsampleBlock2D")  # fmt: skip
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def recognise(state: State, config: Config | None = None) -> Recognised | None:
    """Recognise the weights of a ``UNet2DModel``.

    What shapes do not tell is taken from ``config``, the content of ``config.json`` with that of
    ``scheduler_config.json`` as its section ``scheduler``; without it, the network has the
    defaults of diffusers, the size of its attention heads becomes ``alternatives``, and how it was
    trained is not known.

    Raises
    ------
    WeightsError
        If the network is guided by text or classes, has blocks that are made for colour images,
        or was trained in a way that has no denoiser of ours.
    """
    weights = next((w for w in state_dicts(state) if _is_ours(w)), None)
    if weights is None:
        return None
    weights = {_new_name(key): value for key, value in weights.items()}
    told = Told(config or {})
    _check_supported(weights, told)
    shape = _shape(weights)
    settings = {**shape, **_untold(weights, shape, told)}
    training = read_training(told.any("scheduler"), fourier=shape["embedding"] == "fourier")
    return Recognised(
        layout=LAYOUT,
        kind="diffusers-unet",
        settings=settings,
        state=weights,
        channels=shape["channels"],
        parametrisation=training.parametrisation,
        schedule=training.schedule,
        time=training.time,
        sigma_data=training.sigma_data,
        range=(0.0, 1.0) if settings["centre"] else None,
        size=_size(told),
        alternatives=_alternatives(shape, settings, told),
    )


def _is_ours(weights: Mapping[str, Tensor]) -> bool:
    wanted = {"conv_in.weight", "time_embedding.linear_1.weight", "conv_out.weight"}
    return wanted <= weights.keys() and any(key.startswith("down_blocks.") for key in weights)


def _new_name(key: str) -> str:
    """Names of attention as diffusers changed them in 2023."""
    parts = key.split(".")
    if "attentions" in parts and parts[-2] in _OLD_NAMES:
        return ".".join([*parts[:-2], _OLD_NAMES[parts[-2]], parts[-1]])
    return "time_proj.weight" if key == "time_proj.W" else key


def _check_supported(weights: Mapping[str, Tensor], told: Told) -> None:
    named = told.any("_class_name")
    if named not in (None, "UNet2DModel") or any("transformer_blocks" in key for key in weights):
        raise WeightsError(
            f"The network is a {named or 'UNet2DConditionModel'}; of diffusers, UNet2DModel is "
            "supported, which sees nothing but the image."
        )
    if any(key.startswith("class_embedding") for key in weights):
        raise WeightsError("The network is guided by classes of images; a prior knows none.")
    types = {*_words(told, "down_block_types"), *_words(told, "up_block_types")}
    strange = sorted(kind for kind in types if kind.removeprefix("UNetRes") not in _BLOCKS)
    strange += sorted({key.split(".")[2] for key in weights if ".skip_conv." in key})
    if strange:
        raise WeightsError(
            f"The network has blocks {strange[0]}, which are made for colour images."
        )
    convolutions = [f"conv_{end}.weight" for end, _ in _ENDS]
    if any(weights[k].dim() != 4 for k in convolutions) or any(
        value.dim() == 0 for value in weights.values()
    ):
        raise WeightsError("The weights have the names of diffusers but not their dimensions.")
    channels, outputs = (int(weights[f"conv_{end}.weight"].shape[axis]) for end, axis in _ENDS)
    if channels > 2 or outputs not in (channels, 2 * channels):
        raise WeightsError(
            f"The network makes {outputs} channels of {channels}; a prior needs images of 1 (real) "
            "or 2 (complex), with or without a learned variance."
        )


_ENDS = (("in", 1), ("out", 0))


def _words(told: Told, name: str) -> tuple[str, ...]:
    found = told.any(name)
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def _shape(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read off names and shapes what they tell."""

    def count(start: str) -> int:
        at = start.count(".")
        return len({key.split(".")[at] for key in weights if key.startswith(start)})

    def levels(side: str, rest: str) -> tuple[int, ...]:
        return tuple(k for k in range(depth) if f"{side}_blocks.{k}.{rest}" in weights)

    depth = count("down_blocks.")
    first = "down_blocks.{}.resnets.0.conv1.weight"
    if any(first.format(k) not in weights for k in range(depth)):
        raise WeightsError("The weights of diffusers have no residual blocks on some level.")
    widths = tuple(int(weights[first.format(k)].shape[0]) for k in range(depth))
    scaled = weights.get("down_blocks.0.resnets.0.time_emb_proj.bias")
    features = weights.get("time_proj.weight")
    return {
        "channels": int(weights["conv_in.weight"].shape[1]),
        "outputs": int(weights["conv_out.weight"].shape[0]),
        "widths": widths,
        "layers": count("down_blocks.0.resnets."),
        "attention_down": levels("down", "attentions.0.to_q.weight"),
        "attention_up": levels("up", "attentions.0.to_q.weight"),
        "residual_down": levels("down", "downsamplers.0.conv1.weight"),
        "residual_up": levels("up", "upsamplers.0.conv1.weight"),
        "middle": any(key.startswith("mid_block.") for key in weights),
        "middle_attention": "mid_block.attentions.0.to_q.weight" in weights,
        "scale_shift": scaled is not None and len(scaled) == 2 * widths[0],
        "embedding": "positional"
        if features is None
        else "fourier"
        if features.dim() == 1
        else "learned",
        "labels": 1000 if features is None else len(features),
        "embedding_size": int(weights["time_embedding.linear_1.weight"].shape[0]),
    }


def _untold(weights: Mapping[str, Tensor], shape: Mapping[str, Any], told: Told) -> dict[str, Any]:
    """Take from the settings what leaves no trace in the weights; defaults are diffusers'."""
    usual = (32, 16, 8, 4, 2, 1)
    fits = next(n for n in usual if all(width % n == 0 for width in shape["widths"]))
    groups = told.count("norm_num_groups", fits)
    normed = "mid_block.attentions.0.group_norm.weight" in weights
    whole = "attention_head_dim" in told.config and told.any("attention_head_dim") is None
    return {
        "groups": groups,
        "middle_groups": told.count("attn_norm_num_groups", groups) if normed else None,
        "head_size": None if whole else told.count("attention_head_dim", 8),
        "eps": told.number("norm_eps", 1e-5),
        "middle_scale": told.number("mid_block_scale_factor", 1.0),
        "cosine_first": told.truth("flip_sin_to_cos", True),
        "shift": 0.0 if told.any("freq_shift") == 0 else told.number("freq_shift", 0.0),
        "symmetric": told.any("downsample_padding") != 0,
        "activation": told.word("act_fn", "silu"),
        "centre": told.truth("center_input_sample", False),
    }


def _alternatives(
    shape: Mapping[str, Any], settings: Mapping[str, Any], told: Told
) -> tuple[dict[str, Any], ...]:
    looks = shape["attention_down"] or shape["attention_up"] or shape["middle_attention"]
    if not looks or "attention_head_dim" in told.config:
        return ()
    fits = [size for size in (64, 32, 16) if all(width % size == 0 for width in shape["widths"])]
    return tuple({"head_size": size} for size in (None, *fits))


def _size(told: Told) -> int | None:
    found = told.any("sample_size")
    found = found[0] if isinstance(found, list | tuple) and found else found
    return found if isinstance(found, int) and not isinstance(found, bool) else None
