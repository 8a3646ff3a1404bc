"""From a protocol's settings to a sampler: its four choices, its levels and its noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from medrecon.errors import WeightsError
from medrecon.operators.difference import Difference
from medrecon.priors.card import Card
from medrecon.priors.denoiser import Denoiser
from medrecon.priors.weights import Prior
from medrecon.problem import Problem
from medrecon.protocol import Sampler, TVz
from medrecon.regularizers import TotalVariation
from medrecon.sampling.consistency import CGSettings, Consistency
from medrecon.sampling.counting import Counted
from medrecon.sampling.data_step import (
    Anchor,
    Constant,
    ErrorVariance,
    ProximalStep,
    largest_curvature,
    unanchored,
)
from medrecon.sampling.denoise import Keep, PredictorCorrector, Tweedie
from medrecon.sampling.loop import Denoise, Draw, Method, Renoise, Step, sample
from medrecon.sampling.multistep import DEIS, DPMSolver, Momentum
from medrecon.sampling.noise import SliceNoise
from medrecon.sampling.renoise import DDIM, DDS, DiffPIR, Extrapolated, Fresh
from medrecon.sampling.schedule import ddim_sigmas, geometric_sigmas, karras_sigmas
from medrecon.sampling.skipping import Skipping
from medrecon.sampling.start import NoisyStart
from medrecon.solvers.preconditioner import PRECONDITIONERS

_CORRELATION_MM = 5.0
"""Correlation of the noise along z where the prior sees single slices."""


@dataclass(frozen=True, eq=False)
class Assembled:
    """A sampler ready to run.

    Parameters
    ----------
    method
        Its four choices.
    sigmas
        Its noise levels.
    draw
        Its source of noise.
    counted
        Counts the calls of the network, each of the whole volume.
    noise
        The law that ``draw`` draws from.
    """

    method: Method
    sigmas: tuple[float, ...]
    draw: Draw
    counted: Counted
    noise: SliceNoise

    def steps(self) -> Iterator[Step]:
        """Run it; see :func:`~medrecon.sampling.loop.sample`."""
        return sample(self.method, self.sigmas, self.draw)


def assemble(
    prior: Prior, problem: Problem, settings: Sampler, images: dict[str, Tensor], seed: int
) -> Assembled:
    """Put a sampler together.

    Parameters
    ----------
    prior
        The trained prior.
    problem
        Data term and grid.
    settings
        The protocol's sampler.
    images
        What was reconstructed so far, by method, in the prior's unit: the start is one of them.
    seed
        Seed of the noise.
    """
    start = (
        torch.zeros_like(problem.data.rhs) if settings.start == "noise" else images[settings.start]
    )
    sigmas = levels(settings, prior.card)
    counted = Counted(prior.denoiser)
    method = Method(
        start=NoisyStart(start),
        denoise=_denoise(_skipping(counted, settings, sigmas), settings),
        data_step=data_step(problem, counted, settings),
        renoise=_law(settings),
    )
    noise = SliceNoise(
        spacing=problem.grid.spacing[0],
        length=_correlation(settings, prior.card),
        amount=settings.noise.amount,
    )
    generator = torch.Generator().manual_seed(seed)
    return Assembled(method, sigmas, partial(noise, start, generator), counted, noise)


def levels(settings: Sampler, card: Card) -> tuple[float, ...]:
    """Noise levels of a sampler, none above what the prior was trained for.

    Raises
    ------
    WeightsError
        If stored levels are asked for and the card has none, or several, of this number.
    """
    if settings.schedule == "stored":
        return _stored(settings, card)
    start = max(min(settings.sigma_start, card.sigma_range[1]), settings.sigma_end)
    steps, end = settings.steps, settings.sigma_end
    if settings.schedule in ("geometric", "dpm-solver++"):
        return geometric_sigmas(steps, start, end)
    if settings.schedule == "ddim":
        return ddim_sigmas(steps, start, end)
    return karras_sigmas(steps, start, end, settings.schedule_exponent)


def _stored(settings: Sampler, card: Card) -> tuple[float, ...]:
    asked, steps = settings.schedule_task, settings.steps
    found = {
        task: by_steps[steps]
        for task, by_steps in card.schedules.items()
        if steps in by_steps and asked in (None, task)
    }
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise WeightsError(
            f"The prior {card.name} has schedules of {steps} steps for {', '.join(found)}; "
            "say which one by sampler.schedule_task."
        )
    stored = "; ".join(f"{t}: {', '.join(map(str, n))} steps" for t, n in card.schedules.items())
    raise WeightsError(
        f"The prior {card.name} has no stored schedule of {steps} steps"
        f"{f' for {asked}' if asked else ''} (stored: {stored or 'none'}); find one by "
        "medrecon priors schedule, or use another sampler.schedule."
    )


def data_step(problem: Problem, prior: Denoiser, settings: Sampler) -> ProximalStep:
    """Make the data step of a sampler."""
    cg = CGSettings(
        max_iterations=settings.cg.max_iterations,
        tolerance=settings.cg.tolerance,
        preconditioner=PRECONDITIONERS[settings.cg.preconditioner],
        noise_stop=settings.cg.noise_stop,
        warm_start=settings.cg.warm_start,
    )
    anchor = _anchor(problem, prior, settings)
    if settings.tv_z is None:
        return ProximalStep(Consistency(problem.data, cg), anchor)
    weight, penalty = _tv_in_nats(problem, settings.tv_z)
    along_z = Difference(problem.data.operator.domain, problem.grid.spacing, (0,))
    regularizer = TotalVariation(along_z, weight)
    return ProximalStep(Consistency(problem.data, cg, regularizer, penalty), anchor)


def _anchor(problem: Problem, prior: Denoiser, settings: Sampler) -> Anchor:
    if settings.anchor == "none":
        return unanchored
    if settings.anchor == "constant":
        return Constant(settings.gamma, largest_curvature(problem.data))
    return ErrorVariance(prior, settings.trust)


def _tv_in_nats(problem: Problem, tv: TVz) -> tuple[float, float]:
    """Weight and penalty in nats and differences per mm."""
    if tv.unit == "nats":
        return tv.weight, tv.penalty
    distance = problem.grid.spacing[0]
    return tv.weight * largest_curvature(problem.data) * distance, tv.penalty * distance


def _denoise(prior: Denoiser, settings: Sampler) -> Denoise:
    if settings.denoise == "predictor_corrector":
        return PredictorCorrector(prior, settings.signal_to_noise)
    return Tweedie(prior)


def _skipping(prior: Denoiser, settings: Sampler, sigmas: tuple[float, ...]) -> Denoiser:
    """Leave calls out, if so asked; never the last three, after which nothing mends an error."""
    if settings.skip == 0:
        return prior
    return Skipping(prior, settings.skip, end=sigmas[max(0, len(sigmas) - 4)])


def _law(settings: Sampler) -> Renoise:
    if settings.denoise == "predictor_corrector":
        return Keep()
    multistep: dict[str, Renoise] = {
        "dpm-solver++": DPMSolver(),
        "deis": DEIS(),
        "momentum": Momentum(settings.momentum),
    }
    if settings.schedule in multistep:
        return multistep[settings.schedule]
    eta = settings.noise.eta
    laws: dict[str, Renoise] = {
        "ddim": DDIM(eta),
        "dds": DDS(eta),
        "diffpir": DiffPIR(eta),
        "fresh": Fresh(),
    }
    law = laws[settings.noise.law]
    return Extrapolated(law, settings.extrapolation) if settings.extrapolation > 0 else law


def _correlation(settings: Sampler, card: Card) -> float:
    """Correlation length of the noise, mm."""
    if settings.noise.correlation_mm is not None:
        return settings.noise.correlation_mm
    return 0.0 if card.architecture.neighbours else _CORRELATION_MM
