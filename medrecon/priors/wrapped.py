"""Any diffusion network as a denoiser: D(x, sigma), whatever it predicts and in whatever unit."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it

from medrecon.priors.diffusion import Diffusion
from medrecon.priors.networks.registry import ImageNetwork


class _Seen(nn.Module):
    """The network as :class:`~medrecon.priors.slicewise.Slicewise` knows networks."""

    neighbours = False

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.inner = network
        self.channels = cast("ImageNetwork", network).channels
        self.stride = cast("ImageNetwork", network).stride

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        # An image of one stride is a single pixel on the coarsest level, where a normalisation
        # of one channel a group has nothing to take a deviation of.
        below, right = (max(0, 2 * self.stride - n) for n in (height, width))
        if below or right:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        out: Tensor = self.inner(x, label)
        # what a network says of its own variance is not needed
        return out[:, : self.channels, :height, :width]


class Wrapped(nn.Module):
    r"""Turn a network's output into the posterior mean.

    The prior's unit u in [-1, 1] is :math:`w = a + b u` in the network's, with noise
    :math:`s = b \sigma`. It sees :math:`x_t = \alpha (w + s n)` with
    :math:`\alpha = 1/\sqrt{1 + s^2}` (variance preserving) or 1 (variance exploding), and from
    its output F the clean image is

    =========  ========================================================
    ``eps``    :math:`w - s F`
    ``x0``     :math:`F`
    ``v``      :math:`\alpha^2 w - \alpha s F` (Salimans 2022, arXiv:2202.00512)
    ``score``  :math:`w + \alpha s^2 F` (Tweedie)
    ``edm``    preconditioned as in Karras 2022, arXiv:2206.00364, table 1
    =========  ========================================================

    Complex images have no offset: a = 0, and b is the top of the range. A network of one channel
    takes their real and imaginary part as two images.

    Parameters
    ----------
    network
        Takes ``(image, noise label)``; see
        :class:`~medrecon.priors.networks.registry.ImageNetwork`.
    diffusion
        How it was trained.
    complex_images
        Whether the prior is of complex images.
    """

    def __init__(self, network: nn.Module, diffusion: Diffusion, complex_images: bool) -> None:
        super().__init__()
        self.network = _Seen(network)
        self.diffusion = diffusion
        low, high = diffusion.range
        self.offset = 0.0 if complex_images else (high + low) / 2
        self.scale = high if complex_images else (high - low) / 2

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        position: Tensor | None = None,
        neighbours: Tensor | None = None,
    ) -> Tensor:
        """Denoise ``x`` (batch, channels, y, x) whose noise has deviation ``sigma`` (batch,).

        ``position`` and ``neighbours`` are there for the sake of
        :class:`~medrecon.priors.network.EDM`'s signature and not looked at.
        """
        w, level = self.enter(x, sigma)
        return self.leave(to_clean(w, self.output(w, level), level, self.diffusion), x)

    def enter(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy images and their noise levels in the network's unit and channels."""
        parts = x.shape[1] // self.network.channels
        w = self.offset + self.scale * x
        shape = (-1, self.network.channels, *x.shape[2:])
        return w.reshape(shape), (self.scale * sigma).repeat_interleave(parts)

    def leave(self, clean: Tensor, x: Tensor) -> Tensor:
        """Clean images of the network as those of the prior, which were ``x`` before."""
        return (clean.reshape(x.shape) - self.offset) / self.scale

    def output(self, w: Tensor, level: Tensor) -> Tensor:
        """Raw output for noisy images and their noise levels, both in the network's unit."""
        d = self.diffusion
        labels = [d.schedule.label(s, d.time) for s in level.tolist()]
        label = torch.tensor(labels, dtype=w.dtype, device=w.device)
        out: Tensor = self.network(w * _input_scale(level, d), label)
        return out.to(w.dtype)


def to_clean(w: Tensor, out: Tensor, level: Tensor, diffusion: Diffusion) -> Tensor:
    """Posterior mean from the noisy image, the network's output and the noise level."""
    s = level.view(-1, 1, 1, 1)
    alpha = _input_scale(level, diffusion)
    match diffusion.parametrisation:
        case "eps":
            return w - s * out
        case "x0":
            return out
        case "v":
            # from v = alpha (n - s x0) and w = x0 + s n, where alpha^2 (1 + s^2) = 1
            keep = 1 / (1 + s**2)
            return keep * w - s * keep.sqrt() * out
        case "score":
            return w + alpha * s**2 * out
        case "edm":
            deviation = diffusion.sigma_data or 1.0
            return (alpha * deviation) ** 2 * w + alpha * s * deviation * out


def _input_scale(level: Tensor, diffusion: Diffusion) -> Tensor:
    s = level.view(-1, 1, 1, 1)
    if diffusion.parametrisation == "edm" and diffusion.sigma_data is not None:
        return (s**2 + diffusion.sigma_data**2).rsqrt()
    return (1 + s**2).rsqrt() if diffusion.schedule.preserves_variance else torch.ones_like(s)
