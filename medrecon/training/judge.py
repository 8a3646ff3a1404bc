"""Scores of weights: denoising of held-out slices, and a reconstruction with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medrecon.priors.network import EDM, UNet
from medrecon.training.denoising import SIGMAS, CleanSet, errors, psnr
from medrecon.training.downstream import Reconstruction, Score
from medrecon.training.export import export_candidate, written_network
from medrecon.training.settings import Recipe


@dataclass(frozen=True)
class Scores:
    """What a validation found.

    Parameters
    ----------
    psnr
        Denoising, dB (data range 2) by noise level, neighbours in view where there are any.
    downstream
        The reconstruction; ``None`` where the recipe has none.
    """

    psnr: dict[float, float]
    downstream: Score | None = None

    @property
    def value(self) -> float:
        """By which the best weights are chosen: the reconstruction's PSNR, else the mean one."""
        if self.downstream is not None:
            return self.downstream.prior
        return sum(self.psnr.values()) / len(self.psnr)

    def as_json(self) -> dict[str, Any]:
        """Row of the history."""
        row: dict[str, Any] = {"psnr": {f"{s:g}": p for s, p in self.psnr.items()}}
        if self.downstream is not None:
            row["downstream"] = {"prior": self.downstream.prior, "tv": self.downstream.tv}
        return {**row, "value": self.value}


@dataclass(frozen=True)
class Judge:
    """Scores a network as it would be written; leaves it in a folder as a prior.

    Parameters
    ----------
    recipe
        The run.
    validation
        Slices of patients that are not trained on.
    reconstruction
        What to reconstruct with it.
    """

    recipe: Recipe
    validation: CleanSet
    reconstruction: Reconstruction | None = None

    def __call__(self, model: EDM, folder: Path) -> Scores:
        """Score a model; its prior stands in ``folder`` afterwards."""
        network: UNet = written_network(model.network, self.recipe)
        written = EDM(network, model.sigma_data).to(next(model.parameters()).device)
        found = errors(written, self.validation, SIGMAS, neighbours=True)
        export_candidate(network, folder, self.recipe, found)
        score = None if self.reconstruction is None else self.reconstruction.score(folder)
        return Scores({sigma: psnr(error) for sigma, error in found.items()}, score)
