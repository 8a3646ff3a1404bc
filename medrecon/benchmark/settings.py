"""How the cases of a benchmark are run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medrecon.benchmark.classical import METHODS, Method
from medrecon.benchmark.learned import SAMPLINGS, Sampling, sampling

QUICK = (Sampling("medrecon", 4),)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How cases are run.

    Parameters
    ----------
    data
        Folder of the shipped samples.
    image
        Image to measure instead of the cases' own, CT in HU.
    methods
        Only these: classical ones by name, samplers as ``PRESET@STEPS``. Empty: all classical
        ones and :data:`~medrecon.benchmark.learned.SAMPLINGS`.
    seeds
        Number of seeds, 0 and up: noise and sampling pattern of the scan, noise of the sampler.
    slices
        Most slices of a volume; ``None``: the case's.
    changes
        ``key=value`` on the sampler's protocol, e.g. ``prior.name=...``.
    quick
        Two slices, few iterations, nothing tuned: that everything works, not how well.
    again
        Measure anew what is known.
    device
        Torch device.
    """

    data: Path = Path("data")
    image: Path | None = None
    methods: tuple[str, ...] = ()
    seeds: int = 1
    slices: int | None = None
    changes: tuple[str, ...] = ()
    quick: bool = False
    again: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        known = {method.name for methods in METHODS.values() for method in methods}
        for name in self.methods:
            if name not in known:
                sampling(name)

    def classical(self, kind: str) -> tuple[Method, ...]:
        """Classical methods of a kind of acquisition."""
        every = METHODS[kind]
        if self.methods:
            return tuple(method for method in every if method.name in self.methods)
        return tuple(m for m in every if not m.early) if self.quick else every

    @property
    def samplings(self) -> tuple[Sampling, ...]:
        """Settings of the sampler."""
        if self.methods:
            return tuple(sampling(name) for name in self.methods if "@" in name)
        return QUICK if self.quick else SAMPLINGS
