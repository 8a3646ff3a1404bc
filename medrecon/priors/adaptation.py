"""A prior that learns from one scan: low-rank changes of its convolutions (LoRA)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.network import position_channels
from medrecon.priors.slicewise import Slicewise

State = tuple[Tensor, ...]
"""Values of all that can be learnt."""


class LowRank(nn.Module):
    r"""A frozen convolution with a change of low rank beside it.

    .. math:: W' = W + B A, \qquad A \in R^{r \times c k k}, \; B \in R^{o \times r}

    B starts at zero, so nothing changes before something is learnt.

    Parameters
    ----------
    convolution
        W; not changed.
    rank
        r.
    generator
        Source of A, on the CPU.

    References
    ----------
    Hu et al. 2021, arXiv:2106.09685.
    """

    def __init__(self, convolution: nn.Conv2d, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.convolution = convolution
        weight = convolution.weight
        size = (rank, *weight.shape[1:])
        scale = weight[0].numel() ** -0.5
        start = scale * torch.randn(size, generator=generator)
        self.down = nn.Parameter(start.to(weight))
        self.up = nn.Parameter(weight.new_zeros((weight.shape[0], rank, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve by W + B A, without ever forming it."""
        plain = self.convolution
        small = F.conv2d(x, self.down, None, plain.stride, cast(Any, plain.padding), plain.dilation)
        changed: Tensor = plain(x) + F.conv2d(small, self.up)
        return changed


@dataclass(eq=False)
class Adapted:
    """A slice prior whose network can learn from a scan; a denoiser like any other.

    Its error variance is the card's: what it learns shall bring it there on this scan.

    Parameters
    ----------
    denoiser
        The prior with low-rank changes in its own copy of the network.
    parameters
        What can be learnt.
    optimiser
        Adam on these.
    """

    denoiser: Slicewise
    parameters: list[nn.Parameter]
    optimiser: torch.optim.Optimizer

    @classmethod
    def of(
        cls, prior: Slicewise, generator: torch.Generator, *, rank: int = 4, rate: float = 1e-3
    ) -> Adapted:
        """Prepare a prior to learn; the given one is left as it is.

        Parameters
        ----------
        prior
            The slice prior.
        generator
            Source of the first values, on the CPU.
        rank
            Of the change of each convolution.
        rate
            Adam's step size.
        """
        model = copy.deepcopy(prior.model).requires_grad_(False)
        added = [p for layer in _into(model, rank, generator) for p in (layer.down, layer.up)]
        optimiser = torch.optim.Adam(added, lr=rate)
        return cls(replace(prior, model=model), added, optimiser)

    def error_variance(self, sigma: float) -> float:
        """As the prior's."""
        return self.denoiser.error_variance(sigma)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Denoise a volume with what was learnt so far."""
        return self.denoiser(x, sigma)

    def learn(self, x: Tensor, sigma: float, target: Tensor, slices: Tensor) -> float:
        r"""Take one step towards ``target`` on some slices; returns the loss before it.

        With the target :math:`P(D)`, the proximal map of a data term at the denoised volume, the
        loss :math:`\|D - P(D)\|^2 / 2 r^2` has the gradient of the data term's Moreau envelope:
        the network is drawn to what the data say, in the image's own metric instead of the badly
        conditioned one of the measurements.

        Parameters
        ----------
        x
            Noisy volume ``(z, y, x)``.
        sigma
            Its noise level.
        target
            What the denoised volume should have been, held fixed.
        slices
            Indices of the slices that are looked at; these alone pass through the network.

        References
        ----------
        Chung and Ye 2024, arXiv:2406.10211 (deep diffusion image prior); Barbano et al. 2023,
        arXiv:2308.14409 (steerable conditional diffusion).
        """
        wanted = _channels(target)[slices]
        with torch.enable_grad():
            error = denoise_slices(self.denoiser, x, sigma, slices) - wanted
            loss = error.square().mean() / (2 * self.error_variance(sigma))
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        return float(loss.detach())

    def state(self) -> State:
        """Copy what was learnt so far."""
        return tuple(p.detach().clone() for p in self.parameters)

    def restore(self, state: State) -> None:
        """Go back to an earlier state."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, state, strict=True):
                parameter.copy_(value)


def denoise_slices(prior: Slicewise, x: Tensor, sigma: float, slices: Tensor) -> Tensor:
    """Denoise some slices of a volume in one batch, differentiable.

    Parameters
    ----------
    prior
        The slice prior.
    x
        Noisy volume ``(z, y, x)``, real or complex.
    sigma
        Its noise level.
    slices
        Indices.

    Returns
    -------
    Tensor
        Shape ``(slices, channels, y, x)``.
    """
    volume = _channels(x)
    height, width = volume.shape[-2:]
    network = prior.model.network
    pad = (0, -width % network.stride, 0, -height % network.stride)
    slices = slices.to(volume.device)
    chosen = F.pad(volume[slices], pad, mode="replicate")
    around = None
    if network.neighbours:
        near = [volume[(slices + k).clamp(0, len(volume) - 1)] for k in (-1, 1)]
        around = F.pad(torch.cat(near, dim=1), pad, mode="replicate")
    position = F.pad(position_channels(height, width).to(volume)[None], pad, mode="replicate")
    level = volume.new_full((len(chosen),), sigma)
    clean: Tensor = prior.model(chosen, level, position.expand(len(chosen), -1, -1, -1), around)
    return clean[..., :height, :width]


@contextmanager
def kept_if_better(adapted: Adapted) -> Iterator[list[float]]:
    """Put back the state before the block where the two scores appended in it did not fall."""
    before, scores = adapted.state(), list[float]()
    yield scores
    if len(scores) < 2 or not scores[-1] < scores[0]:
        adapted.restore(before)


def _channels(x: Tensor) -> Tensor:
    """Real and imaginary part as channels: ``(z, channels, y, x)``."""
    return torch.view_as_real(x).movedim(-1, 1) if x.is_complex() else x[:, None]


def _into(module: nn.Module, rank: int, generator: torch.Generator) -> list[LowRank]:
    """Give every plain convolution below ``module`` its low-rank change."""
    added = []
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and child.groups == 1 and child.padding_mode == "zeros":
            layer = LowRank(child, rank, generator)
            setattr(module, name, layer)
            added.append(layer)
        else:
            added += _into(child, rank, generator)
    return added
