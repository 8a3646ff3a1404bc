"""The classical methods, and which of them exist for which kind of acquisition."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medrecon.protocol.settings import Count, NonNegative, Settings

Method = Literal[
    "fbp",
    "fdk",
    "helical",
    "sirt",
    "os_sart",
    "transmission_ml",
    "cgls",
    "tv",
    "zero_filled",
    "adjoint",
    "cg_sense",
]
Start = Literal[Method, "noise"]

_ITERATIVE = ("cgls", "tv", "sirt", "os_sart", "transmission_ml")
METHODS: dict[str, tuple[str, ...]] = {
    "parallel": ("fbp", *_ITERATIVE),
    "parallel3d": ("fbp", *_ITERATIVE),
    "fan": ("fbp", *_ITERATIVE),
    "cone": ("fdk", *_ITERATIVE),
    "helical": ("helical", *_ITERATIVE),
    "vectors": ("fdk", "helical", "fbp", *_ITERATIVE),
    "cartesian": ("zero_filled", "adjoint", "cg_sense", "tv"),
}
"""Which baselines exist for which kind of acquisition."""


class Baseline(Settings):
    """A classical reconstruction, made beside the sampler's and shown with it."""

    method: Method
    iterations: Count = 100
    subsets: Annotated[int, Field(ge=1, le=360)] = 10
    """Ordered subsets of views (``os_sart``, ``transmission_ml``)."""
    weight: NonNegative = 0.0
    """TV weight, nats mm per unit, or Tikhonov lambda, nats per unit squared, of the normalised
    image (see docs/conventions.md)."""
    filter: Literal["ramlak", "shepp_logan", "cosine", "hann"] = "ramlak"

    @model_validator(mode="after")
    def _tv_has_weight(self) -> Self:
        if self.method == "tv" and self.weight == 0:
            raise ValueError("weight: total variation needs a weight above 0")
        return self
