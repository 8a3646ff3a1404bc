"""Iterative reconstructions that go through a CT scan in parts: SIRT, OS-SART, counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.geometry import CTGeometry
from medrecon.grid import Grid
from medrecon.operators.base import LinearOperator
from medrecon.operators.ct import Backend, projector
from medrecon.problem.problem import Iterates
from medrecon.protocol import Baseline
from medrecon.solvers.progress import Progress, nonnegative
from medrecon.solvers.sirt import Subset, os_sart, reciprocal, row_sums
from medrecon.solvers.subsets import split_geometry, split_views
from medrecon.solvers.transmission import Transmission, os_transmission

GRAZED = 1e-6
"""Rays this much shorter than the longest one in the volume say nothing."""


@dataclass(frozen=True, eq=False)
class Views:
    """A CT scan whose views can be taken in ordered subsets.

    Parameters
    ----------
    grid, geometry, backend
        The projector.
    measurements
        Line integrals.
    quanta
        Detected quanta of every measurement, 0 where nothing was measured; ``None``: not known.
        With electronic noise, or after a correction, those that would be as certain.
    """

    grid: Grid
    geometry: CTGeometry
    backend: Backend
    measurements: Tensor
    quanta: Tensor | None

    def subsets(self, count: int) -> list[Subset]:
        """SIRT's weights, one over the length of a ray; 0 where nothing was measured."""
        lines = self._split(self.measurements, count)
        if self.quanta is None:
            return [Subset(A, y) for A, y in zip(self._operators(count), lines, strict=True)]
        parts = zip(self._operators(count), lines, self._split(self.quanta, count), strict=True)
        return [
            Subset(A, y, (quanta > 0) * reciprocal(row_sums(A, y), GRAZED))
            for A, y, quanta in parts
        ]

    def transmissions(self, count: int) -> list[Transmission]:
        """Set counts beside those without an object, the quanta times exp(line integral).

        Raises
        ------
        InconsistentError
            If the quanta are not known.
        """
        if self.quanta is None:
            raise InconsistentError(
                "transmission_ml needs counts, and this scan has no weights that say how many "
                "quanta were detected; use tv or sirt."
            )
        blank = self.quanta * torch.exp(self.measurements)
        counts, blanks = self._split(self.quanta, count), self._split(blank, count)
        return [
            Transmission(A, quanta, b)
            for A, quanta, b in zip(self._operators(count), counts, blanks, strict=True)
        ]

    def _split(self, values: Tensor, count: int) -> tuple[Tensor, ...]:
        whole = values.expand(self.measurements.shape)
        return split_views(whole, self.geometry, count)

    def _operators(self, count: int) -> Iterator[LinearOperator]:
        for part in split_geometry(self.geometry, count):
            yield projector(self.grid, part, self.backend)


def iterative(views: Views, normalised: Callable[[Tensor], Tensor]) -> dict[str, Iterates]:
    """Reconstructions of non-negative attenuation by name; ``normalised`` to the prior's unit."""

    def told(states: Iterator[Progress]) -> Iterator[Progress]:
        for state in states:
            yield replace(state, value=normalised(state.value))

    def sart(spec: Baseline, count: int) -> Iterator[Progress]:
        subsets = views.subsets(count)
        return told(os_sart(subsets, iterations=spec.iterations, constraint=nonnegative))

    def transmission(spec: Baseline) -> Iterator[Progress]:
        subsets = views.transmissions(spec.subsets)
        return told(os_transmission(subsets, iterations=spec.iterations))

    return {
        "sirt": lambda spec: sart(spec, 1),
        "os_sart": lambda spec: sart(spec, spec.subsets),
        "transmission_ml": transmission,
    }
