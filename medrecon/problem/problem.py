"""What every reconstruction needs, whatever the modality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from medrecon.data_term import DataTerm
from medrecon.grid import Grid
from medrecon.protocol import Baseline
from medrecon.solvers.progress import Progress
from medrecon.study import Study
from medrecon.volume import Volume

Iterates = Callable[[Baseline], Iterator[Progress]]


@dataclass(frozen=True, eq=False)
class Problem:
    """What every reconstruction needs, whatever the modality.

    Parameters
    ----------
    data
        The data term on images in the prior's unit.
    grid
        Where the volume lies in the patient, LPS mm.
    direct
        Reconstructions that need no iteration, by name; in the prior's unit.
    iterative
        Iterative reconstructions of this modality alone, by name; in the prior's unit.
    to_volume
        An image in the prior's unit to a volume in HU or arbitrary unit.
    data_range
        Fixed range for PSNR and SSIM, in the volume's unit.
    study
        The study as it is reconstructed (undersampled, where the protocol says so).
    facts
        What the report should tell of the set-up: plain values for JSON.
    """

    data: DataTerm
    grid: Grid
    direct: Mapping[str, Callable[[], Tensor]]
    to_volume: Callable[[Tensor], Volume]
    data_range: float
    study: Study
    iterative: Mapping[str, Iterates] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
