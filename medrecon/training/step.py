"""One step of training: denoising score matching, and the average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from medrecon.training.batches import Batch, share_done
from medrecon.training.settings import Optimiser
from medrecon.training.state import State

Denoise = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""The model, or what a compiler made of it."""


def train_step(
    state: State, denoise: Denoise, batch: Batch, settings: Optimiser, *, mixed: bool
) -> float:
    r"""Make a step and return its loss.

    .. math::

        E\, \lambda(\sigma) \| D(x + \sigma n, \sigma) - x \|^2, \qquad
        \lambda = \frac{\sigma^2 + \sigma_d^2}{(\sigma \sigma_d)^2}

    The weight makes the loss of an untrained network about 1 at every level.

    Parameters
    ----------
    state
        Changed in place; its ``step`` grows by one.
    denoise
        ``state.model``, possibly compiled.
    batch
        On the model's device.
    settings
        Of the optimiser.
    mixed
        Whether products are computed in bfloat16.

    References
    ----------
    Karras et al., Elucidating the design space of diffusion-based generative models, 2022,
    arXiv:2206.00364, equation 2 and table 1.
    """
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.step, state.steps, settings)
    with torch.autocast(batch.clean.device.type, torch.bfloat16, enabled=mixed):
        seen = batch.neighbours if state.model.network.neighbours else None
        denoised = denoise(batch.noisy, batch.sigma, batch.position, seen).float()
    deviation = state.model.sigma_data
    weight = (batch.sigma**2 + deviation**2) / (batch.sigma * deviation) ** 2
    loss = (weight.view(-1, 1, 1, 1) * (denoised - batch.clean) ** 2).mean()
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.model.parameters(), settings.clip)
    state.optimiser.step()
    state.step += 1
    _average(state, settings.average)
    return float(loss.detach())


def learning_rate(step: int, steps: int | None, settings: Optimiser) -> float:
    """Return the rate of a step: linear warm-up, half a cosine, never quite zero."""
    rising = min(1.0, (step + 1) / settings.warmup)
    falling = 0.5 + 0.5 * math.cos(math.pi * share_done(step, steps))
    return settings.learning_rate * max(0.002, rising * falling)


@torch.no_grad()
def _average(state: State, share: float) -> None:
    """Follow the weights with a half-life that is a share of the run, shorter at its beginning."""
    decay = (state.step + 1) / (state.step + 20)
    if state.steps is not None:
        decay = min(decay, 0.5 ** (1 / max(1.0, share * state.steps)))
    average: list[Tensor] = list(state.average.parameters())
    torch._foreach_lerp_(average, list[Tensor](state.model.parameters()), 1 - decay)
