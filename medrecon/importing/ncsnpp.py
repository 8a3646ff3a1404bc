"""Checkpoints of score_sde: NCSN++ and DDPM++, with averaged weights that have no names."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from medrecon.errors import WeightsError
from medrecon.importing.layout import Config, Recognised, State, state_dicts, subtree
from medrecon.importing.ncsnpp_modules import foreign_modules, in_order
from medrecon.importing.ncsnpp_names import rename
from medrecon.importing.ncsnpp_shape import infer_shape
from medrecon.importing.told import Told, schedule_of
from medrecon.priors.diffusion import Parametrisation, Schedule, Time

LAYOUT = "score_sde NCSN++"


def recognise(state: State, config: Config | None = None) -> Recognised | None:
    """Recognise a checkpoint of score_sde (or of what was built on it: score-MRI, DiffusionMBIR).

    What shapes do not tell is taken from ``config``, the settings of the training in sections
    ``model``, ``data`` and ``training`` under their own names; otherwise it is what most of these
    networks have, and the other values become ``alternatives``.

    Raises
    ------
    WeightsError
        If the modules are arranged in another way, averaged weights do not fit the others, the
        images have more than two channels, or the process is one that has no denoiser of ours.
    """
    weights = next((w for w in state_dicts(state) if _is_ours(w)), None)
    if weights is None:
        if any(key.endswith("shadow_params/0") for key in state):
            raise WeightsError(
                "The file has averaged weights without names (shadow_params) only; the names are "
                "in the full checkpoint, beside them under `model`."
            )
        return None
    told = Told(config or {})
    modules = foreign_modules(weights)
    shape = infer_shape(modules)
    if shape["channels"] > 2:
        raise WeightsError(
            f"The network is for images of {shape['channels']} channels; a prior needs 1 (real) or "
            "2 (complex)."
        )
    process = _process(shape, told, _sigmas(weights, told))
    settings = {**shape, **_untold(shape, told), **process.settings}
    averaged, note = _averaged(state, weights)
    modules = foreign_modules({**weights, **averaged})
    return Recognised(
        layout=LAYOUT,
        kind="ncsnpp",
        settings=settings,
        state=rename(modules, settings),
        channels=shape["channels"],
        parametrisation=process.parametrisation,
        schedule=process.schedule,
        time=process.time,
        range=(-1.0, 1.0) if settings["centred"] else (0.0, 1.0),
        size=told.count("data.image_size", 0) or None,
        alternatives=_alternatives(shape, told, settings),
        notes=(*note, *_centring(told), *_filters(shape, told), *process.notes),
    )


def _is_ours(weights: Mapping[str, Tensor]) -> bool:
    return any(key.startswith("all_modules.") for key in weights)


def _centring(told: Told) -> tuple[str, ...]:
    """Say what was assumed of the range.

    A network for images in [-1, 1] that is read as one for [0, 1], which then centres them, sees
    the same images and half the noise level. A trial on a phantom can hardly tell.
    """
    if told.any("data.centered") is not None:
        return ()
    return (
        "Images in [0, 1], centred by the network, were assumed, as in the published ones; "
        "--range -1 1, or settings of the training with `data.centered`, say otherwise.",
    )


def _filters(shape: Mapping[str, Any], told: Told) -> tuple[str, ...]:
    """Say that filters were found by trial, which on smooth phantoms may decide nothing."""
    if told.any("model.fir") is not None or shape["taps"] is not None:
        return ()
    return (
        "Whether it resamples by FIR filters is not in the weights, and was tried; settings of the "
        "training with `model.fir` say it.",
    )


class _Process(NamedTuple):
    """What the noise was like, and what the output is."""

    settings: dict[str, Any]
    parametrisation: Parametrisation | None
    schedule: Schedule | None
    time: Time
    notes: tuple[str, ...] = ()


def _process(
    shape: Mapping[str, Any], told: Told, sigmas: tuple[float, float, int] | None
) -> _Process:
    sde = told.word("training.sde", "vesde" if shape["fourier"] else "")
    if sde == "vesde":
        return _exploding(shape, told, sigmas)
    if sde == "vpsde" and not told.truth("model.scale_by_sigma", False):
        return _preserving(shape, told)
    if sde:
        raise WeightsError(
            f"Its settings name the process {sde}, scaled by sigma or not, whose denoiser is not "
            "known; vesde, and vpsde without `model.scale_by_sigma`, are."
        )
    note = (
        "Whether the noise preserved the variance is not in the file; settings of the training "
        "with `training.sde` say it."
    )
    return _Process({"scale_by_sigma": False}, None, None, "index", (note,))


def _exploding(
    shape: Mapping[str, Any], told: Told, sigmas: tuple[float, float, int] | None
) -> _Process:
    """Take the output as the score; the label is the noise deviation, or a number."""
    continuous = told.truth("training.continuous", shape["fourier"])
    if continuous != shape["fourier"]:
        raise WeightsError(
            "Its settings have `training.continuous` wrong: the weights embed "
            f"{'noise deviations' if shape['fourier'] else 'numbers of noise levels'}."
        )
    settings: dict[str, Any] = {"scale_by_sigma": told.truth("model.scale_by_sigma", True)}
    if sigmas is None:
        return _Process(settings, "score", None, "sigma" if continuous else "index")
    low, high, steps = sigmas
    if not continuous:
        settings["sigmas"] = (high, low, steps)
    schedule = schedule_of(kind="ve", start=low, end=high, steps=steps, descending=not continuous)
    return _Process(settings, "score", schedule, "sigma" if continuous else "index")


def _preserving(shape: Mapping[str, Any], told: Told) -> _Process:
    """Take the output as the noise; the label is the time times 999, or the number of the level."""
    low = told.number("model.beta_min", 0.1)
    high = told.number("model.beta_max", 20.0)
    steps = told.count("model.num_scales", 1000)
    schedule = (
        schedule_of(kind="vp", start=low, end=high, steps=1000)
        if told.truth("training.continuous", True)
        else schedule_of(kind="linear", start=low / steps, end=high / steps, steps=steps)
    )
    return _Process({"scale_by_sigma": False}, "eps", schedule, "index")


def _sigmas(weights: Mapping[str, Tensor], told: Told) -> tuple[float, float, int] | None:
    """Smallest and largest noise deviation and their number; from the settings, then the file."""
    levels = weights.get("sigmas")
    levels = levels if levels is not None and levels.dim() == 1 and len(levels) > 1 else None
    count = told.count("model.num_scales", 1000 if levels is None else len(levels))
    if told.any("model.sigma_min") is not None and told.any("model.sigma_max") is not None:
        low = told.number("model.sigma_min", 0.01)
        return low, told.number("model.sigma_max", 50.0), count
    if levels is None or levels.is_meta:
        return None
    return float(levels.min()), float(levels.max()), len(levels)


def _untold(shape: Mapping[str, Any], told: Told) -> dict[str, Any]:
    """Take from the settings, or from habit, what leaves no trace in the weights."""
    taps = told.numbers("model.fir_kernel", (1.0, 3.0, 3.0, 1.0))
    fir = told.truth("model.fir", True) if shape["taps"] is None else shape["taps"]
    return {
        "taps": taps if fir else None,
        "skip_rescale": told.truth("model.skip_rescale", True),
        "centred": told.truth("data.centered", False),
        "activation": told.word("model.nonlinearity", "swish"),
    }


def _alternatives(
    shape: Mapping[str, Any], told: Told, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], ...]:
    """Every other choice of what neither the weights nor the settings tell."""
    choices: dict[str, tuple[Any, ...]] = {}
    if told.any("model.fir") is None and shape["taps"] is None:
        choices["taps"] = (settings["taps"], None)
    if told.any("model.skip_rescale") is None:
        choices["skip_rescale"] = (True, False)
    combined = itertools.product(*choices.values())
    return tuple(dict(zip(choices, values, strict=True)) for values in combined)[1:]


def _averaged(
    state: State, weights: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Give the averaged weights their names: they lie in the order of the trained ones."""
    folder = next((k.removesuffix("/0") for k in state if k.endswith("shadow_params/0")), None)
    if folder is None:
        return {}, ("The file has no averaged weights beside the last ones, which were taken.",)
    shadow = subtree(state, folder)
    numbered = sorted((key for key in shadow if key.isdecimal()), key=int)
    values = [shadow[key] for key in numbered]
    everything = [name for name in in_order(weights) if name != "sigmas"]
    trained = [name for name in everything if not _is_fixed(name, weights[name])]
    names = everything if len(values) == len(everything) else trained
    fits = len(values) == len(names) and all(
        value.shape == weights[name].shape for name, value in zip(names, values, strict=True)
    )
    if not fits:
        raise WeightsError(
            f"The averaged weights ({len(values)} tensors) do not fit the network's own "
            f"({len(trained)}); the checkpoint is damaged or of another kind."
        )
    return dict(zip(names, values, strict=True)), ("The averaged weights (EMA) were taken.",)


def _is_fixed(name: str, value: Tensor) -> bool:
    """Frequencies of the Fourier features are drawn once and not trained."""
    return name == "all_modules.0.W" and value.dim() == 1
