"""How a network of diffusers was trained, from the scheduler that lies beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from medrecon.errors import WeightsError
from medrecon.importing.told import Told, schedule_of
from medrecon.priors.diffusion import Parametrisation, Schedule, Time

_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
_PREDICTIONS: dict[str, Parametrisation] = {
    "epsilon": "eps", "v_prediction": "v", "sample": "x0",
}  # fmt: skip


class Training(NamedTuple):
    """How a network was trained; ``None`` where nothing says."""

    parametrisation: Parametrisation | None = None
    schedule: Schedule | None = None
    time: Time = "index"
    sigma_data: float | None = None


def read_training(settings: Any, *, fourier: bool) -> Training:
    """Read the content of a ``scheduler_config.json``.

    Schedulers are made for sampling, but they carry the noise levels of training.

    Parameters
    ----------
    settings
        The content; anything else where there is none.
    fourier
        Whether the network embeds noise deviations, and so gives the score.

    Raises
    ------
    WeightsError
        If networks trained like this have no denoiser of ours.
    """
    if not isinstance(settings, Mapping):
        return Training("score", None, "sigma") if fourier else Training()
    said = Told(settings)
    name = said.word("_class_name", "ddpmscheduler")
    prediction = said.word("prediction_type", "epsilon")
    steps = said.count("num_train_timesteps", 1000)
    if name.startswith("scoresdeve"):
        low, high = said.number("sigma_min", 0.01), said.number("sigma_max", 1348.0)
        schedule = schedule_of(kind="ve", start=low, end=high, steps=steps)
        return Training("score", schedule, "sigma")
    if name.startswith("edm") and prediction == "epsilon":
        low, high = said.number("sigma_min", 0.002), said.number("sigma_max", 80.0)
        schedule = schedule_of(kind="ve", start=low, end=high, steps=steps)
        return Training("edm", schedule, "log-sigma", said.number("sigma_data", 0.5))
    kind = said.word("beta_schedule", "linear" if name.startswith("dd") else "")
    if (
        kind not in _SCHEDULES
        or prediction not in _PREDICTIONS
        or said.any("trained_betas") is not None
        or said.truth("use_flow_sigmas", False)
    ):
        raise WeightsError(
            f"The scheduler {settings.get('_class_name')} with prediction {prediction!r} and betas "
            f"{kind or 'of its own'!r} has no denoiser of ours."
        )
    schedule = schedule_of(
        kind=_SCHEDULES[kind],
        start=said.number("beta_start", 1e-4),
        end=said.number("beta_end", 0.02),
        steps=steps,
        zero_snr=said.truth("rescale_betas_zero_snr", False),
    )
    return Training(_PREDICTIONS[prediction], schedule)
