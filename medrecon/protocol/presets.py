"""Published samplers by name: the settings that a preset gives where a protocol gives none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["medrecon", "dds", "dds-released", "diffusion-mbir"]

_CG_5 = {"max_iterations": 5, "tolerance": 1e-6, "preconditioner": "none"}
_CG_1 = {**_CG_5, "max_iterations": 1}
_TV_8_VIEWS = {"weight": 2e-4, "penalty": 125.0, "unit": "curvature"}
"""Lambda 0.04 and rho 10 at 256 x 256 voxels, where the published operator's normal matrix has the
norm 402 and images lie in [0, 1]: 2 lambda / 402 and (rho / 4) / (lambda / 2) in [-1, 1]."""
_VP = {"schedule": "ddim", "sigma_start": 130.0, "sigma_end": 0.01, "start": "noise"}

# Three fifths of the predicted noise (sqrt(1 - 0.8^2)) and no new one: an estimate near the
# posterior mean, not a sample. With `amount: 1.0`, `law: fresh` and no extrapolation it samples.
_MEDRECON = {
    "start": "tv",
    "steps": 20,
    "noise": {"law": "dds", "eta": 0.8, "amount": 0.0, "correlation_mm": None},
}
_DDS = {**_VP, "steps": 50, "cg": _CG_5}
_MBIR = {
    "schedule": "geometric",
    "sigma_start": 378.0,
    "sigma_end": 0.01,
    "start": "noise",
    "steps": 2000,
    "denoise": "predictor_corrector",
    "signal_to_noise": 0.16,
    "anchor": "none",
    "cg": _CG_1,
}

PRESETS: dict[Preset, dict[str, dict[str, Any]]] = {
    "medrecon": {
        "CT": {
            **_MEDRECON,
            "sigma_start": 0.7,
            "sigma_end": 0.03,
            "schedule_exponent": 2.0,
            "extrapolation": 0.75,
            "trust": 8.0,
            "cg": {
                "max_iterations": 60,
                "tolerance": 0.2,
                "preconditioner": "diagonal",
                "warm_start": 1.0,
            },
            "tv_z": {"weight": 2.0},
        },
        "MR": {
            **_MEDRECON,
            "sigma_start": 0.2,
            "sigma_end": 0.004,
            "extrapolation": 0.4,
            "trust": 4.0,
            "cg": {"max_iterations": 60, "tolerance": 0.1, "preconditioner": "diagonal"},
        },
    },
    "dds": {
        "CT": {
            **_DDS,
            "noise": {"law": "ddim", "eta": 0.85},
            "anchor": "none",
            "tv_z": _TV_8_VIEWS,
        },
        "MR": {
            **_DDS,
            "noise": {"law": "ddim", "eta": 0.5},
            "anchor": "constant",
            "gamma": 0.95,
        },
    },
    "dds-released": {
        "CT": {
            **_DDS,
            "noise": {"law": "dds", "eta": 0.85},
            "anchor": "none",
            "tv_z": _TV_8_VIEWS,
        },
        "MR": {
            **_DDS,
            "noise": {"law": "dds", "eta": 0.85},
            "anchor": "constant",
            "gamma": 1.0,
        },
    },
    "diffusion-mbir": {
        "CT": {**_MBIR, "tv_z": _TV_8_VIEWS},
        "MR": {**_MBIR, "tv_z": {"weight": 0.005, "penalty": 2.0, "unit": "curvature"}},
    },
}
"""Settings of a sampler by preset and modality, in the order of the sources in docs/sampling.md."""


def filled(given: Any, modality: str = "CT") -> Any:
    """Fill a sampler's settings with those of its preset where they are not given.

    Blocks are merged key by key, but one with a weight of its own is taken as it is: the preset's
    unit and penalty belong to the preset's weight. ``null`` takes a block away. What is no block of
    keys or names no known preset is returned as it is, for the schema to refuse.

    >>> filled({"preset": "dds", "cg": {"max_iterations": 7}}, "MR")["cg"]["max_iterations"]
    7
    """
    if not isinstance(given, Mapping) or given.get("preset") not in PRESETS:
        return given
    by_modality = PRESETS[given["preset"]]
    return _merged(by_modality.get(modality, by_modality["CT"]), given)


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**defaults, **given}
    for key, below in defaults.items():
        own = given.get(key)
        if isinstance(below, Mapping) and isinstance(own, Mapping) and "weight" not in own:
            merged[key] = _merged(below, own)
    return merged
