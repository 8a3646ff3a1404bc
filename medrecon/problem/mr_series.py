"""Images that were measured alike, reconstructed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from medrecon.baselines import low_rank
from medrecon.data_term import DataTerm
from medrecon.errors import InconsistentError
from medrecon.protocol import Baseline
from medrecon.solvers.progress import Progress
from medrecon.study import Study


@dataclass
class Series:
    """One locally low-rank reconstruction, shared by the problems of all its images.

    The first image that asks runs it and reports its progress; the others get their share.

    Parameters
    ----------
    data
        Data terms of the images, with the same coil maps and the same scale.
    """

    data: Sequence[DataTerm]
    _done: dict[Baseline, Progress] = field(default_factory=dict)

    def image(self, number: int, spec: Baseline) -> Iterator[Progress]:
        """Iterate the reconstruction of the image at ``number``."""
        if spec in self._done:
            done = self._done[spec]
            yield Progress(done.iteration, done.value[number], done.residual)
            return
        for state in low_rank(
            self.data, weight=spec.strength, iterations=spec.iterations, block=spec.block
        ):
            yield Progress(state.iteration, state.value[number], state.residual)
        self._done[spec] = state


def alike(studies: Sequence[Study]) -> list[list[int]]:
    """Group images by place and layout; within a group in the order given.

    Raises
    ------
    InconsistentError
        If an image stands alone: a series has at least two.
    """
    groups: list[list[int]] = []
    for number, study in enumerate(studies):
        for group in groups:
            if _same_place(study, studies[group[0]]):
                group.append(number)
                break
        else:
            groups.append([number])
    for group in groups:
        if len(group) < 2:
            name = studies[group[0]].label or "the only image"
            raise InconsistentError(
                f"llr takes a series of images measured alike together, and {name} has no "
                "companion of its place and size; use tv or wavelet."
            )
    return groups


def brightest(studies: Sequence[Study]) -> Study:
    """Return the image with the most signal, from which a series' coils are calibrated."""
    norms = [float(torch.linalg.vector_norm(_samples(study))) for study in studies]
    return studies[max(range(len(norms)), key=norms.__getitem__)]


def _samples(study: Study) -> Tensor:
    return study.measurements if study.calibration is None else study.calibration


def _same_place(a: Study, b: Study) -> bool:
    return (
        a.grid == b.grid
        and type(a.geometry) is type(b.geometry)
        and a.measurements.ndim == b.measurements.ndim
        and a.geometry.coil_axis == b.geometry.coil_axis  # type: ignore[union-attr]
        and a.measurements.shape[: a.geometry.coil_axis + 1]  # type: ignore[union-attr]
        == b.measurements.shape[: a.geometry.coil_axis + 1]  # type: ignore[union-attr]
    )
