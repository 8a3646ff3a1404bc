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
    "rss",
    "adaptive",
    "adjoint",
    "gridding",
    "grappa",
    "cg_sense",
    "wavelet",
    "llr",
]
Start = Literal[Method, "noise"]

_ITERATIVE = ("cgls", "tv", "sirt", "os_sart", "transmission_ml")
_REGULARISED = ("cg_sense", "wavelet", "tv", "llr")
METHODS: dict[str, tuple[str, ...]] = {
    "parallel": ("fbp", *_ITERATIVE),
    "parallel3d": ("fbp", *_ITERATIVE),
    "fan": ("fbp", *_ITERATIVE),
    "cone": ("fdk", *_ITERATIVE),
    "helical": ("helical", *_ITERATIVE),
    "vectors": ("fdk", "helical", "fbp", *_ITERATIVE),
    "cartesian": ("zero_filled", "rss", "adaptive", "adjoint", "grappa", *_REGULARISED),
    "non_cartesian": ("gridding", "adjoint", *_REGULARISED),
}
"""Which baselines exist for which kind of acquisition."""


DEFAULT_WEIGHTS: dict[str, float] = {"tv": 25.0, "wavelet": 32.0, "llr": 400.0}
"""Weights that suit most MR scans, as the data term is in nats and the image is normalised."""
NAMES = {"tv": "total variation", "wavelet": "the l1 norm of wavelets", "llr": "local low rank"}


class Baseline(Settings):
    """A classical reconstruction, made beside the sampler's and shown with it."""

    method: Method
    iterations: Count = 100
    subsets: Annotated[int, Field(ge=1, le=360)] = 10
    """Ordered subsets of views (``os_sart``, ``transmission_ml``)."""
    weight: NonNegative | None = None
    """TV weight, nats mm per unit; weight of wavelet and llr, nats per unit; Tikhonov lambda, nats
    per unit squared: all of the normalised image (see docs/conventions.md). null: none for cgls and
    cg_sense, for MR's wavelet, tv and llr what suits most scans."""
    block: Annotated[int, Field(ge=2, le=64)] = 8
    """Width of the blocks in voxels whose series have low rank (``llr``)."""
    filter: Literal["ramlak", "shepp_logan", "cosine", "hann"] = "ramlak"

    @model_validator(mode="after")
    def _regularisation_has_weight(self) -> Self:
        if self.method in DEFAULT_WEIGHTS and self.weight == 0:
            raise ValueError(f"weight: {NAMES[self.method]} needs a weight above 0")
        return self

    @property
    def strength(self) -> float:
        """The weight, or the method's own where none is given."""
        return DEFAULT_WEIGHTS.get(self.method, 0.0) if self.weight is None else self.weight
