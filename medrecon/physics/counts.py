"""Counts to line integrals and back: the detector's statistics, in one place.

A cell that would count ``I0`` quanta without an object counts ``y ~ Poisson(I0 exp(-p))`` with one,
and its electronics add Gaussian noise of deviation ``sigma`` quanta.  The line integral is
``p = ln(I0 / y)`` and its variance, to first order, ``(y + sigma^2) / y^2``.

References
----------
J. Hsieh, "Adaptive streak artifact reduction in computed tomography resulting from excessive x-ray
photon noise", Med. Phys. 25 (1998) 2139, doi:10.1118/1.598410.

J.-B. Thibault et al., "A recursive filter for noise reduction in statistical iterative tomographic
imaging", Proc. SPIE 6065 (2006) 60650X, doi:10.1117/12.660281.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medrecon.errors import InconsistentError

LowCounts = Literal["exclude", "clamp", "debias"]
"""What becomes of samples without signal; see :func:`line_integrals`."""

DEAD_CELLS = 0.01
"""Share of detector cells that may be dead."""
BLOCKED = 0.05
"""Share of samples that may lie at or below the dark level."""
_FEWEST = 2.0  # quanta of an unattenuated cell; below, the numbers are no counts


@dataclass(frozen=True, kw_only=True, eq=False)
class LineIntegrals:
    """What a detector says of the object, and how sure it is.

    Parameters
    ----------
    values
        Line integrals, dimensionless, in the shape of the counts.
    weights
        Inverse variance of every value; 0 where nothing was measured.
    repaired
        How many samples had no signal (at or below the dark level) and follow the policy.
    dead
        How many detector cells have a flat field at or below the dark one; their values are
        interpolated along the columns and weigh nothing.
    policy
        What was done with the repaired samples.
    """

    values: Tensor
    weights: Tensor
    repaired: int = 0
    dead: int = 0
    policy: LowCounts = "exclude"

    @property
    def remark(self) -> str:
        """What was repaired, as a clause for a warning; empty if nothing was."""
        parts = []
        if self.repaired:
            share = 100 * self.repaired / self.values.numel()
            fate = {"exclude": "got weight 0", "clamp": "count as one quantum"}
            did = fate.get(self.policy, "count as half a quantum")
            parts.append(
                f"{self.repaired} samples ({share:.2g} %) at or below the dark level {did}"
            )
        if self.dead:
            parts.append(f"{self.dead} dead detector cells were interpolated and weigh nothing")
        return "; ".join(parts)


def line_integrals(
    counts: Tensor,
    flat: Tensor | float,
    dark: Tensor | float = 0.0,
    *,
    policy: LowCounts = "exclude",
    gain: float = 1.0,
    electronic_noise: float = 0.0,
    tolerated: float = BLOCKED,
    tolerated_dead: float = DEAD_CELLS,
) -> LineIntegrals:
    """Take the logarithm of counts, with a stated policy for samples without signal.

    Parameters
    ----------
    counts
        Raw detector values of any integer or real type; cells last, e.g. ``(views, rows, columns)``
        or ``(z, views, columns)``.
    flat
        Values without an object, broadcastable to ``counts`` (see :func:`field_per_view`).
    dark
        Values without radiation, likewise.
    policy
        For samples whose dark-corrected value is zero or negative, which have no logarithm:

        ``"exclude"``
            weight 0 and the line integral of one quantum (of one detector unit where the flat
            field is smaller): a lower bound that only direct reconstruction sees.
        ``"clamp"``
            whatever is below one quantum counts as one quantum and weighs as much.  Nothing is
            lost in a low-dose scan, but line integrals beyond ``ln I0`` come out too small.
        ``"debias"``
            half a quantum is added to every sample (and what is below, set to it), which removes
            the first-order bias ``-1/(2 lambda)`` of the logarithm of a Poisson count.
    gain
        Detector units per quantum; weights are in quanta.  With 1 for an unknown gain, the weights
        are right up to that factor.
    electronic_noise
        Deviation of the electronics' noise (and of the dark current's), detector units.
    tolerated
        Share of samples without signal above which the scan is refused; 1 to take any.
    tolerated_dead
        Share of cells whose flat is not above their dark, above which the scan is refused.

    Returns
    -------
    LineIntegrals
        float32 (float64 from float64 counts).  The noise of the flats themselves is common to all
        views and not part of the weights; it makes rings
        (:func:`medrecon.physics.rings.remove_rings`).

    Raises
    ------
    InconsistentError
        If shapes disagree, values are not finite, too many cells are dead or too many samples
        blocked, or a policy that counts quanta gets a flat field of less than two.

    References
    ----------
    J. J. Gart, J. R. Zweifel, "On the bias of various estimators of the logit and its variance",
    Biometrika 54 (1967) 181, doi:10.1093/biomet/54.1-2.181 (half a quantum).

    Examples
    --------
    >>> scan = line_integrals(torch.tensor([[100.0, 50.0, 0.0, 25.0]]), 100.0, tolerated=0.3)
    >>> scan.values
    tensor([[0.0000, 0.6931, 4.6052, 1.3863]])
    >>> scan.weights, scan.repaired
    (tensor([[100.,  50.,   0.,  25.]]), 1)
    """
    counts, flat, dark = _alike(counts, flat, dark)
    full = (flat - dark) / gain
    dead = full <= 0
    _check_flat(full, dead, policy, tolerated_dead)
    full = torch.where(dead, torch.ones_like(full), full)
    quanta = (counts - dark) / gain
    blocked = (quanta <= 0) & ~dead
    _check_blocked(blocked, tolerated)
    safe = _positive(quanta, full, policy)
    values = torch.log(full) - torch.log(safe)
    noise = (electronic_noise / gain) ** 2
    weights = safe * (safe / (safe + noise)) if noise else safe
    nothing = (blocked | dead) if policy == "exclude" else dead
    weights = torch.where(nothing, torch.zeros_like(weights), weights)
    if bool(dead.any()):
        values = _across_columns(values, dead)
    return LineIntegrals(
        values=values,
        weights=weights,
        repaired=int(blocked.sum()),
        dead=int(dead.sum()),
        policy=policy,
    )


def field_per_view(frames: Tensor, positions: Sequence[float], views: int) -> Tensor:
    """Interpolate flat or dark fields, taken now and then, to every view of the scan.

    Parameters
    ----------
    frames
        ``(n, rows, columns)`` or any cells after the first axis.
    positions
        When each frame was taken: the number of views measured before it (0 before the scan,
        ``views`` after it).  Frames of one position are averaged.
    views
        Views of the scan; view ``v`` is taken at ``v + 1/2``.

    Returns
    -------
    Tensor
        ``(views, ...)``, linear between the positions and constant outside; ``(1, ...)`` where all
        frames have one position.

    Raises
    ------
    InconsistentError
        If there is no frame, or not one position per frame.
    """
    if len(frames) == 0 or len(positions) != len(frames):
        raise InconsistentError(
            f"A field needs one position per frame, got {len(positions)} for {len(frames)} frames."
        )
    when, group = np.unique(np.asarray(positions, np.float64), return_inverse=True)
    frames = frames if frames.is_floating_point() else frames.to(torch.float32)
    means = torch.stack([frames[torch.from_numpy(group == k)].mean(0) for k in range(len(when))])
    if len(when) == 1:
        return means
    place = np.interp(np.arange(views) + 0.5, when, np.arange(len(when)))
    below = np.minimum(place.astype(np.int64), len(when) - 2)
    share = torch.from_numpy(place - below).to(means).reshape(-1, *[1] * (means.ndim - 1))
    lower = torch.from_numpy(below)
    return torch.lerp(means[lower], means[lower + 1], share)


def air_scale(counts: Tensor, flat: Tensor, dark: Tensor | float, air: slice) -> Tensor:
    """Intensity of every view over that of the flat field, read in columns no object covers.

    Tubes and storage rings drift; ``flat * scale`` follows them.  ``dark`` has to be zero or
    subtracted from the flat beforehand where it is not small.

    Parameters
    ----------
    counts
        ``(views, rows, columns)``.
    flat, dark
        Broadcastable to ``counts``.
    air
        Columns that see the source unattenuated in every view.

    Returns
    -------
    Tensor
        ``(views, 1, 1)``: scale of ``flat - dark`` per view.

    Raises
    ------
    InconsistentError
        If the columns saw nothing in some view.
    """
    counts, flat, dark = _alike(counts, flat, dark)
    seen = (counts - dark)[..., air].mean((1, 2), keepdim=True)
    full = (flat - dark).expand_as(counts)[..., air].mean((1, 2), keepdim=True)
    scale = seen / full
    if not bool((torch.isfinite(scale) & (scale > 0)).all()):
        raise InconsistentError("The columns given as air are dark in some view; choose others.")
    return scale


def detect(
    line_integrals: Tensor,
    photons: Tensor | float,
    *,
    electronic_noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Count quanta behind an object: Poisson noise, and the Gaussian one of the electronics.

    Parameters
    ----------
    line_integrals
        Exact line integrals, any shape.
    photons
        Expected quanta of every unattenuated cell, broadcastable (a bowtie varies them).
    electronic_noise
        Deviation of the electronics' noise, quanta; 0 for a counting detector.
    generator
        Source of randomness, on the line integrals' device.

    Returns
    -------
    Tensor
        Quanta, real-valued and possibly negative with electronic noise.

    Raises
    ------
    InconsistentError
        If ``photons`` is not positive.
    """
    if not bool((torch.as_tensor(photons) > 0).all()) or electronic_noise < 0:
        raise InconsistentError(
            "Photons must be positive and the electronic noise must not be negative."
        )
    counts = torch.poisson(photons * torch.exp(-line_integrals), generator=generator)
    if not electronic_noise:
        return counts
    noise = torch.randn(counts.shape, generator=generator, dtype=counts.dtype, device=counts.device)
    return counts + electronic_noise * noise


def _alike(
    counts: Tensor, flat: Tensor | float, dark: Tensor | float
) -> tuple[Tensor, Tensor, Tensor]:
    """Bring all three to one real type; they are finite, and fields broadcast to the counts."""
    kind = torch.float64 if counts.dtype == torch.float64 else torch.float32
    counts = counts.to(kind)
    fields = [torch.as_tensor(f).to(device=counts.device, dtype=kind) for f in (flat, dark)]
    for name, values in (("counts", counts), ("flats", fields[0]), ("darks", fields[1])):
        finite = torch.isfinite(values)
        if not bool(finite.all()):
            first = tuple(torch.nonzero(~finite)[0].tolist())
            raise InconsistentError(
                f"{int((~finite).sum())} {name} are NaN or infinite, the first at index {first}."
            )
        if not _broadcasts(values, counts):
            raise InconsistentError(
                f"The frames of data, flats and darks differ: {name} of shape "
                f"{tuple(values.shape)} do not fit counts of shape {tuple(counts.shape)}."
            )
    return counts, fields[0], fields[1]


def _broadcasts(values: Tensor, counts: Tensor) -> bool:
    pairs = zip(reversed(values.shape), reversed(counts.shape), strict=False)
    return values.ndim <= counts.ndim and all(v in (1, c) for v, c in pairs)


def _check_flat(full: Tensor, dead: Tensor, policy: LowCounts, tolerated: float) -> None:
    count = int(dead.sum())
    if count > tolerated * dead.numel():
        raise InconsistentError(
            f"Flats are not above darks in {count} of {dead.numel()} cells; were they swapped or "
            "left out?"
        )
    typical = float(full.median())
    if policy != "exclude" and typical < _FEWEST:
        raise InconsistentError(
            f"The flat field is {typical:.3g} quanta, too few for the policy {policy!r}, which "
            "counts them; give the gain, or use 'exclude'."
        )


def _check_blocked(blocked: Tensor, tolerated: float) -> None:
    count = int(blocked.sum())
    if count > tolerated * blocked.numel():
        raise InconsistentError(
            f"{count} of {blocked.numel()} samples are not above the dark level "
            f"({100 * count / blocked.numel():.3g} %, tolerated are {100 * tolerated:.3g} %)."
        )


def _positive(quanta: Tensor, full: Tensor, policy: LowCounts) -> Tensor:
    if policy == "clamp":
        return quanta.clamp_min(1.0)
    if policy == "debias":
        return quanta.clamp_min(0.0) + 0.5
    # exp(-p) of a blocked sample is only known to be below one quantum.
    return torch.where(quanta > 0, quanta, full.clamp_max(1.0))


def _across_columns(values: Tensor, dead: Tensor) -> Tensor:
    """Replace dead cells by the line between their nearest living neighbours in the row."""
    columns = dead.shape[-1]
    index = torch.arange(columns, device=dead.device).expand(dead.shape)
    left = torch.where(dead, -torch.ones_like(index), index).cummax(-1).values
    right = torch.where(dead, torch.full_like(index, columns), index)
    right = right.flip(-1).cummin(-1).values.flip(-1)
    left, right = torch.where(left < 0, right, left), torch.where(right >= columns, left, right)
    place = torch.nonzero(dead.expand_as(values), as_tuple=True)
    low, high = (side.expand(values.shape)[place] for side in (left, right))
    alive = (low < columns) & (high >= 0)
    low, high = low.clamp(0, columns - 1), high.clamp(0, columns - 1)
    share = (place[-1] - low) / (high - low).clamp_min(1)
    a, b = values[(*place[:-1], low)], values[(*place[:-1], high)]
    repaired = values.clone()
    repaired[place] = torch.where(alive, a + share.to(a) * (b - a), torch.zeros_like(a))
    return repaired
