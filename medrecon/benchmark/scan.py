"""Cases become scans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from medrecon.benchmark.case import SLICE_MM, Case
from medrecon.benchmark.images import Image, load_image, middle, slices_of
from medrecon.benchmark.lesions import Placed, place
from medrecon.benchmark.measured import measure
from medrecon.benchmark.score import quality
from medrecon.problem import Problem, ct_problem, mr_problem
from medrecon.protocol import Protocol
from medrecon.study import Study

FILTERS = ("ramlak", "shepp_logan", "cosine", "hann")


@dataclass(frozen=True)
class Scan:
    """A measured scan, and what the classical methods need of it."""

    study: Study
    protocol: Protocol
    device: str

    def problem(self, window: str = "hann") -> Problem:
        """Set up data term and reconstructions anew, so that nothing computed before saves time."""
        if self.protocol.modality == "MR":
            return mr_problem(self.study, self.protocol, device=self.device)
        changed = {"filter": window}
        baselines = tuple(b.model_copy(update=changed) for b in self.protocol.baselines)
        protocol = self.protocol.model_copy(update={"baselines": baselines})
        return ct_problem(self.study, protocol, device=self.device)

    @cached_property
    def window(self) -> str:
        """The filter of the best closed formula, by PSNR."""
        name = next(iter(self.problem().direct))
        found = {}
        for window in FILTERS:
            problem = self.problem(window)
            found[window] = quality(problem, problem.direct[name]())
        return max(found, key=lambda window: found[window])


@dataclass(frozen=True)
class Setting:
    """A case with its image, ready to be measured.

    Parameters
    ----------
    case
        What is measured.
    image
        Of what, without a lesion.
    slices
        How many slices are reconstructed.
    placed
        The case's lesion.
    """

    case: Case
    image: Image
    slices: int
    placed: Placed | None

    def load(self, changes: Sequence[str] = ()) -> Protocol:
        """Read the case's protocol with changes."""
        return self.case.load(self.slices, changes)

    @cached_property
    def protocol(self) -> Protocol:
        """The case's own protocol, without the learned part."""
        return self.load(("prior=null", "sampler=null"))

    def scan(self, seed: int, *, lesion: bool = True, device: str = "cpu") -> Scan:
        """Measure, with the case's lesion or without it."""
        volume = self.image.volume
        if lesion and self.placed is not None:
            volume = self.placed.insert(volume)
        study = measure(volume, self.protocol, slices=self.slices, seed=seed)
        return Scan(study, self.protocol, device)


def scans_of(case: Case, data: Path, given: Path | None, most: int | None) -> Setting:
    """Read the case's image and put the lesion in its place.

    Raises
    ------
    UnreadableError
        If the image is not there.
    InconsistentError
        If the lesion fits nowhere.
    """
    image = _image(case, data, given)
    slices = slices_of(image.volume, case, most)
    placed = None
    if case.lesion is not None:
        seen = slices
        if case.modality == "CT":
            seen = math.ceil(slices * SLICE_MM / image.volume.grid.spacing[0])
        part = middle(image.volume, min(seen, image.volume.grid.shape[0]))
        placed = place(part, case.lesion)
    return Setting(case, image, slices, placed)


@lru_cache(maxsize=2)
def _image(case: Case, data: Path, given: Path | None) -> Image:
    return load_image(case, data, given)
