"""What a run with a prior takes of memory, said before it begins and kept to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from medrecon.devices import available_memory
from medrecon.priors.batching import Plan, plan_batch, with_batch
from medrecon.priors.weights import Prior
from medrecon.problem import Problem

VOLUMES = 24
"""Volumes alive at the same time in the sampler: conjugate gradients hold seven, total variation
along z four, the loop and its multistep laws eight, the baselines the rest."""
_MIB = 2**20


@dataclass(frozen=True, eq=False)
class Sized:
    """A prior whose batch fits, and the memory that was planned with."""

    prior: Prior
    plan: Plan

    @property
    def note(self) -> str:
        """For the user, in one line."""
        plan = self.plan
        precision = str(self.prior.denoiser.precision).removeprefix("torch.")
        free = plan.as_json()["available_mib"]
        return (
            f"the prior takes {math.ceil((plan.weights + plan.activations) / _MIB)} MiB for "
            f"{plan.batch} slice{'s' * (plan.batch != 1)} at once in {precision}, volumes up to "
            f"{math.ceil(plan.volumes / _MIB)} MiB"
            + ("" if free is None else f"; {free} MiB are free")
        )


def size(prior: Prior, problem: Problem, device: str, at_most: int | None = None) -> Sized:
    """Choose how many slices a prior denoises at once, so that the run fits.

    Parameters
    ----------
    prior
        The prior, on its device.
    problem
        What is to be reconstructed.
    device
        Where.
    at_most
        Largest batch; ``None``: what is worth it.

    Raises
    ------
    ResourceError
        If the run does not fit even slice by slice.
    """
    domain = problem.data.operator.domain
    voxel = 8 if domain.complex else 4
    plan = plan_batch(
        prior.denoiser,
        domain.shape,
        device=device,
        available=available_memory(device),
        at_most=at_most,
        volumes=VOLUMES * voxel * math.prod(domain.shape),
    )
    return Sized(replace(prior, denoiser=with_batch(prior.denoiser, plan.batch)), plan)
