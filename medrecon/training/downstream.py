"""The score that counts: a reconstruction with the prior, beside total variation of the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from medrecon.errors import InconsistentError
from medrecon.grid import Grid
from medrecon.protocol import Protocol
from medrecon.protocol_files import load_protocol
from medrecon.reconstruct import RESULT, run
from medrecon.simulate import simulate
from medrecon.study import Study
from medrecon.training.settings import WINDOW_HU, Downstream, Recipe
from medrecon.training.slices import Series, Slices
from medrecon.volume import Unit, Volume

OWN = Path(__file__).parent / "scans"
"""Protocols made for this."""
_BASELINE = "tv"
_FIELD_MM = {"CT": 360.0, "MR": 240.0}  # of a slice whose pixel is not known
_SLICE_MM = 2.5


@dataclass(frozen=True)
class Score:
    """PSNR in dB of the same scan, reconstructed with the prior and by total variation."""

    prior: float
    tv: float

    @property
    def gain(self) -> float:
        """How much better the prior is, dB."""
        return round(self.prior - self.tv, 3)


class Reconstruction:
    """A simulated scan of held-out slices, to be reconstructed with one prior after the other.

    Parameters
    ----------
    settings
        Which protocol, how many slices.
    images
        Held-out patients; the slices come from the longest series.
    recipe
        The run.
    device
        Torch device.

    Raises
    ------
    InconsistentError
        If the protocol has no prior or no total variation to compare with.
    ProtocolError
        If it is not valid.
    """

    def __init__(self, settings: Downstream, images: Slices, recipe: Recipe, device: str) -> None:
        self._device = device
        self._seed = settings.seed
        series = max(images.series, key=lambda one: len(one.slices))
        volume = _volume(_middle(series.slices, settings.slices), series, recipe)
        self._protocol = _protocol(settings, volume.grid)
        self._study: Study = simulate(volume, self._protocol, seed=settings.seed)

    def score(self, prior: Path) -> Score:
        """Reconstruct with the prior in a folder.

        Raises
        ------
        MedreconError
            If the prior and the protocol do not fit each other.
        """
        chosen = self._protocol.prior
        assert chosen is not None
        protocol = self._protocol.model_copy(
            update={"prior": chosen.model_copy(update={"name": str(prior)})}
        )
        result = run(self._study, protocol, seed=self._seed, device=self._device)
        metrics = result.report["metrics"]
        return Score(
            round(float(metrics[RESULT]["psnr"]), 3), round(float(metrics[_BASELINE]["psnr"]), 3)
        )


def _protocol(settings: Downstream, grid: Grid) -> Protocol:
    own = OWN / f"{settings.protocol}.yaml"
    overrides = list(settings.settings)
    protocol = load_protocol(own if own.is_file() else settings.protocol, overrides)
    if protocol.modality == "CT":
        shape, spacing = list(grid.shape), list(grid.spacing)
        overrides += [f"grid.shape={shape}", f"grid.spacing_mm={spacing}"]
        protocol = load_protocol(own if own.is_file() else settings.protocol, overrides)
    if protocol.prior is None or _BASELINE not in {b.method for b in protocol.baselines}:
        raise InconsistentError(
            f"downstream.protocol: {protocol.name} needs a prior, and a baseline tv beside it."
        )
    return protocol


def _middle(slices: Tensor, count: int) -> Tensor:
    first = max(0, (len(slices) - count) // 2)
    return slices[first : first + count]


def _volume(slices: Tensor, series: Series, recipe: Recipe) -> Volume:
    pixel = series.pixel_mm or _FIELD_MM[recipe.modality] / slices.shape[-1]
    count, height, width = slices.shape
    grid = Grid.centred((count, height, width), (_SLICE_MM, pixel, pixel))
    slices = slices.float() if slices.dtype == torch.float16 else slices
    if recipe.modality == "MR":
        return Volume(slices.abs(), grid, Unit.ARBITRARY)
    low, high = WINDOW_HU
    hu = (slices + 1) * ((high - low) / 2) + low
    return Volume(hu.to(torch.float32), grid, Unit.HU)
