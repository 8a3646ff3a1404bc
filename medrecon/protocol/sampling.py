"""The learned part of a protocol: which prior, and how the sampler applies it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from medrecon.protocol.methods import Start
from medrecon.protocol.settings import Count, NonNegative, Positive, Settings, Share


class Prior(Settings):
    """Which trained prior, and how it is applied."""

    name: str
    """A shipped prior (see ``medrecon priors``) or a folder with weights and card."""
    batch: Count = 8
    """Slices denoised at once; changes speed and memory, not the result."""


class Noise(Settings):
    """How the estimate is noised again after every step (the law between two noise levels)."""

    law: Literal["ddim", "dds", "fresh"] = "fresh"
    """``ddim``: DDIM's eta; ``dds``: the released DDS code's eta; ``fresh``: all new noise."""
    eta: Share = 1.0
    """Share of new noise under the law (ignored by ``fresh``)."""
    correlation_mm: NonNegative = 0.0
    """Length over which the noise of neighbouring slices stays alike; 0: independent."""


class ConjugateGradients(Settings):
    """How every data-consistency system is solved."""

    max_iterations: Count = 60
    tolerance: Positive = 0.1
    """Error that may stay, in standard deviations of the posterior, averaged over the voxels."""
    preconditioner: Literal["none", "diagonal", "circulant"] = "diagonal"
    """diagonal: for few or weighted data; circulant: for densely and evenly sampled data."""
    noise_stop: NonNegative = 0.0
    """Also stop when the data misfit falls to this multiple of the noise (Morozov); 0: never."""


class TVz(Settings):
    """Total variation along z inside the sampler, by ADMM."""

    weight: Positive
    """In nats times mm per unit of the normalised image; larger is smoother along z."""
    penalty: Positive = 10.0
    """ADMM's rho over the weight; changes convergence, not the optimum."""


class Sampler(Settings):
    """Decomposed diffusion sampling (DDS): denoise, make consistent, noise again."""

    steps: Count = 20
    sigma_start: Positive = 1.0
    """First noise level, in the prior's unit (CT: 1 = 1300 HU)."""
    sigma_end: Positive = 0.01
    schedule_exponent: Positive = 7.0
    """Karras' rho: how the levels crowd towards the end."""
    start: Start
    """The baseline that noise of the first level is added to, or noise alone."""
    trust: Positive = 1.0
    """Factor on the denoiser's own (validation) error variance: above 1 follows the data more."""
    noise: Noise = Noise()
    cg: ConjugateGradients = ConjugateGradients()
    tv_z: TVz | None = None

    @model_validator(mode="after")
    def _levels_fall(self) -> Self:
        if self.sigma_end >= self.sigma_start:
            raise ValueError(
                f"sigma_end: {self.sigma_end:g} must be below sigma_start ({self.sigma_start:g})"
            )
        return self
