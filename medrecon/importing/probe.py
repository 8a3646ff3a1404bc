"""Find how a network wants to be read, and refuse what it contradicts."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from medrecon.errors import WeightsError
from medrecon.importing.layout import Recognised
from medrecon.importing.trial import Trial, noise_statistics, try_readings
from medrecon.priors.diffusion import Diffusion, Parametrisation, Schedule, Time

_MEANINGS: tuple[Parametrisation, ...] = ("eps", "v", "x0", "score")
_RANGES = ((-1.0, 1.0), (0.0, 1.0))
_SCHEDULES = (
    Schedule(kind="linear"),
    Schedule(kind="cosine"),
    Schedule(kind="scaled-linear", start=0.0015, end=0.0195),
    Schedule(kind="scaled-linear", start=0.00085, end=0.012),
)
"""Ho 2020, Nichol 2021, and those of MONAI's and other latent models."""
_MARGIN = 1.0
"""How much better in dB another reading may be before what was told counts as wrong."""
_TIE = 0.05
"""Less than this in dB decides nothing: the likelier comes first."""
_NOISE_MEAN, _NOISE_DEVIATION = 0.15, 0.15


@dataclass(frozen=True)
class Told:
    """What the user says of a network; ``None`` to have it found."""

    parametrisation: Parametrisation | None = None
    schedule: Schedule | None = None
    time: Time | None = None
    range: tuple[float, float] | None = None
    sigma_data: float | None = None


@dataclass(frozen=True)
class Verdict:
    """How a network is read, and what the self-test found."""

    trial: Trial
    noise_mean: float
    noise_deviation: float
    calls: int
    """Slices that went through the network."""


def probe(found: Recognised, told: Told, image: Tensor) -> Generator[Trial, None, Verdict]:
    """Try a network on a phantom in every way that could be meant.

    Parameters
    ----------
    found
        The network; what it says of itself is compared with the other readings too.
    told
        What the user says; goes before what the file says.
    image
        The phantom, (batch, channels, y, x), in the prior's unit.

    Yields
    ------
    Trial
        As they are done.

    Returns
    -------
    Verdict
        The reading that holds.

    Raises
    ------
    WeightsError
        If no reading denoises, or what was told is not the one that does, or the noise that the
        network sees is not that of the phantom.
    """
    told = _together(found, told)
    best: Trial | None = None
    held: Trial | None = None
    calls = 0
    network = found.network()
    for schedule, span in _bases(told, complex_images=image.shape[1] == 2):
        for trial in _readings(network, told, schedule, span, image):
            yield trial
            best = _better(best, trial)
            if _agrees(trial.diffusion, told):
                held = _better(held, trial)
        calls += 3 * len(image)
    assert best is not None  # there is always a schedule, a range and a meaning
    assert held is not None  # what is told is among them
    chosen = held
    for overrides in found.alternatives:
        other = _again(found, held, overrides, image)
        yield other
        calls += 3 * len(image)
        if other.gain > chosen.gain + _TIE:
            chosen, network = other, found.network(overrides)
    _judge(found.layout, chosen, best)
    mean, deviation = noise_statistics(network, chosen.diffusion, image)
    if abs(mean) > _NOISE_MEAN or abs(deviation - 1) > _NOISE_DEVIATION:
        raise WeightsError(
            f"The {found.layout} network, read as {chosen.in_words()}, sees noise of mean "
            f"{mean:.2f} and deviation {deviation:.2f} where there is 0 and 1; give the right "
            "schedule and range."
        )
    return Verdict(chosen, mean, deviation, calls + len(image))


def _better(one: Trial | None, other: Trial) -> Trial:
    return other if one is None or other.gain > one.gain + _TIE else one


def _together(found: Recognised, told: Told) -> Told:
    meaning = told.parametrisation or found.parametrisation
    sigma_data = told.sigma_data or found.sigma_data
    if meaning == "edm" and sigma_data is None:
        raise WeightsError("The preconditioning edm needs the deviation of its data, sigma_data.")
    return Told(
        meaning,
        told.schedule or found.schedule,
        told.time or found.time,
        told.range or found.range,
        sigma_data,
    )


def _bases(told: Told, complex_images: bool) -> list[tuple[Schedule, tuple[float, float]]]:
    """Pairs of schedule and range to try, what was told first."""
    schedules = [told.schedule] if told.schedule else []
    # Networks told sigma itself know no schedule, others have no way back to these numbers.
    if told.time == "index" and not (told.schedule and told.schedule.kind in ("ve", "vp")):
        schedules += [s for s in _SCHEDULES if s != told.schedule]
    if not schedules:
        raise WeightsError("The file does not say how its noise levels run; give its schedule.")
    ranges = [told.range] if told.range else []
    # Of complex images only the scale counts.
    ranges += [r for r in _RANGES if r not in ranges and not (complex_images and ranges)]
    return [(schedule, span) for schedule in schedules for span in ranges]


def _readings(
    network: nn.Module, told: Told, schedule: Schedule, span: tuple[float, float], image: Tensor
) -> list[Trial]:
    edm = told.parametrisation == "edm"
    diffusion = Diffusion(
        parametrisation="edm" if edm else "eps",
        schedule=schedule,
        time=told.time or "index",
        range=span,
        sigma_data=told.sigma_data,
    )
    return list(try_readings(network, diffusion, ("edm",) if edm else _MEANINGS, image, {}))


def _again(found: Recognised, held: Trial, overrides: dict[str, Any], image: Tensor) -> Trial:
    network, d = found.network(overrides), held.diffusion
    return next(iter(try_readings(network, d, [d.parametrisation], image, overrides)))


def _agrees(diffusion: Diffusion, told: Told) -> bool:
    return (
        told.parametrisation in (None, diffusion.parametrisation)
        and told.schedule in (None, diffusion.schedule)
        and told.range in (None, diffusion.range)
    )


def _judge(layout: str, chosen: Trial, best: Trial) -> None:
    if not best.rises and not chosen.rises:
        k = chosen.gains.index(min(chosen.gains))
        raise WeightsError(
            f"The {layout} network denoises no phantom, however its output is read: at best PSNR "
            f"goes from {chosen.noisy[k]:.1f} to {chosen.denoised[k]:.1f} dB."
        )
    if not chosen.rises or best.gain > chosen.gain + _MARGIN:
        raise WeightsError(
            f"Read as told ({chosen.in_words()}) the {layout} network gains {chosen.gain:.1f} dB "
            f"on a phantom, read as {best.in_words()} {best.gain:.1f} dB; correct what is told."
        )
