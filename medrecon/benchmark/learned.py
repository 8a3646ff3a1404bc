"""The sampler, as a user runs it: start included, from the protocol's own settings."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from medrecon.benchmark.case import change
from medrecon.errors import UsageError
from medrecon.protocol import Protocol
from medrecon.reconstruct import RESULT, Event, Result, reconstruct
from medrecon.study import Study

OURS = "medrecon"
"""The preset that is measured with the shipped protocol's safety, as users get it."""
_MUCH_MORE_THAN_NOISE = 1.0
_NAME = re.compile(r"(?P<preset>[a-z][a-z-]*)@(?P<steps>[1-9][0-9]{0,3})")


@dataclass(frozen=True)
class Sampling:
    """A preset of the sampler with a number of steps, written ``medrecon@20``."""

    preset: str
    steps: int

    @property
    def name(self) -> str:
        """As rows name it."""
        return f"{self.preset}@{self.steps}"

    def changes(self, modality: str) -> tuple[str, ...]:
        """Change the protocol: the preset's own settings take the place of the protocol's.

        Published samplers know no weights of rays, and their few plain iterations lose several dB
        with them; so CT measurements weigh alike for them, which is in their favour.
        """
        sampler = change("sampler", {"preset": self.preset, "steps": self.steps})
        if self.preset == OURS or modality != "CT":
            return (sampler,)
        return (sampler, change("model_std", _MUCH_MORE_THAN_NOISE))


def shipped_safety(protocol: Protocol) -> tuple[str, ...]:
    """Take over what the shipped protocol says of safety, as changes."""
    if protocol.sampler is None or protocol.sampler.safety is None:
        return ()
    return (change("sampler.safety", protocol.sampler.safety.model_dump(mode="json")),)


SAMPLINGS = (
    Sampling("medrecon", 8),
    Sampling("medrecon", 20),
    Sampling("dds", 50),
    Sampling("dds-released", 50),
)
"""What every case is run with."""
CURVE = (Sampling("medrecon", 4), Sampling("medrecon", 12), Sampling("dds", 20))
"""Further ones, for plots of quality against calls."""


def sampling(name: str) -> Sampling:
    """Read ``PRESET@STEPS``.

    Raises
    ------
    UsageError
        If it is not that.

    Examples
    --------
    >>> sampling("dds@50")
    Sampling(preset='dds', steps=50)
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UsageError(
            f"no method {name!r}; use a classical one (tv, sirt, ...) or PRESET@STEPS (dds@50)."
        )
    return Sampling(found["preset"], int(found["steps"]))


def alone(protocol: Protocol, most: int | None = None) -> Protocol:
    """Keep only the baselines that the sampler needs, whose time is part of the method's.

    That is its start, and total variation where the prior is compared with it.

    Parameters
    ----------
    protocol
        With prior and sampler.
    most
        Iterations of the start at most.
    """
    assert protocol.sampler is not None
    needed = {protocol.sampler.start, "tv" if protocol.sampler.safety else None}
    kept = [b for b in protocol.baselines if b.method in needed] or list(protocol.baselines[:1])
    if most is not None:
        kept = [b.model_copy(update={"iterations": min(most, b.iterations)}) for b in kept]
    return protocol.model_copy(update={"baselines": tuple(kept)})


def sample(
    study: Study, protocol: Protocol, *, seed: int, device: str
) -> Generator[Event, None, tuple[Result, dict[str, Any]]]:
    """Run start and sampler; returns the result, and calls, seconds and what the run said."""
    result: Result = yield from reconstruct(study, protocol, seed=seed, device=device)
    stages, safety = result.report["stages"], result.report.get("safety") or {}
    record = stages[RESULT]
    start = sum(stage["seconds"] for name, stage in stages.items() if name != RESULT)
    looking = safety.get("seconds", 0.0)
    facts: dict[str, Any] = {
        "calls": record["calls"],
        "seconds": round(start + record["seconds"] + looking, 2),
        "calls_of_safety": safety.get("calls", 0),
        "seconds_of_start": round(start, 2),
        "seconds_of_safety": looking,
        "iterations": sum(step["iterations"] for step in record["steps"]),
        "misfit": record.get("misfit"),
    }
    if safety:
        facts["safety"] = {key: safety[key] for key in ("fits", "share", "verdict")}
    return result, facts
