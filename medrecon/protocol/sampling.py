"""The learned part of a protocol: which prior, and how the sampler applies it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from medrecon.protocol.methods import Start
from medrecon.protocol.presets import Preset, filled
from medrecon.protocol.safety import Safety
from medrecon.protocol.settings import Count, NonNegative, Positive, Settings, Share


def _unless_auto(value: object) -> object:
    return None if value == "auto" else value


class Prior(Settings):
    """Which trained prior, and how it is applied."""

    name: str
    """A shipped prior (see ``medrecon priors``) or a folder with weights and card."""
    batch: Annotated[Count | None, BeforeValidator(_unless_auto)] = None
    """Slices denoised at once, at most; auto: what fits into memory and gets faster. Changes speed
    and memory, not the result."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the network's convolutions. auto: bfloat16 where the device has instructions for it and it
    costs this prior less than 0.02 dB of denoising."""


class Noise(Settings):
    """How the estimate is noised again after every step (the law between two noise levels)."""

    law: Literal["ddim", "dds", "diffpir", "fresh"] = "fresh"
    """``ddim``: DDIM's eta; ``dds``: the released DDS code's eta; ``diffpir``: DiffPIR's zeta;
    ``fresh``: all new noise."""
    eta: Share = 1.0
    """Share of new noise under the law (ignored by ``fresh``)."""
    amount: Share = 1.0
    """How much of the new noise is added, at the start and after every step. 1: samples of the
    posterior. Less: the prior removes more noise than there is, and the result moves from a
    sample towards the posterior mean, whose error is smaller. 0: no randomness."""
    correlation_mm: NonNegative | None = 0.0
    """Length over which the noise of neighbouring slices stays alike; 0: independent; null: what
    suits the prior, 5 where it sees single slices and 0 where it sees their neighbours."""


class ConjugateGradients(Settings):
    """How every data-consistency system is solved."""

    max_iterations: Count = 60
    tolerance: Positive = 0.1
    """Error that may stay, in standard deviations of the posterior, averaged over the voxels."""
    preconditioner: Literal["none", "diagonal", "circulant"] = "diagonal"
    """circulant: fewest iterations where directions are sampled evenly, few or many; diagonal:
    where weights or gaps matter more."""
    noise_stop: NonNegative = 0.0
    """Also stop when the data misfit falls to this multiple of the noise (Morozov); 0: never."""
    warm_start: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the last step's correction to begin the next with: fewer iterations."""


class TVz(Settings):
    """Total variation along z inside the sampler, by ADMM."""

    weight: Positive
    """In nats times mm per unit of the normalised image; larger is smoother along z."""
    penalty: Positive = 10.0
    """ADMM's rho over the weight; changes convergence, not the optimum."""
    unit: Literal["nats", "curvature"] = "nats"
    """nats: as said; curvature: of a data term whose largest curvature is scaled to 1, and of
    differences per slice instead of mm, as published settings are meant."""


class Sampler(Settings):
    """Decomposed diffusion sampling (DDS) and its family: denoise, make consistent, noise again."""

    preset: Preset | None = None
    """A published sampler: gives every setting that is not given here (see docs/sampling.md)."""
    steps: Count = 20
    sigma_start: Positive = 1.0
    """First noise level, in the prior's unit (CT: 1 = 1300 HU); lowered to the largest that the
    prior was trained for."""
    sigma_end: Positive = 0.01
    schedule: Literal[
        "karras", "geometric", "ddim", "dpm-solver++", "deis", "momentum", "stored"
    ] = "karras"
    """Noise levels between the two: karras; geometric: each the same part of the one before; ddim:
    even in the time of the variance-preserving chain. dpm-solver++ (geometric), deis and momentum
    (karras) are multistep solvers of the probability flow, without new noise after the start.
    stored: the levels that the prior's card has for this number of steps."""
    schedule_task: str | None = None
    """Which of the card's schedules (``stored``); null: the only one of this number of steps."""
    schedule_exponent: Positive = 7.0
    """Karras' rho: how the levels crowd towards the end."""
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Beta of the schedule ``momentum``: 1 is undamped."""
    start: Start
    """The baseline that noise of the first level is added to, or noise alone."""
    denoise: Literal["tweedie", "predictor_corrector"] = "tweedie"
    """What the data step is given: the posterior mean (one call of the network per step), or the
    noisy volume taken to the next level by the reverse SDE and a Langevin step (two calls, the
    last step one)."""
    signal_to_noise: Positive = 0.16
    """Length of the Langevin step (``predictor_corrector``)."""
    anchor: Literal["error", "constant", "none"] = "error"
    """What holds the data step near the denoised volume: ``error``: its error variance at the noise
    level, times ``trust``; ``constant``: ``gamma``; ``none``: only the number of iterations."""
    trust: Positive = 1.0
    """Factor on the denoiser's own (validation) error variance: above 1 follows the data more."""
    gamma: Positive = 1.0
    """Weight of a data term whose largest curvature is scaled to 1 (anchor ``constant``)."""
    skip: NonNegative = 0.0
    """Leave out calls of the network that are foreseen within this share of the prior's error
    variance (see docs/sampling.md); 0: none."""
    noise: Noise = Noise()
    extrapolation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of its last change by which an estimate is carried on before it is noised again: fewer
    steps where data are few (see docs/sampling.md); not with multistep schedules."""
    cg: ConjugateGradients = ConjugateGradients()
    tv_z: TVz | None = None
    safety: Safety | None = None
    """Whether the prior fits the scan, and what is done where it does not; null: a cheap look."""

    @model_validator(mode="before")
    @classmethod
    def _preset_gives_what_is_not_given(cls, given: Any) -> Any:
        return filled(given)

    @model_validator(mode="after")
    def _levels_fall(self) -> Self:
        if self.sigma_end >= self.sigma_start:
            raise ValueError(
                f"sigma_end: {self.sigma_end:g} must be below sigma_start ({self.sigma_start:g})"
            )
        return self
