"""Where coil maps are kept: by Stein's estimate of the risk of projecting on them."""

from __future__ import annotations

import torch
from torch import Tensor

_BINS = 1000
_HIGHEST = 0.95  # no crop of the first set above: its eigenvalue in an object may be that low
_HIGHEST_FURTHER = 0.99  # of the others: theirs is high around the place where they are needed
_MODEL = 0.02  # of the coil images: what low resolution makes a further set seem to explain


def automatic_crop(
    eigenvalues: Tensor, explained: Tensor, variance: float, *, total: Tensor | None = None
) -> float:
    r"""Choose the eigenvalue below which maps hurt more than they help.

    Denoising the coil images :math:`y` by projection on the maps where the eigenvalue is at least
    :math:`c` has, up to a constant, the risk (Stein's unbiased estimate)

    .. math:: \sum_{\lambda(q) \ge c} 2 \sigma^2 - |s(q)^H y(q)|^2 .

    The ``c`` of the smallest risk is returned, but not above 0.95 (0.99 for further sets): strong
    data keep the maps nearly everywhere, weak data only where there is an object.

    Parameters
    ----------
    eigenvalues
        ESPIRiT's, of all pixels of one set of maps.
    explained
        ``|s^H y|^2`` of the same pixels, ``y`` the coil images at low resolution.
    variance
        Of the coil images' noise per complex sample.
    total
        For a further set: ``|y|^2``, of which 0.08 % count as noise, since low resolution mixes
        neighbouring sensitivities; ``None`` for the first set.

    Returns
    -------
    float
        Between 0 (keep all) and 0.99.

    References
    ----------
    Stein, Estimation of the mean of a multivariate normal distribution, Ann Stat 9 (1981);
    Iyer et al., SURE-based automatic parameter selection for ESPIRiT calibration, Magn Reson Med
    84 (2020), doi:10.1002/mrm.28386.
    """
    gain = explained - 2 * variance
    if total is not None:
        gain = gain - 2 * _MODEL**2 * total
    bins = (eigenvalues.flatten().clamp(0, 1) * _BINS).long().clamp_max(_BINS - 1)
    per_bin = torch.zeros(_BINS, dtype=torch.float64).index_add_(
        0, bins.cpu(), gain.flatten().cpu().double()
    )
    kept = per_bin.flip(0).cumsum(0).flip(0)  # gain of keeping this bin and all above
    kept = torch.cat([kept, kept.new_zeros(1)])
    best = int(torch.nonzero(kept == kept.max())[0])
    return min(best / _BINS, _HIGHEST if total is None else _HIGHEST_FURTHER)
