"""How a diffusion network was trained: what it sees and says at a noise level."""

from __future__ import annotations

import bisect
import functools
import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medrecon.errors import WeightsError

Parametrisation = Literal["edm", "eps", "v", "x0", "score"]
"""What the output of a network is; see :class:`medrecon.priors.wrapped.Wrapped`."""
ScheduleKind = Literal["linear", "scaled-linear", "cosine", "vp", "ve"]
Time = Literal["index", "continuous", "sigma", "log-sigma"]


class Schedule(BaseModel):
    r"""The noise levels of training, as :math:`x_k = \alpha_k x_0 + \alpha_k \sigma_k n`.

    ====================  ==========================================================================
    ``linear``            :math:`\beta_k` evenly from ``start`` to ``end`` (Ho 2020,
                          arXiv:2006.11239), :math:`\alpha_k^2 = \prod (1 - \beta)`
    ``scaled-linear``     :math:`\sqrt{\beta_k}` evenly (Rombach 2022, arXiv:2112.10752)
    ``cosine``            :math:`\alpha^2 \propto \cos^2`, :math:`\beta \le 0.999` (Nichol 2021,
                          arXiv:2102.09672, eq. 17)
    ``vp``                :math:`\beta(t)` evenly from ``start`` to ``end`` over t in [0, 1]
                          (Song 2021, arXiv:2011.13456, eq. 33)
    ``ve``                :math:`\sigma(t)` geometrically from ``start`` to ``end``,
                          :math:`\alpha = 1` (the same, eq. 30)
    ====================  ==========================================================================
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ScheduleKind
    start: Annotated[float, Field(gt=0)] = 1e-4
    end: Annotated[float, Field(gt=0)] = 0.02
    steps: Annotated[int, Field(ge=2, le=100_000)] = 1000
    """Training levels, numbered 0 to ``steps - 1``."""
    zero_snr: bool = False
    """Whether the last level was rescaled to hold no signal (Lin 2023, arXiv:2305.08891)."""
    descending: bool = False
    """Whether level 0 is the noisiest."""

    @model_validator(mode="after")
    def _rises(self) -> Schedule:
        if self.kind != "cosine" and not self.start < self.end:
            raise ValueError("a schedule rises: its start is below its end")
        if self.kind in ("linear", "scaled-linear") and not self.end < 1:
            raise ValueError("a step cannot add more than all the noise: its end is below 1")
        return self

    @property
    def preserves_variance(self) -> bool:
        r"""Whether the image shrinks as noise comes in, :math:`\alpha = 1/\sqrt{1 + \sigma^2}`."""
        return self.kind != "ve"

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest noise level, in the network's unit."""
        sigmas = _levels(self)[1]
        return sigmas[0], sigmas[-1]

    def index(self, sigma: float) -> float:
        """Level of ``sigma`` between 0 and ``steps - 1``, linear in log sigma between levels.

        What lies outside the trained levels becomes the first or the last.
        """
        indices, sigmas = _levels(self)
        if sigma <= sigmas[0]:
            found = indices[0]
        elif sigma >= sigmas[-1]:
            found = indices[-1]
        else:
            k = bisect.bisect_right(sigmas, sigma) - 1
            share = math.log(sigma / sigmas[k]) / math.log(sigmas[k + 1] / sigmas[k])
            found = indices[k] + share * (indices[k + 1] - indices[k])
        return self.steps - 1 - found if self.descending else found

    def label(self, sigma: float, time: Time) -> float:
        """Tell the noise level ``sigma`` in the network's terms."""
        if time == "sigma":
            return sigma
        if time == "log-sigma":
            return math.log(sigma) / 4
        index = self.index(sigma)
        return index if time == "index" else index / (self.steps - 1)


_SPANS: dict[ScheduleKind, tuple[float, float]] = {
    "linear": (1e-4, 0.02),
    "scaled-linear": (0.00085, 0.012),
    "cosine": (1e-4, 0.02),
    "vp": (0.1, 20.0),
    "ve": (0.01, 378.0),
}


def make_schedule(kind: ScheduleKind, span: tuple[float, float] | None = None) -> Schedule:
    """Make a schedule, by default with the numbers of its paper or best-known model.

    Raises
    ------
    WeightsError
        If the span is no rising one.
    """
    start, end = span or _SPANS[kind]
    try:
        return Schedule(kind=kind, start=start, end=end)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise WeightsError(f"The schedule {kind} {start:g} to {end:g} is none: {reason}.") from None


@functools.cache
def _levels(schedule: Schedule) -> tuple[list[float], list[float]]:
    """Fractional indices and their noise levels, both ascending."""
    n = schedule.steps
    if schedule.kind == "ve":
        ratio = schedule.end / schedule.start
        return [0.0, n - 1.0], [schedule.start, schedule.start * ratio]
    if schedule.kind == "vp":
        times = [10 ** (-5 + 5 * k / 2047) for k in range(2048)]
        span = schedule.end - schedule.start
        rates = [t * schedule.start + t * t / 2 * span for t in times]
        return [t * (n - 1) for t in times], [math.sqrt(math.expm1(r)) for r in rates]
    kept = list(_signal(schedule))
    if schedule.zero_snr:
        roots = [math.sqrt(k) for k in kept]
        factor = roots[0] / (roots[0] - roots[-1])
        kept = [((r - roots[-1]) * factor) ** 2 for r in roots][:-1]
    pairs = [(float(k), math.sqrt((1 - a) / a)) for k, a in enumerate(kept) if a > 0]
    return [k for k, _ in pairs], [s for _, s in pairs]


def _signal(schedule: Schedule) -> list[float]:
    """Share of the variance that is image at each level: the running product of 1 - beta."""
    n, power = schedule.steps, 0.5 if schedule.kind == "scaled-linear" else 1.0
    if schedule.kind == "cosine":
        curve = [math.cos((k / n + 0.008) / 1.008 * math.pi / 2) ** 2 for k in range(n + 1)]
        betas = [min(1 - b / a, 0.999) for a, b in pairwise(curve)]
    else:
        low, high = schedule.start**power, schedule.end**power
        betas = [(low + (high - low) * k / (n - 1)) ** (1 / power) for k in range(n)]
    kept, product = [], 1.0
    for beta in betas:
        product *= 1 - beta
        kept.append(product)
    return kept


class Diffusion(BaseModel):
    """Everything between the output of an imported network and a denoised image."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parametrisation: Parametrisation
    schedule: Schedule
    time: Time = "index"
    range: tuple[float, float] = (-1.0, 1.0)
    """Values between which the network's images lie; for complex ones the larger is the scale."""
    sigma_data: Annotated[float, Field(gt=0)] | None = None
    """Of the preconditioning ``edm``; in the network's unit."""

    @model_validator(mode="after")
    def _complete(self) -> Diffusion:
        if not self.range[0] < self.range[1]:
            raise ValueError("the range of a network's images has its low end first")
        if self.range[1] <= 0:
            raise ValueError("the range of a network's images reaches above zero")
        if self.parametrisation == "edm" and self.sigma_data is None:
            raise ValueError("the preconditioning edm needs sigma_data")
        return self
