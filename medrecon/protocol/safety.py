"""What a run does to find out whether its prior fits the scan, and where it does not."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from medrecon.protocol.settings import Count, Positive, Settings


class Adaptation(Settings):
    """Adapting the prior to the scan: low-rank changes of its convolutions (LoRA)."""

    rank: Annotated[int, Field(ge=1, le=64)] = 4
    """Rank of the change of each convolution."""
    levels: Annotated[int, Field(ge=1, le=100)] = 6
    """Noise levels at which the prior learns, from the sampler's first one to its last."""
    iterations: Annotated[int, Field(ge=1, le=1000)] = 4
    """Steps of learning at each level."""
    rate: Positive = 1e-3
    """Step size of Adam."""


class Safety(Settings):
    """Whether the prior is trusted, by what test, and what happens where it is not."""

    held_out: Literal["auto", "always", "never"] = "auto"
    """Whether total variation and the sampler are compared on measurements kept from both, which
    takes about as long again as the run; auto: where a cheap look raises doubts."""
    action: Literal["report", "lean", "adapt"] = "lean"
    """report: say what was found; lean: blend with total variation as far as the held-out
    measurements ask for; adapt: first let the prior learn from the scan, then lean."""
    steps: Count = 8
    """Steps of the sampler in the comparison."""
    adaptation: Adaptation = Adaptation()
