"""Layers that several imported networks share: how they know the noise level, how they attend."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - what everybody calls it


def sinusoidal(label: Tensor, size: int, *, cosine_first: bool, shift: float) -> Tensor:
    r"""Embed numbers by sines and cosines of geometrically spaced frequencies.

    .. math:: \omega_k = 10000^{-k / (n - shift)}, \quad k = 0 \dots n - 1, \quad n = size / 2

    Parameters
    ----------
    label
        Shape ``(batch,)``; fractions are welcome.
    size
        Length of the embedding; where odd, its last number is zero.
    cosine_first
        Order of the halves, on which projects differ.
    shift
        0 leaves out the frequency 1/10000, 1 ends with it.

    Returns
    -------
    Tensor
        Shape ``(batch, size)``.

    References
    ----------
    Vaswani et al., Attention is all you need, 2017, arXiv:1706.03762, section 3.5.
    """
    half = size // 2
    steps = torch.arange(half, dtype=torch.float32, device=label.device)
    frequencies = torch.exp(-math.log(10_000) / (half - shift) * steps)
    phase = label.float()[:, None] * frequencies
    waves = (phase.cos(), phase.sin()) if cosine_first else (phase.sin(), phase.cos())
    return F.pad(torch.cat(waves, dim=1), (0, size % 2))


class FourierFeatures(nn.Module):
    """Sines and cosines of log(label) at the random frequencies of training.

    Parameters
    ----------
    count
        Number of frequencies; the embedding is twice as long.

    References
    ----------
    Tancik et al., Fourier features let networks learn high frequency functions, 2020,
    arXiv:2006.10739.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count), requires_grad=False)

    def forward(self, label: Tensor) -> Tensor:
        """Embed positive labels ``(batch,)`` as ``(batch, 2 count)``."""
        phase = 2 * math.pi * label.float().log()[:, None] * self.weight
        return torch.cat([phase.sin(), phase.cos()], dim=1)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    r"""Let every pixel look at all others, :math:`softmax(q k^T / \sqrt{d}) v` in each head.

    All have the shape ``(batch, pixels, heads * d)``, as has the result.
    """
    batch, pixels, size = query.shape
    q, k, v = (
        x.reshape(batch, pixels, heads, size // heads).transpose(1, 2) for x in (query, key, value)
    )
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
